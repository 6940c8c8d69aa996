from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("sites", "0002_listening")]

    operations = [
        migrations.AddField("site", "grid_zone", models.CharField(
            blank=True, db_default="", default="", help_text="As the grid's operator or a feed names it, such as ERCOT-WEST", max_length=40
        )),
        migrations.AddField("site", "power_cap_w", models.FloatField(
            blank=True, help_text="What the connection can carry", null=True, verbose_name="power cap (W)"
        )),
        migrations.AddField("site", "contracted_power_w", models.FloatField(blank=True, null=True, verbose_name="contracted power (W)")),
        migrations.AddField("site", "price_feed", models.CharField(
            blank=True, db_default="", default="", help_text="Where the price of power comes from; empty: the figure above", max_length=80
        )),
        migrations.AddField("site", "carbon_feed", models.CharField(
            blank=True, db_default="", default="", help_text="Where the grid's intensity comes from; empty: the figure above", max_length=80
        )),
        migrations.AddField("site", "stage", models.CharField(
            choices=[("mining", "Mining"), ("hybrid", "Hybrid"), ("ai", "AI")], db_default="ai", default="ai", max_length=6
        )),
    ]
