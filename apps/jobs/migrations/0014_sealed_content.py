from django.db import migrations, models

PLAIN = {
    "request": models.JSONField(null=True, editable=False, db_column="request"),
    "text": models.TextField(blank=True, editable=False, db_column="text"),
    "result": models.JSONField(null=True, editable=False, db_column="result"),
    "asked": models.JSONField(null=True, editable=False, db_column="asked"),
}


class Migration(migrations.Migration):
    """Text is encrypted from now on; the columns of before keep their names in the database, and what is in them is read."""

    dependencies = [("jobs", "0013_usage_by_hour")]

    operations = [
        migrations.AddField("content", "sealed_request", models.BinaryField(null=True)),
        migrations.AddField("content", "sealed_answer", models.BinaryField(null=True)),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                operation
                for name, field in PLAIN.items()
                for operation in (
                    migrations.AlterField("content", name, field),
                    migrations.RenameField("content", name, f"plain_{name}"),
                )
            ]
        ),
    ]
