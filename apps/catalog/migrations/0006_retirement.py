from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("catalog", "0005_capabilities_until_now")]

    operations = [
        migrations.AddField(
            "model",
            "retires_at",
            models.DateTimeField(
                blank=True,
                null=True,
                help_text="From then on it is not on offer any more; until then its page and the catalog say so. Empty: no end is known",
            ),
        )
    ]
