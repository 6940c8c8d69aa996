import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q

PROTECT = django.db.models.deletion.PROTECT


class Migration(migrations.Migration):
    dependencies = [("sites", "0004_site_checks")]

    operations = [
        migrations.CreateModel(
            name="Container",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("code", models.SlugField(unique=True)),
                ("power_cap_w", models.FloatField(blank=True, null=True, verbose_name="power cap (W)")),
                ("note", models.CharField(blank=True, max_length=200)),
                ("site", models.ForeignKey(on_delete=PROTECT, related_name="containers", to="sites.site")),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=Q(power_cap_w__isnull=True) | Q(power_cap_w__gt=0), name="sites_container_power_cap_positive"
                    )
                ]
            },
        ),
        migrations.CreateModel(
            name="Partner",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("code", models.SlugField(unique=True)),
                ("name", models.CharField(max_length=80)),
                ("revenue_share_basis_points", models.PositiveIntegerField(
                    help_text="1 is a hundredth of a percent: 6000 is 60 %"
                )),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=Q(revenue_share_basis_points__lte=10_000), name="sites_partner_share_at_most_all"
                    )
                ]
            },
        ),
        migrations.AddField("node", "container", models.ForeignKey(
            blank=True, db_index=False, null=True, on_delete=PROTECT, related_name="nodes", to="sites.container"
        )),
        migrations.AddField("node", "partner", models.ForeignKey(
            blank=True, db_index=False, null=True, on_delete=PROTECT, related_name="nodes", to="sites.partner"
        )),
    ]
