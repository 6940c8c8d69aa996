from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0009_closing")]
    operations = [
        migrations.AddField(
            model_name="user",
            name="language",
            field=models.CharField(
                blank=True,
                db_default="",
                default="",
                help_text="Of pages and mails; empty is what the browser asks for",
                max_length=16,
            ),
        ),
    ]
