"""`ledger_open_hold` and `ledger_end_hold` took over a release ago."""

from importlib import import_module

from django.db import migrations

FUNCTIONS = import_module("apps.ledger.migrations.0003_holding").FUNCTIONS


class Migration(migrations.Migration):
    dependencies = [("ledger", "0017_lean_hold")]
    operations = [migrations.RunSQL(f"DROP FUNCTION {signature}", made) for made, signature in FUNCTIONS]
