from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("jobs", "0005_kinds_of_work")]

    operations = [
        migrations.AddField(
            model_name="job",
            name="metadata",
            field=models.JSONField(
                db_default={}, default=dict, help_text="The customer's own words about it, by name"
            ),
        ),
        migrations.AddField(
            model_name="job",
            name="stored",
            field=models.BooleanField(
                db_default=False,
                default=False,
                help_text="Kept on request (`store`): GET /v1/chat/completions lists it",
            ),
        ),
    ]
