import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.models import F, Q

PROTECT = django.db.models.deletion.PROTECT


class Migration(migrations.Migration):
    dependencies = [("sites", "0009_gpus_and_deployments"), migrations.swappable_dependency(settings.AUTH_USER_MODEL)]

    operations = [
        migrations.CreateModel(
            name="Drain",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("purpose", models.CharField(choices=[("drain", "Drain"), ("maintenance", "Maintenance")], max_length=11)),
                ("reason", models.CharField(max_length=200)),
                ("announced_at", models.DateTimeField(null=True)),
                ("starts_at", models.DateTimeField()),
                ("deadline_at", models.DateTimeField(help_text="What runs there then is taken from it")),
                ("ends_at", models.DateTimeField(help_text="When it is expected to work again", null=True)),
                ("began_at", models.DateTimeField(null=True)),
                ("drained_at", models.DateTimeField(null=True)),
                ("ended_at", models.DateTimeField(null=True)),
                ("open", models.BooleanField(default=False)),
                ("actor", models.ForeignKey(null=True, on_delete=PROTECT, related_name="+", to=settings.AUTH_USER_MODEL)),
                ("node", models.ForeignKey(on_delete=PROTECT, related_name="drains", to="sites.node")),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        fields=["node"],
                        condition=Q(open=True),
                        name="sites_drain_one_open",
                    ),
                    models.CheckConstraint(condition=Q(deadline_at__gte=F("starts_at")), name="sites_drain_deadline_after_start"),
                    models.CheckConstraint(
                        condition=Q(announced_at__isnull=True) | Q(announced_at__lt=F("starts_at")),
                        name="sites_drain_announced_before_start",
                    ),
                ]
            },
        )
    ]
