"""`ledger_hold_charges_within_itself` and `ledger_hold_open_or_ended` say what these three said."""

from django.db import migrations

CHECKS = ("parts_not_negative", "never_charges_above_itself", "ended_has_time")


class Migration(migrations.Migration):
    dependencies = [("ledger", "0015_account_with_one_check")]
    operations = [migrations.RemoveConstraint("hold", f"ledger_hold_{name}") for name in CHECKS]
