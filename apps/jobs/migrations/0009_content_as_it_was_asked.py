from django.db import migrations, models


class Migration(migrations.Migration):
    """A request of /v1/responses as it was sent; null for all other work."""

    dependencies = [("jobs", "0008_residency")]

    operations = [
        migrations.AddField(model_name="content", name="asked", field=models.JSONField(null=True)),
    ]
