from django.db import migrations, models

ROLES = [("owner", "Owner"), ("admin", "Admin"), ("developer", "Developer"), ("billing", "Billing"), ("viewer", "Viewer")]


class Migration(migrations.Migration):

    dependencies = [
        ("accounts", "0010_language"),
    ]

    operations = [
        migrations.AlterField(
            model_name="membership",
            name="role",
            field=models.CharField(choices=ROLES, max_length=12),
        ),
        migrations.AlterField(
            model_name="invitation",
            name="role",
            field=models.CharField(choices=ROLES, max_length=12),
        ),
    ]
