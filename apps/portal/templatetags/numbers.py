"""`apps.core.numbers` as template filters."""

from django import template

from apps.core import numbers

register = template.Library()

for name in (
    "balance",
    "money",
    "money_small",
    "money_column",
    "dollars",
    "energy_column",
    "price",
    "count",
    "exact",
    "context",
    "rate",
    "latency",
    "energy",
    "energy_parts",
    "carbon",
    "power",
    "percent",
    "uptime",
    "basis_points",
    "temperature",
    "duration",
    "size",
):
    register.filter(name, getattr(numbers, name))
