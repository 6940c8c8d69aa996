from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations


class Migration(migrations.Migration):
    """Apart from its addition, so that the table is read without keeping writers out."""

    dependencies = [("jobs", "0002_tier_discount_and_cached_tokens")]

    operations = [ValidateConstraint(model_name="job", name="jobs_job_terms")]
