import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """(organization, id) and (model, id) do all that the indexes of the two foreign keys did."""

    dependencies = [("jobs", "0016_jobs_that_ended"), ("accounts", "0001_initial"), ("catalog", "0001_initial")]

    operations = [
        migrations.AlterField(
            "job",
            "organization",
            models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="jobs",
                to="accounts.organization",
            ),
        ),
        migrations.AlterField(
            "job",
            "model",
            models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.PROTECT, related_name="jobs", to="catalog.model"
            ),
        ),
    ]
