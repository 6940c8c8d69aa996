from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """What ended today, or this hour, without a walk over all jobs that may have run so long."""

    atomic = False

    dependencies = [("jobs", "0015_jobs_of_a_model")]

    operations = [
        AddIndexConcurrently(
            "job",
            models.Index(
                fields=["organization", "finished_at"],
                condition=models.Q(finished_at__isnull=False),
                name="jobs_job_ended",
            ),
        )
    ]
