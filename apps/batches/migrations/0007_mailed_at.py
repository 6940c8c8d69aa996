from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("batches", "0006_sealed_rows")]
    operations = [
        migrations.AddField(
            model_name="batch",
            name="mailed_at",
            field=models.DateTimeField(
                editable=False, help_text="Since then nobody is to be told by mail", null=True
            ),
        ),
    ]
