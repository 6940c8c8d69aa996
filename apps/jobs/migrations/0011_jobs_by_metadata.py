from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("jobs", "0010_shards_of_batches")]

    operations = [
        AddIndexConcurrently(
            model_name="job",
            index=GinIndex(
                condition=models.Q(("metadata", {}), _negated=True),
                fields=["metadata"],
                name="jobs_job_metadata",
                opclasses=["jsonb_path_ops"],
            ),
        ),
    ]
