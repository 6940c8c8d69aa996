"""Dates as the reader's language writes them. Pages name the English form (the design guide's §8); this has the others."""

from __future__ import annotations

from typing import Any

from django.template.defaultfilters import date as formatted
from django.utils.translation import get_language

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
