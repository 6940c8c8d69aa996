"""`ledger_account_not_overdrawn` says what these four said."""

from django.db import migrations

BALANCES = ("credit_not_overdrawn", "promotional_not_overdrawn", "held_not_overdrawn", "receivable_not_negative")


class Migration(migrations.Migration):
    dependencies = [("ledger", "0014_read_lean_checks")]
    operations = [migrations.RemoveConstraint("account", f"ledger_account_{name}") for name in BALANCES]
