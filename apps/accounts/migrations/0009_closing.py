from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0008_audit_for_ever")]
    operations = [
        migrations.AddField(
            model_name="organization",
            name="closing_at",
            field=models.DateTimeField(
                editable=False, help_text="When it is deleted; its keys stopped before", null=True
            ),
        ),
        migrations.AddField(
            model_name="organization",
            name="closed_at",
            field=models.DateTimeField(
                editable=False, help_text="When it was deleted: what must be kept is", null=True
            ),
        ),
        migrations.AddConstraint(
            model_name="organization",
            constraint=models.CheckConstraint(
                condition=models.Q(("closed_at", None), ("closing_at__lte", models.F("closed_at")), _connector="OR"),
                name="accounts_organization_closed_after_grace",
            ),
        ),
    ]
