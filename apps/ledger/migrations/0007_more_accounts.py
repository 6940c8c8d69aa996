"""The platform's accounts for tax, expired credit and corrections: names, no column changes."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("ledger", "0006_one_index_of_open_holds")]
    operations = [
        migrations.AlterField(
            model_name='transfer',
            name='credit',
            field=models.CharField(choices=[('credit', 'Credit'), ('promotional', 'Promotional'), ('held', 'Held'), ('receivable', 'Receivable'), ('revenue', 'Revenue'), ('stripe_clearing', 'Stripe Clearing'), ('fees', 'Fees'), ('refunds', 'Refunds'), ('disputes', 'Disputes'), ('credits_granted', 'Credits Granted'), ('credits_expired', 'Credits Expired'), ('tax', 'Tax'), ('adjustments', 'Adjustments'), ('house:overrun', 'Overrun')], max_length=20),
        ),
        migrations.AlterField(
            model_name='transfer',
            name='debit',
            field=models.CharField(choices=[('credit', 'Credit'), ('promotional', 'Promotional'), ('held', 'Held'), ('receivable', 'Receivable'), ('revenue', 'Revenue'), ('stripe_clearing', 'Stripe Clearing'), ('fees', 'Fees'), ('refunds', 'Refunds'), ('disputes', 'Disputes'), ('credits_granted', 'Credits Granted'), ('credits_expired', 'Credits Expired'), ('tax', 'Tax'), ('adjustments', 'Adjustments'), ('house:overrun', 'Overrun')], max_length=20),
        ),
    ]
