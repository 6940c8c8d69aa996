import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("sites", "0014_desired")]

    operations = [
        migrations.AddField("deployment", "park_after_seconds", models.PositiveIntegerField(
            blank=True, help_text="Unloaded after so long without work, and loaded again with the next; empty: never", null=True,
        )),
        migrations.AddField("deployment", "weights_url", models.CharField(
            blank=True, db_default="", default="",
            help_text="One file that nodes fetch; empty: what each node's runner.toml names",
            max_length=2000,
            validators=[django.core.validators.URLValidator(schemes=["http", "https"])],
            verbose_name="URL of the weights",
        )),
        migrations.AddField("deployment", "weights_sha256", models.CharField(
            blank=True, db_default="", default="",
            help_text="What is fetched must have it; nodes keep the file under this name",
            max_length=64,
            validators=[django.core.validators.RegexValidator(
                "^[0-9a-f]{64}$", "This is no SHA-256 in lower-case hexadecimal."
            )],
            verbose_name="SHA-256 of the weights",
        )),
    ]
