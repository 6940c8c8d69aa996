"""Dates as the reader's language writes them. Templates name the English form (the design guide's §8); this has the others.

`date` takes the place of Django's filter of that name: a form that is not here is the same in every language.
"""

from typing import Any

from django import template
from django.template.defaultfilters import date as written
from django.utils.translation import get_language

register = template.Library()

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


@register.filter(expects_localtime=True, is_safe=False)
def date(value: Any, form: str | None = None) -> str:
    """A moment or a day, in a form of Django's `date`.

    >>> from datetime import date as day
    >>> date(day(2026, 11, 28), "j M Y")
    '28 Nov 2026'
    """
    return str(written(value, FORMS.get(get_language() or "", {}).get(form or "", form)))
