from django.db import migrations, models
from django.db.models import Q


class Migration(migrations.Migration):
    dependencies = [("sites", "0015_weights_and_parking")]

    operations = [
        migrations.AddConstraint("deployment", models.CheckConstraint(
            condition=Q(("pinned", False), ("park_after_seconds__isnull", True), _connector="OR"),
            name="sites_deployment_pinned_or_parked",
            violation_error_message="A pinned model is never parked.",
        )),
        migrations.AddConstraint("deployment", models.CheckConstraint(
            condition=Q(
                Q(("weights_sha256", ""), ("weights_url", "")),
                Q(Q(("weights_url", ""), _negated=True), Q(("weights_sha256", ""), _negated=True)),
                _connector="OR",
            ),
            name="sites_deployment_weights_verified",
            violation_error_message="Weights have a URL and a SHA-256, or neither.",
        )),
    ]
