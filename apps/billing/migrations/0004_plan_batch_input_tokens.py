from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("billing", "0003_plan_rates")]
    operations = [
        migrations.AddField(
            model_name="plan",
            name="batch_input_tokens",
            field=models.PositiveBigIntegerField(
                blank=True,
                help_text="Of a model's batches that run, together. Empty: as without a plan",
                null=True,
            ),
        ),
    ]
