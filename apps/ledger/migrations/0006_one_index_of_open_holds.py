from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("ledger", "0005_fewer_indexes")]
    operations = [RemoveIndexConcurrently("hold", "ledger_hold_open_of")]
