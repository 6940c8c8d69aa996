"""What a budget counts and limits is not below zero: one comparison instead of eight, since PostgreSQL reads a constraint's
text anew for each statement, and two statements a pair change budgets under the account's lock. Budgets are few."""

from django.db import migrations, models
from django.db.models.functions import Least
from django.db.models.lookups import GreaterThanOrEqual

PERIODS = ("total", "daily", "weekly", "monthly")
COUNTED = [f"{period}_{what}_microusd" for what in ("limit", "used") for period in PERIODS]


class Migration(migrations.Migration):
    dependencies = [("ledger", "0010_references_without_checks")]
    operations = [
        migrations.AddConstraint(
            "budget",
            models.CheckConstraint(
                condition=GreaterThanOrEqual(Least(*COUNTED), 0), name="ledger_budget_not_negative"
            ),
        ),
        migrations.RemoveConstraint("budget", "ledger_budget_used_not_negative"),
        migrations.RemoveConstraint("budget", "ledger_budget_limits_not_negative"),
    ]
