from django.db import migrations, models


class Migration(migrations.Migration):

    dependencies = [
        ('jobs', '0004_open_jobs_of_an_organization'),
    ]

    operations = [
        migrations.AlterField(
            model_name='job',
            name='kind',
            field=models.CharField(choices=[('chat', 'Chat'), ('completion', 'Completion'), ('embeddings', 'Embeddings'), ('rerank', 'Reranking'), ('ocr', 'Text recognition')], max_length=12),
        ),
    ]
