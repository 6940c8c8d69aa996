from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("accounts", "0011_admin_and_viewer"),
    ]

    operations = [
        migrations.AddField(
            model_name="user",
            name="language_chosen",
            field=models.BooleanField(db_default=False, default=False, help_text="By the person; otherwise it is that of the page they came in by"),
        ),
    ]
