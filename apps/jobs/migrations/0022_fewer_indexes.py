import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """`jobs_job_of_file` and (job, number) do what two of these did; nobody asks for the jobs of one price version.

    Altering the field in the database as well would check each of its references anew, with the table locked.
    """

    atomic = False
    dependencies = [("jobs", "0021_jobs_of_a_file"), ("catalog", "0001_initial"), ("files", "0001_initial")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    "DROP INDEX CONCURRENTLY IF EXISTS jobs_job_price_id_892d870b",
                    "CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_job_price_id_892d870b ON jobs_job (price_id)",
                )
            ],
            state_operations=[
                migrations.AlterField(
                    "job",
                    "price",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="catalog.priceversion",
                    ),
                )
            ],
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    "DROP INDEX CONCURRENTLY IF EXISTS jobs_job_file_id_c3d94075",
                    "CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_job_file_id_c3d94075 ON jobs_job (file_id)",
                )
            ],
            state_operations=[
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
                )
            ],
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    "DROP INDEX CONCURRENTLY IF EXISTS jobs_event_job_id_fd625fcd",
                    "CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_event_job_id_fd625fcd ON jobs_event (job_id)",
                )
            ],
            state_operations=[
                migrations.AlterField(
                    "event",
                    "job",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="events",
                        to="jobs.job",
                    ),
                )
            ],
        ),
    ]
