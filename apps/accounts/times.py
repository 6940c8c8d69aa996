"""Dates as the reader's language writes them. Pages name the English form (the design guide's §8); this has the others."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from django.template.defaultfilters import date as formatted
from django.utils import timezone
from django.utils.translation import get_language, gettext

from apps.core import numbers

JUST_NOW = timedelta(minutes=5)  # last activity is known to no less
FORMS = {
    "zh-hans": {
        "j M": "n月j日",
        "j M Y": "Y年n月j日",
        "j F Y": "Y年n月j日",
        "l j F": "n月j日 l",
        "j M H:i": "n月j日 H:i",
        "j M H:i:s": "n月j日 H:i:s",
        "j M, H:i": "n月j日 H:i",
        "j M, H:i:s": "n月j日 H:i:s",
        "j M Y, H:i": "Y年n月j日 H:i",
        "j M Y, H:i:s": "Y年n月j日 H:i:s",
        "j M Y, H:i T": "Y年n月j日 H:i T",
        "j M Y, H:i:s T": "Y年n月j日 H:i:s T",
        "j F Y, H:i": "Y年n月j日 H:i",
    }
}


def written(value: Any, form: str | None = None) -> str:
    """A moment or a day in a form of Django's `date`; one that is not above is the same in every language.

    >>> from datetime import date
    >>> written(date(2026, 11, 28), "j M Y")
    '28 Nov 2026'
    """
    return str(formatted(value, FORMS.get(get_language() or "", {}).get(form or "", form)))


def ago(value: datetime) -> str:
    """How long before now, in whole units; a day and more is the date (the design guide's §8)."""
    past = timezone.now() - value
    if past < JUST_NOW:
        return gettext("just now")
    if past >= timedelta(days=1):
        return written(value, "j M Y")
    whole = timedelta(hours=1) if past >= timedelta(hours=1) else timedelta(minutes=1)
    return gettext("%(duration)s ago") % {"duration": numbers.duration((past // whole * whole).total_seconds())}
