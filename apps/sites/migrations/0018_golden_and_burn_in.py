import django.core.validators
import django.db.models.deletion
from django.db import migrations, models
from django.db.models.functions import Now

import apps.sites.models

PROTECT = django.db.models.deletion.PROTECT


class Migration(migrations.Migration):
    dependencies = [("catalog", "0005_capabilities_until_now"), ("sites", "0017_feeds")]

    operations = [
        migrations.CreateModel(
            name="GoldenPrompt",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("body", models.JSONField(help_text='As the OpenAI API has it, without model: {"messages": [...]}')),
                ("expects", models.JSONField(
                    help_text='{"contains": "Paris"}, {"vector": [...]} or {"best": 0}',
                    validators=[apps.sites.models.known_answer],
                )),
                ("max_completion_tokens", models.PositiveSmallIntegerField(default=16, validators=[
                    django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(4096),
                ])),
                ("model", models.ForeignKey(on_delete=PROTECT, related_name="golden_prompts", to="catalog.model")),
            ],
        ),
        migrations.CreateModel(
            name="BurnIn",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("passed", models.BooleanField()),
                ("findings", models.JSONField(default=list)),
                ("gpu", models.CharField(blank=True, max_length=80, verbose_name="GPU")),
                ("driver", models.CharField(blank=True, max_length=40)),
                ("seconds", models.FloatField()),
                ("at", models.DateTimeField(db_default=Now())),
                ("pool", models.ForeignKey(on_delete=PROTECT, related_name="burn_ins", to="sites.pool")),
                ("step", models.ForeignKey(on_delete=PROTECT, related_name="burn_ins", to="sites.nodeevent")),
            ],
            options={
                "verbose_name": "burn-in",
                "constraints": [
                    models.UniqueConstraint(fields=("step", "pool"), name="sites_burnin_one_of_a_step"),
                ],
            },
        ),
        migrations.CreateModel(
            name="SpeedCurve",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("gpu", models.CharField(blank=True, max_length=80, verbose_name="GPU")),
                ("driver", models.CharField(blank=True, max_length=40)),
                ("concurrency", models.PositiveSmallIntegerField()),
                ("tokens_per_second", models.FloatField()),
                ("first_token_seconds", models.FloatField(null=True)),
                ("at", models.DateTimeField(db_default=Now())),
                ("burn_in", models.ForeignKey(on_delete=PROTECT, related_name="speeds", to="sites.burnin")),
                ("model", models.ForeignKey(on_delete=PROTECT, related_name="+", to="catalog.model")),
            ],
            options={
                "verbose_name": "point of a speed curve",
                "verbose_name_plural": "speed curves",
                "constraints": [
                    models.UniqueConstraint(fields=("burn_in", "concurrency"), name="sites_speedcurve_one_point"),
                ],
            },
        ),
        migrations.CreateModel(
            name="PowerCurve",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("gpu", models.CharField(blank=True, max_length=80, verbose_name="GPU")),
                ("driver", models.CharField(blank=True, max_length=40)),
                ("concurrency", models.PositiveSmallIntegerField()),
                ("power_w", models.FloatField()),
                ("quality", models.CharField(max_length=10)),
                ("at", models.DateTimeField(db_default=Now())),
                ("burn_in", models.ForeignKey(on_delete=PROTECT, related_name="powers", to="sites.burnin")),
                ("model", models.ForeignKey(on_delete=PROTECT, related_name="+", to="catalog.model")),
            ],
            options={
                "verbose_name": "point of a power curve",
                "verbose_name_plural": "power curves",
                "constraints": [
                    models.UniqueConstraint(fields=("burn_in", "concurrency"), name="sites_powercurve_one_point"),
                ],
            },
        ),
    ]
