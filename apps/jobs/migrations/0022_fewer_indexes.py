import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """`jobs_job_of_file` and (job, number) do what two of these did; nobody asks for the jobs of one price version."""

    dependencies = [("jobs", "0021_jobs_of_a_file"), ("catalog", "0001_initial"), ("files", "0001_initial")]

    operations = [
        migrations.AlterField(
            "job",
            "price",
            models.ForeignKey(
                db_index=False,
                on_delete=django.db.models.deletion.PROTECT,
                related_name="+",
                to="catalog.priceversion",
            ),
        ),
        migrations.AlterField(
            "job",
            "file",
            models.ForeignKey(
                db_index=False,
                null=True,
                on_delete=django.db.models.deletion.SET_NULL,
                related_name="jobs",
                to="files.file",
            ),
        ),
        migrations.AlterField(
            "event",
            "job",
            models.ForeignKey(
                db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name="events", to="jobs.job"
            ),
        ),
    ]
