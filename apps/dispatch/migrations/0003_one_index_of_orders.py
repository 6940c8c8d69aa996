import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """(job, attempt) does all that the index of the foreign key did."""

    dependencies = [("dispatch", "0002_receipt"), ("jobs", "0001_initial")]

    operations = [
        migrations.AlterField(
            "order",
            "job",
            models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name="orders", to="jobs.job"
            ),
        )
    ]
