from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("jobs", "0003_validate_job_terms")]
    operations = [
        AddIndexConcurrently(
            "job",
            models.Index(
                fields=["organization"],
                condition=models.Q(state__in=["queued", "dispatched", "running"]),
                name="jobs_job_open_of",
            ),
        ),
    ]
