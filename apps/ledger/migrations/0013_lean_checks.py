"""What the next migration puts in the place of nine constraints: PostgreSQL reads a constraint's text anew for each statement
that writes its table, which was a twentieth of what a hold and its end cost. Not read through yet, so nobody waits."""

from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models
from django.db.models import F, Q
from django.db.models.functions import Least
from django.db.models.lookups import Exact, GreaterThanOrEqual, IsNull

BALANCES = ("credit_microusd", "promotional_microusd", "held_microusd", "receivable_microusd")
CHARGED = ("promotional_charged_microusd", "credit_charged_microusd")
LEFT = (
    F("promotional_microusd") - F("promotional_charged_microusd"),
    F("credit_microusd") - F("credit_charged_microusd"),
)


class Migration(migrations.Migration):
    dependencies = [("ledger", "0012_hold")]
    operations = [
        AddConstraintNotValid(
            "account",
            models.CheckConstraint(
                condition=GreaterThanOrEqual(Least(*BALANCES), 0), name="ledger_account_not_overdrawn"
            ),
        ),
        AddConstraintNotValid(
            "hold",
            models.CheckConstraint(
                condition=GreaterThanOrEqual(Least(*CHARGED, *LEFT), 0), name="ledger_hold_charges_within_itself"
            ),
        ),
        AddConstraintNotValid(
            "hold",
            models.CheckConstraint(
                condition=Exact(Q(state="open"), IsNull(F("ended_at"), True)), name="ledger_hold_open_or_ended"
            ),
        ),
    ]
