import django.contrib.postgres.fields
from django.db import migrations, models

import apps.operations.models

COUNTS = django.contrib.postgres.fields.ArrayField(
    models.SmallIntegerField(),
    default=apps.operations.models.no_hours,
    db_default=models.Value([0] * 24, django.contrib.postgres.fields.ArrayField(models.SmallIntegerField())),
)


class Migration(migrations.Migration):
    dependencies = [("operations", "0002_status")]

    operations = [
        migrations.AddField("availability", "looks_by_hour", COUNTS),
        migrations.AddField("availability", "up_by_hour", COUNTS),
    ]
