from django.db import migrations, models
from django.db.models import Q
from django.db.models.functions import Now


class Migration(migrations.Migration):
    dependencies = [("sites", "0010_drain")]

    operations = [
        migrations.CreateModel(
            name="Freeze",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("nodes", models.PositiveIntegerField()),
                ("leases", models.PositiveIntegerField()),
                ("running", models.PositiveIntegerField()),
                ("began_at", models.DateTimeField(db_default=Now())),
                ("released_at", models.DateTimeField(null=True)),
                ("ended_at", models.DateTimeField(null=True)),
                ("open", models.BooleanField(default=True)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=["open"], condition=Q(open=True), name="sites_freeze_one_open")
                ]
            },
        )
    ]
