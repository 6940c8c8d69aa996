from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations


class Migration(migrations.Migration):
    """The index of the foreign key is the same."""

    atomic = False
    dependencies = [("ledger", "0023_movements_in_the_queue")]

    operations = [RemoveIndexConcurrently("grant", "ledger_grant_of")]
