from django.db import migrations, models


class Migration(migrations.Migration):
    """As text of jobs: what is in the column of before is read, and never written."""

    dependencies = [("batches", "0005_draft")]

    operations = [
        migrations.AddField("row", "sealed_body", models.BinaryField(null=True)),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AlterField("row", "body", models.JSONField(null=True, editable=False, db_column="body")),
                migrations.RenameField("row", "body", "plain_body"),
            ]
        ),
    ]
