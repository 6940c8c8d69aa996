from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """A batch's page lists its rows without an answer: ten among 50,000 were looked for one by one."""

    atomic = False
    dependencies = [("batches", "0010_rows_by_time")]

    operations = [
        AddIndexConcurrently(
            "row",
            models.Index(fields=["batch", "line"], condition=~models.Q(status=200), name="batches_row_failed"),
        )
    ]
