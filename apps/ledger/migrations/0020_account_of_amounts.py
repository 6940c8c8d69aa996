"""Accounts are of amounts, which say what the constraint said. The table is small: one row for each organization."""

from django.db import migrations

from apps.ledger.models import AmountField

COLUMNS = ('credit', 'promotional', 'held', 'receivable')


def to(kind: str) -> str:
    changes = ", ".join(f"ALTER COLUMN {column}_microusd TYPE {kind}" for column in COLUMNS)
    return f"ALTER TABLE ledger_account {changes}"


class Migration(migrations.Migration):
    dependencies = [("ledger", "0019_amounts")]
    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(to(AmountField.domain), to("bigint"))],
            state_operations=[
                migrations.AlterField("account", f"{column}_microusd", AmountField(default=0)) for column in COLUMNS
            ],
        ),
        migrations.RemoveConstraint("account", "ledger_account_not_overdrawn"),
    ]
