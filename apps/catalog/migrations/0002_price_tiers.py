from django.db import migrations, models


class Migration(migrations.Migration):
    """Cached input, batch and flexible prices. What exists keeps its input price for cached input."""

    dependencies = [("catalog", "0001_initial")]

    operations = [
        migrations.AddField(
            model_name="priceversion",
            name="cached_input_microusd_per_mtok",
            field=models.PositiveBigIntegerField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="priceversion",
            name="batch_basis_points",
            field=models.PositiveSmallIntegerField(db_default=5000, default=5000),
        ),
        migrations.AddField(
            model_name="priceversion",
            name="flexible_basis_points",
            field=models.PositiveSmallIntegerField(db_default=7000, default=7000),
        ),
        migrations.AddConstraint(
            model_name="priceversion",
            constraint=models.CheckConstraint(
                condition=models.Q(
                    ("batch_basis_points__range", (1, 10000)), ("flexible_basis_points__range", (1, 10000))
                ),
                name="catalog_priceversion_tiers_cost_at_most_the_price",
            ),
        ),
    ]
