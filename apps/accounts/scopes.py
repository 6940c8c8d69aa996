"""What an API key may be allowed to do. A door names the scope it asks for; a member's role is another matter."""

from django.db import models
from django.utils.translation import gettext_lazy

# What a view asks of a key: one scope, any of several, or None where every key in force will do.
Needed = str | tuple[str, ...] | None


class Scope(models.TextChoices):
    INFERENCE = "inference", gettext_lazy("Inference")
    BATCHES = "batches", gettext_lazy("Files and batches")
    USAGE = "usage", gettext_lazy("Read usage, balance and jobs")
    WEBHOOKS = "webhooks", gettext_lazy("Manage webhooks")
    MANAGE = "manage", gettext_lazy("Manage keys, members, webhooks and settings")


# A new key may do these where nobody says otherwise: a program that sends work needs no more.
USUAL = (Scope.INFERENCE.value, Scope.BATCHES.value, Scope.USAGE.value)


def holds(scopes: frozenset[str], needed: Needed) -> bool:
    """Do these scopes cover one of those needed? To manage is to manage webhooks too."""
    if needed is None:
        return True
    held = scopes | {Scope.WEBHOOKS.value} if Scope.MANAGE in scopes else scopes
    return not held.isdisjoint((needed,) if isinstance(needed, str) else needed)
