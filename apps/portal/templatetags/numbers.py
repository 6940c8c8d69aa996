"""`apps.core.numbers`, and the words of places and of rules of them, as template filters."""

from django import template

from apps.core import numbers, places
from apps.keys import residency

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
register.filter("place", places.named)
register.filter("places", residency.words)
