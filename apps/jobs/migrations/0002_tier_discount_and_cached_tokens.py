from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models


class Migration(migrations.Migration):
    """What a job is charged by beside its price version. What exists is standard work without discount."""

    dependencies = [("jobs", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="job",
            name="tier",
            field=models.CharField(
                choices=[("standard", "Standard"), ("flexible", "Flexible"), ("batch", "Batch")],
                db_default="standard",
                default="standard",
                max_length=8,
            ),
        ),
        migrations.AddField(
            model_name="job",
            name="discount_basis_points",
            field=models.PositiveSmallIntegerField(db_default=0, default=0, help_text="Off, at admission"),
        ),
        migrations.AddField(
            model_name="job",
            name="cached_prompt_tokens",
            field=models.PositiveIntegerField(db_default=0, default=0, help_text="Of the prompt tokens"),
        ),
        AddConstraintNotValid(
            model_name="job",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("cached_prompt_tokens__lte", models.F("prompt_tokens")), ("discount_basis_points__lt", 10000)
                ),
                name="jobs_job_terms",
            ),
        ),
    ]
