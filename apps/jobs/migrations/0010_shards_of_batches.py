from django.db import migrations, models


class Migration(migrations.Migration):
    """A job may be a shard of a batch: leased like any other, not shown, and it counts rows."""

    dependencies = [("jobs", "0009_content_as_it_was_asked")]

    operations = [
        migrations.AddField(
            model_name="job",
            name="batch_id",
            field=models.UUIDField(editable=False, help_text="The batch it is a shard of", null=True),
        ),
        migrations.AddField(
            model_name="job",
            name="max_usd_per_mwh",
            field=models.FloatField(help_text="Placed only where a MWh costs less", null=True),
        ),
        migrations.AddField(
            model_name="job",
            name="rows",
            field=models.PositiveIntegerField(db_default=0, default=0, help_text="Of a batch, that it ended"),
        ),
        migrations.AddField(
            model_name="job",
            name="failed_rows",
            field=models.PositiveIntegerField(db_default=0, default=0, help_text="Of those rows"),
        ),
    ]
