from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """What a batch draws now is that of its newest rows, and lines do not come in the order of their numbers."""

    atomic = False
    dependencies = [("batches", "0009_running")]

    operations = [
        AddIndexConcurrently("row", models.Index(fields=["batch", "at"], name="batches_row_by_time")),
    ]
