from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("batches", "0001_initial")]
    operations = [
        migrations.AddField(
            model_name="batch",
            name="cleaned",
            field=models.BooleanField(
                db_default=False, default=False, help_text="After its end: nothing of its work is left"
            ),
        ),
    ]
