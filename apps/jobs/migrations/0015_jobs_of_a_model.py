from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False

    dependencies = [("jobs", "0014_sealed_content")]

    operations = [AddIndexConcurrently("job", models.Index(fields=["model", "-id"], name="jobs_job_of_model"))]
