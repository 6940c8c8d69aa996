from django.contrib.postgres.indexes import BrinIndex
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations


class Migration(migrations.Migration):
    """Hours are written in their order, so the first of each range of pages is enough to find those that are filled again."""

    atomic = False

    dependencies = [("jobs", "0022_fewer_indexes")]

    operations = [AddIndexConcurrently("usagehour", BrinIndex(fields=["hour"], name="jobs_usagehour_span", pages_per_range=16))]
