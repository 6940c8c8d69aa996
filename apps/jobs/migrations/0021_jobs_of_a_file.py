from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """Few jobs read a file, and every job had an entry in the index that says which."""

    atomic = False
    dependencies = [("jobs", "0020_room_on_pages")]

    operations = [
        AddIndexConcurrently(
            "job", models.Index(fields=["file"], condition=models.Q(file__isnull=False), name="jobs_job_of_file")
        )
    ]
