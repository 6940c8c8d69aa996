from django.db import migrations


class Migration(migrations.Migration):
    """The column stays for the code before this, and goes in a later release."""

    dependencies = [("sites", "0007_suspended_is_quarantined")]

    operations = [
        migrations.SeparateDatabaseAndState(state_operations=[migrations.RemoveField("node", "admitted")]),
    ]
