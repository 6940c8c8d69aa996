from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ("accounts", "0012_language_chosen"),
    ]

    operations = [
        migrations.AddField(
            model_name="membership",
            name="last_active_at",
            field=models.DateTimeField(editable=False, help_text="With a session, to some minutes (`activity`)", null=True),
        ),
    ]
