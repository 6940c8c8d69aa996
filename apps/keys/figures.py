"""The rate limits of one key, as its page and the management API set them. Null is no limit of its own.

What staff set for a key with one model or one tier counts beside them, and is theirs to change.
"""

from __future__ import annotations

from collections.abc import Mapping

from django.utils.translation import gettext, gettext_lazy, gettext_noop

from apps.keys import permits
from apps.keys.models import APIKey, RateLimit

Figures = dict[str, int | None]

WORDS = {  # of the API; pages have LABELS and `counted`
    "requests_per_minute": "requests a minute",
    "input_tokens_per_minute": "input tokens a minute",
    "output_tokens_per_minute": "output tokens a minute",
    "concurrent_requests": "requests at the same time",
}
LABELS = {
    "requests_per_minute": gettext_lazy("Requests a minute"),
    "input_tokens_per_minute": gettext_lazy("Input tokens a minute"),
    "output_tokens_per_minute": gettext_lazy("Output tokens a minute"),
    "concurrent_requests": gettext_lazy("Requests at the same time"),
}
COUNTED = {
    "requests_per_minute": gettext_noop("%(count)s requests a minute"),
    "input_tokens_per_minute": gettext_noop("%(count)s input tokens a minute"),
    "output_tokens_per_minute": gettext_noop("%(count)s output tokens a minute"),
    "concurrent_requests": gettext_noop("%(count)s requests at the same time"),
}
MOST = 1_000_000_000


def of(key: APIKey) -> Figures:
    return figures_of(key.rates)


def figures_of(row: RateLimit | None) -> Figures:
    return {name: getattr(row, name, None) for name in WORDS}


def words(figures: Mapping[str, int | None]) -> str:
    """`600 requests a minute, 8 requests at the same time`; empty where there are none."""
    counted = {name: gettext(form) for name, form in COUNTED.items() if figures[name] is not None}
    return ", ".join(form % {"count": f"{figures[name]:,}"} for name, form in counted.items())


def lines(key: APIKey) -> list[str]:
    """All that are set for a key, those for one model or tier last."""
    rows = sorted(key.rate_limits.select_related("model"), key=lambda row: (str(row.model or ""), row.tier))
    return [
        words(figures_of(row))
        + (gettext(", for the model %(model)s") % {"model": row.model} if row.model else "")
        + (gettext(", at the tier %(tier)s") % {"tier": row.tier} if row.tier else "")
        for row in rows
        if words(figures_of(row))
    ]


def given_by_key(figures: Figures, giver: Figures) -> None:
    """Raises BeyondPermit, which names the first figure that is above the giver's."""
    for name, most in giver.items():
        given = figures[name]
        if most is not None and (given is None or given > most):
            raise permits.beyond(name)


def write(key: APIKey, figures: Figures) -> None:
    """Keep them, in force for the next request. The key's row is locked, or not yet committed."""
    row = key.rates
    if row is None and not any(figures.values()):
        return
    row = row or RateLimit(organization_id=key.organization_id, api_key=key)
    for name, value in figures.items():
        setattr(row, name, value)
    row.save()


def copy(key: APIKey, new: APIKey, *, own: bool) -> None:
    """The limits of `key` for a new one, which counts for itself; without `own` those for one model or tier alone."""
    for row in key.rate_limits.all():
        if own or row.model_id or row.tier:
            RateLimit.objects.create(
                organization_id=new.organization_id,
                api_key=new,
                model_id=row.model_id,
                tier=row.tier,
                **figures_of(row),
            )
