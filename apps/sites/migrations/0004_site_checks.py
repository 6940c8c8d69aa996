import apps.sites.models
from django.db import migrations, models
from django.db.models import F, Q


class Migration(migrations.Migration):
    dependencies = [("sites", "0003_site_power_and_feeds")]

    operations = [
        migrations.AddConstraint("site", models.CheckConstraint(
            condition=Q(power_cap_w__isnull=True) | Q(power_cap_w__gt=0), name="sites_site_power_cap_positive"
        )),
        migrations.AddConstraint("site", models.CheckConstraint(
            condition=Q(contracted_power_w__isnull=True)
            | Q(contracted_power_w__gt=0) & (Q(power_cap_w__isnull=True) | Q(contracted_power_w__lte=F("power_cap_w"))),
            name="sites_site_contract_within_cap",
            violation_error_message="No more can be contracted than the connection carries.",
        )),
        migrations.AlterField("site", "pue", models.FloatField(default=1.2, verbose_name="PUE")),
        migrations.AlterField("site", "time_zone", models.CharField(
            default="UTC", max_length=64, validators=[apps.sites.models.known_time_zone]
        )),
    ]
