"""What cannot be negative as a type of its own: PostgreSQL reads a domain's check once for each connection, a table's anew for
each statement that writes the table, and accounts and budgets are written while others wait for them."""

from django.db import migrations

DOMAIN = "CREATE DOMAIN ledger_amount AS bigint CONSTRAINT ledger_amount_not_negative CHECK (VALUE >= 0)"


class Migration(migrations.Migration):
    dependencies = [("ledger", "0018_without_old_functions")]
    operations = [migrations.RunSQL(DOMAIN, "DROP DOMAIN ledger_amount")]
