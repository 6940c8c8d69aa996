"""Money that comes and goes waits in the organization's queue as holding does."""

from importlib import import_module

from django.db import migrations

movements = import_module("apps.ledger.migrations.0008_movements")
queued = import_module("apps.ledger.migrations.0022_queue_of_an_organization").queued

FUNCTIONS = [
    queued(movements.GRANT, "    PERFORM FROM ledger_account"),
    queued(movements.DEPOSIT, "    SELECT least(receivable_microusd, p_amount) INTO repaid FROM ledger_account"),
    queued(movements.WITHDRAW, "    SELECT least(credit_microusd, p_amount) INTO taken FROM ledger_account"),
    queued(
        movements.EXPIRE,
        "    PERFORM FROM ledger_account",
        organization="organization_id",
        source=" FROM ledger_grant WHERE id = p_grant",
    ),
    queued(movements.COLLECT, "    SELECT least(credit_microusd, receivable_microusd) INTO repaid FROM ledger_account"),
]


class Migration(migrations.Migration):
    dependencies = [("ledger", "0022_queue_of_an_organization")]
    operations = [migrations.RunSQL(made, former) for made, former in FUNCTIONS]
