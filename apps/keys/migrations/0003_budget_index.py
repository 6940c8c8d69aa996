from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("keys", "0002_budget")]
    operations = [
        AddIndexConcurrently("apikey", models.Index(fields=["budget"], name="keys_apikey_budget")),
    ]
