from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("jobs", "0006_metadata_and_stored")]

    operations = [
        AddIndexConcurrently(
            model_name="job",
            index=models.Index(
                condition=models.Q(("stored", True)), fields=["organization", "-id"], name="jobs_job_stored"
            ),
        ),
    ]
