from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("batches", "0003_unclean")]
    operations = [
        migrations.AddField(
            model_name="batch",
            name="input_tokens_ceiling",
            field=models.PositiveBigIntegerField(
                db_default=0, default=0, help_text="The most that all its rows can read"
            ),
        ),
    ]
