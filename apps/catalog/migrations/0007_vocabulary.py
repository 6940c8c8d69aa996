from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("catalog", "0006_retirement")]

    operations = [
        migrations.AddField(
            "model",
            "vocabulary_tokens",
            models.PositiveIntegerField(
                db_default=0,
                default=0,
                help_text="How many tokens its engine knows. Ids from there on are refused where tokens are sent in place of text; 0: its engine judges",
            ),
        )
    ]
