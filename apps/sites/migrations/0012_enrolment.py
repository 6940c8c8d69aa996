import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models
from django.db.models.functions import Now

PROTECT = django.db.models.deletion.PROTECT


class Migration(migrations.Migration):
    dependencies = [("sites", "0011_freeze"), migrations.swappable_dependency(settings.AUTH_USER_MODEL)]

    operations = [
        migrations.AddField("node", "public_key", models.CharField(db_default="", default="", editable=False, max_length=64)),
        migrations.AddField("node", "generation", models.PositiveIntegerField(db_default=0, default=0, editable=False)),
        migrations.AddField("node", "renewed_at", models.FloatField(editable=False, null=True)),
        migrations.AddField("node", "inventory", models.JSONField(
            db_default=models.Value({}, models.JSONField()), default=dict, editable=False
        )),
        migrations.AddField("node", "expected_gpus", models.PositiveSmallIntegerField(
            blank=True, help_text="Another number at its enrolment quarantines it", null=True, verbose_name="expected GPUs"
        )),
        migrations.CreateModel(
            name="EnrolmentToken",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("sha256", models.CharField(max_length=64, unique=True)),
                ("created_at", models.DateTimeField(db_default=Now())),
                ("expires_at", models.DateTimeField()),
                ("used_at", models.DateTimeField(null=True)),
                ("actor", models.ForeignKey(null=True, on_delete=PROTECT, related_name="+", to=settings.AUTH_USER_MODEL)),
                ("node", models.ForeignKey(on_delete=PROTECT, related_name="enrolment_tokens", to="sites.node")),
            ],
        ),
    ]
