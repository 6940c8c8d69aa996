from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("batches", "0002_cleaned")]
    operations = [
        AddIndexConcurrently(
            "batch",
            models.Index(
                condition=models.Q(("cleaned", False), ("state__in", ("completed", "failed", "expired", "cancelled"))),
                fields=["id"],
                name="batches_batch_unclean",
            ),
        ),
    ]
