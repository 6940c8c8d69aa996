from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations


class Migration(migrations.Migration):
    """PostgreSQL took it for the hours of one organization, and read everybody's."""

    atomic = False

    dependencies = [("jobs", "0023_span_of_hours")]

    operations = [RemoveIndexConcurrently("usagehour", "jobs_usagehour_hour")]
