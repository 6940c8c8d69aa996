from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    """How many of an organization's batches run stands on each of its pages."""

    atomic = False

    dependencies = [
        ("batches", "0008_carbon_by_market"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="batch",
            index=models.Index(
                condition=models.Q(("state__in", ("completed", "failed", "expired", "cancelled")), _negated=True),
                fields=["organization"],
                name="batches_batch_running",
            ),
        ),
    ]
