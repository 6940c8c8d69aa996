import django.contrib.postgres.fields
from django.db import migrations, models

KINDS = [
    ("budgets", "A limit is at 50, 80 or 100%, or the balance runs low"),
    ("keys", "An API key ends in 7 days, or in 1 day"),
    ("batches", "A batch of yours that took longer than five minutes has ended"),
    ("webhooks", "A webhook was turned off because its server did not answer"),
]


class Migration(migrations.Migration):
    dependencies = [("accounts", "0005_how_long_text_is_kept")]
    operations = [
        migrations.AlterField(
            model_name="user",
            name="declined_mails",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.CharField(choices=KINDS, max_length=8),
                blank=True,
                db_default=models.Value(
                    [],
                    django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=8), size=None),
                ),
                default=list,
                size=None,
            ),
        ),
    ]
