import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.models.functions import Now

STATES = [
    ("pending", "Pending"), ("burn-in", "burn-in"), ("admitted", "Admitted"), ("draining", "Draining"),
    ("maintenance", "Maintenance"), ("quarantined", "Quarantined"), ("retired", "Retired"),
]


class Migration(migrations.Migration):
    dependencies = [("sites", "0005_containers_and_partners"), migrations.swappable_dependency(settings.AUTH_USER_MODEL)]

    operations = [
        migrations.AddField("node", "state", models.CharField(
            choices=STATES, db_default="admitted", default="pending", max_length=11
        )),
        migrations.AddField("node", "state_at", models.DateTimeField(db_default=Now(), editable=False)),
        migrations.CreateModel(
            name="NodeEvent",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("before", models.CharField(max_length=11)),
                ("after", models.CharField(max_length=11)),
                ("reason", models.CharField(max_length=200)),
                ("at", models.DateTimeField(db_default=Now())),
                ("actor", models.ForeignKey(
                    null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to=settings.AUTH_USER_MODEL
                )),
                ("node", models.ForeignKey(
                    on_delete=django.db.models.deletion.PROTECT, related_name="events", to="sites.node"
                )),
            ],
            options={"ordering": ["-id"]},
        ),
        migrations.AlterField("node", "admitted", models.BooleanField(db_default=True, default=True)),
    ]
