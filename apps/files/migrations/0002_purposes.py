from django.db import migrations, models


class Migration(migrations.Migration):
    """What a file is for and how far it has come. What exists is a job's input, complete."""

    dependencies = [("files", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="file",
            name="purpose",
            field=models.CharField(
                choices=[
                    ("input", "Input"),
                    ("batch", "Batch"),
                    ("batch_output", "Batch Output"),
                    ("user_data", "User Data"),
                ],
                db_default="input",
                default="input",
                max_length=12,
            ),
        ),
        migrations.AddField(
            model_name="file",
            name="status",
            field=models.CharField(
                choices=[("incoming", "Incoming"), ("processed", "Processed"), ("deleted", "Deleted")],
                db_default="processed",
                default="processed",
                max_length=9,
            ),
        ),
        migrations.AlterField(model_name="file", name="expires_at", field=models.DateTimeField(null=True)),
    ]
