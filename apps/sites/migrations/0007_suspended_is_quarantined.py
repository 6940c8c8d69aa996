from django.db import migrations


def quarantine(apps, schema_editor):
    apps.get_model("sites", "Node").objects.filter(admitted=False).update(state="quarantined")


def suspend(apps, schema_editor):
    apps.get_model("sites", "Node").objects.exclude(state="admitted").update(admitted=False)


class Migration(migrations.Migration):
    """What was suspended stays refused. Back again, only what is admitted may work."""

    dependencies = [("sites", "0006_life_cycle")]

    operations = [migrations.RunPython(quarantine, suspend)]
