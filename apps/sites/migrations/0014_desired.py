from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("sites", "0013_site_ip_ranges")]

    operations = [
        migrations.AddField("pool", "desired", models.CharField(
            choices=[
                ("ready", "Ready"),
                ("parked", "parked: unloaded, no work"),
                ("absent", "absent: unloaded, and its fetched files removed"),
            ],
            db_default="ready", default="ready", max_length=6,
        )),
        migrations.AddField("pool", "state", models.CharField(blank=True, db_default="", default="", editable=False, max_length=8)),
        migrations.AddField("pool", "fetch_seconds", models.FloatField(editable=False, null=True, verbose_name="fetched in (s)")),
        migrations.AddField("pool", "load_seconds", models.FloatField(editable=False, null=True, verbose_name="loaded in (s)")),
    ]
