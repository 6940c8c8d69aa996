import django.db.models.deletion
from django.db import migrations, models
from django.db.models import Q
from django.db.models.functions import Now

PROTECT = django.db.models.deletion.PROTECT


class Migration(migrations.Migration):
    dependencies = [("catalog", "0001_initial"), ("sites", "0008_state_replaces_admitted")]

    operations = [
        migrations.CreateModel(
            name="GPU",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("uuid", models.CharField(max_length=80, verbose_name="UUID")),
                ("name", models.CharField(blank=True, max_length=80)),
                ("memory_mib", models.PositiveIntegerField(blank=True, null=True, verbose_name="memory (MiB)")),
                ("serial", models.CharField(blank=True, max_length=40)),
                ("first_seen_at", models.DateTimeField(db_default=Now(), editable=False)),
                ("removed_at", models.DateTimeField(blank=True, null=True)),
                ("node", models.ForeignKey(on_delete=PROTECT, related_name="gpus", to="sites.node")),
            ],
            options={
                "verbose_name": "GPU",
                "constraints": [
                    models.UniqueConstraint(
                        fields=["uuid"],
                        condition=Q(removed_at__isnull=True),
                        name="sites_gpu_at_one_node",
                    ),
                    models.CheckConstraint(condition=Q(uuid__startswith="GPU-"), name="sites_gpu_has_uuid"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Deployment",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("replicas", models.PositiveSmallIntegerField(default=1, help_text="Pools that are to be ready")),
                ("engine", models.CharField(blank=True, help_text="Such as vllm 0.12", max_length=40)),
                ("revision", models.CharField(blank=True, help_text="Of the weights", max_length=80)),
                ("quantization", models.CharField(blank=True, max_length=20)),
                ("pinned", models.BooleanField(default=False, help_text="Never parked to save power")),
                ("model", models.ForeignKey(on_delete=PROTECT, related_name="deployments", to="catalog.model")),
                ("site", models.ForeignKey(on_delete=PROTECT, related_name="deployments", to="sites.site")),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=["site", "model"], name="sites_deployment_one_of_a_model")
                ]
            },
        ),
        migrations.AddField("pool", "deployment", models.ForeignKey(
            blank=True, db_index=False, null=True, on_delete=PROTECT, related_name="pools", to="sites.deployment"
        )),
    ]
