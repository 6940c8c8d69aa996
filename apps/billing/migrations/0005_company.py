import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0011_admin_and_viewer"),
        ("billing", "0004_plan_batch_input_tokens"),
    ]
    operations = [
        migrations.CreateModel(
            name="Company",
            fields=[
                (
                    "organization",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.PROTECT,
                        primary_key=True,
                        related_name="company",
                        serialize=False,
                        to="accounts.organization",
                    ),
                ),
                ("country", models.CharField(help_text="ISO 3166-1 alpha-2", max_length=2)),
                ("tax_id_type", models.CharField(blank=True, max_length=20)),
                ("tax_id", models.CharField(blank=True, max_length=40)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
            ],
            options={"verbose_name_plural": "companies"},
        ),
    ]
