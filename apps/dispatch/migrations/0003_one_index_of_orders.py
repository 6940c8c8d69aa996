import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """(job, attempt) does all that the index of the foreign key did.

    Altering the field in the database as well would check each of its references anew, with the table locked.
    """

    atomic = False
    dependencies = [("dispatch", "0002_receipt"), ("jobs", "0001_initial")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    "DROP INDEX CONCURRENTLY IF EXISTS dispatch_order_job_id_fc8f30b7",
                    "CREATE INDEX CONCURRENTLY IF NOT EXISTS dispatch_order_job_id_fc8f30b7 ON dispatch_order (job_id)",
                )
            ],
            state_operations=[
                migrations.AlterField(
                    "order",
                    "job",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="orders",
                        to="jobs.job",
                    ),
                )
            ],
        ),
    ]
