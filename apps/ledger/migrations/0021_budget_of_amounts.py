"""Budgets are of amounts, which say what the constraint said. The table is small: one row for each spender."""

from django.db import migrations

from apps.ledger.models import AmountField

COLUMNS = ('total_limit', 'daily_limit', 'weekly_limit', 'monthly_limit', 'total_used', 'daily_used', 'weekly_used', 'monthly_used')


def to(kind: str) -> str:
    changes = ", ".join(f"ALTER COLUMN {column}_microusd TYPE {kind}" for column in COLUMNS)
    return f"ALTER TABLE ledger_budget {changes}"


class Migration(migrations.Migration):
    dependencies = [("ledger", "0020_account_of_amounts")]
    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[migrations.RunSQL(to(AmountField.domain), to("bigint"))],
            state_operations=[
                migrations.AlterField("budget", f"{column}_microusd", AmountField(null=True, blank=True) if column.endswith("limit") else AmountField(default=0)) for column in COLUMNS
            ],
        ),
        migrations.RemoveConstraint("budget", "ledger_budget_not_negative"),
    ]
