"""The new constraints read every row that is there, and nobody waits meanwhile."""

from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("ledger", "0013_lean_checks")]
    operations = [
        ValidateConstraint("account", "ledger_account_not_overdrawn"),
        ValidateConstraint("hold", "ledger_hold_charges_within_itself"),
        ValidateConstraint("hold", "ledger_hold_open_or_ended"),
    ]
