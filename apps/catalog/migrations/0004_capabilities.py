import django.contrib.postgres.fields
import django.core.validators
from django.db import migrations, models


class Migration(migrations.Migration):
    """What the engine behind a model can do. The next one says what those that exist do."""

    dependencies = [
        ('catalog', '0003_discounts'),
    ]

    operations = [
        migrations.AddField(
            model_name='model',
            name='capabilities',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=30), blank=True, db_default=[], default=list, help_text="What the engine behind it does when asked. What is not ticked is refused with the parameter's name", size=None),
        ),
        migrations.AddField(
            model_name='model',
            name='image_tokens',
            field=models.PositiveIntegerField(db_default=0, default=0, help_text='The most prompt tokens one image can become: what is held for it. Needed for image input'),
        ),
        migrations.AddField(
            model_name='model',
            name='max_choices',
            field=models.PositiveSmallIntegerField(db_default=8, default=8, help_text='The most answers to one prompt (n). llama.cpp computes each in a slot of its own: not more than those', validators=[django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(128)]),
        ),
        migrations.AddField(
            model_name='model',
            name='shorter_dimensions',
            field=django.contrib.postgres.fields.ArrayField(base_field=models.PositiveIntegerField(validators=[django.core.validators.MinValueValidator(1)]), blank=True, db_default=[], default=list, help_text='Sizes its vectors may be cut to and still be good, with commas: what the model was trained for', size=None),
        ),
        migrations.AlterField(
            model_name='model',
            name='kind',
            field=models.CharField(choices=[('chat', 'Chat'), ('embeddings', 'Embeddings'), ('rerank', 'Reranking'), ('ocr', 'Text recognition')], max_length=12),
        ),
    ]
