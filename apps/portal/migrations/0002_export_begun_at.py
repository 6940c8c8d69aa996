from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('portal', '0001_export'),
    ]

    operations = [
        migrations.AddField(
            model_name='export',
            name='begun_at',
            field=models.DateTimeField(null=True),
        ),
    ]
