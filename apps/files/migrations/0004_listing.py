from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("files", "0003_readings")]
    operations = [
        AddIndexConcurrently("file", models.Index(fields=["organization", "id"], name="files_file_listing")),
    ]
