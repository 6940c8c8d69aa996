import django.contrib.postgres.fields
from django.db import migrations, models

import apps.sites.models

ArrayField = django.contrib.postgres.fields.ArrayField


class Migration(migrations.Migration):
    dependencies = [("sites", "0012_enrolment")]

    operations = [
        migrations.AddField("site", "ip_ranges", ArrayField(
            base_field=models.CharField(max_length=50, validators=[apps.sites.models.known_range]),
            blank=True,
            db_default=models.Value([], ArrayField(models.CharField(max_length=50))),
            default=list,
            help_text="Where its nodes are enrolled from, such as 203.0.113.0/24, with commas; empty: from anywhere",
            size=None,
        )),
    ]
