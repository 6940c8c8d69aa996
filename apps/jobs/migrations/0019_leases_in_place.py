from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations


class Migration(migrations.Migration):
    """A lease that is extended every two seconds wrote a new entry into every index of the table, for this one of its time.

    `jobs_job_by_pool` has the same rows, as many as there are slots, and whoever looks for leases reads them all anyway.
    """

    atomic = False
    dependencies = [("jobs", "0018_usage_by_market")]

    operations = [RemoveIndexConcurrently("job", "jobs_job_leased")]
