"""Mails a person may do without. Those of sign-in, payments and plans always come: they are part of the contract."""

from __future__ import annotations

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy


class Mail(models.TextChoices):
    BUDGETS = "budgets", gettext_lazy("A limit is at 50, 80 or 100%, or the balance runs low")
    KEYS = "keys", gettext_lazy("An API key ends in 7 days, or in 1 day")
    BATCHES = "batches", gettext_lazy("A batch of yours that took longer than five minutes has ended")
    WEBHOOKS = "webhooks", gettext_lazy("A webhook was turned off because its server did not answer")


def wanted(kind: Mail) -> Q:
    """Users who want mails of this kind."""
    return ~Q(declined_mails__contains=[kind.value])
