import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    """(organization, id) and (model, id) do all that the indexes of the two foreign keys did.

    Altering the field in the database as well would check each of its references anew, with the table locked.
    """

    atomic = False
    dependencies = [("jobs", "0016_jobs_that_ended"), ("accounts", "0001_initial"), ("catalog", "0001_initial")]

    operations = [
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    "DROP INDEX CONCURRENTLY IF EXISTS jobs_job_organization_id_7d00dcbc",
                    "CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_job_organization_id_7d00dcbc ON jobs_job (organization_id)",
                )
            ],
            state_operations=[
                migrations.AlterField(
                    "job",
                    "organization",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="jobs",
                        to="accounts.organization",
                    ),
                )
            ],
        ),
        migrations.SeparateDatabaseAndState(
            database_operations=[
                migrations.RunSQL(
                    "DROP INDEX CONCURRENTLY IF EXISTS jobs_job_model_id_82a81d44",
                    "CREATE INDEX CONCURRENTLY IF NOT EXISTS jobs_job_model_id_82a81d44 ON jobs_job (model_id)",
                )
            ],
            state_operations=[
                migrations.AlterField(
                    "job",
                    "model",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="jobs",
                        to="catalog.model",
                    ),
                )
            ],
        ),
    ]
