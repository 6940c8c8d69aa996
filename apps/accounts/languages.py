"""Languages: those the pages are written in, and the one a reader gets."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from types import SimpleNamespace
from typing import Any, cast

from django.conf import settings
from django.http import HttpRequest
from django.utils import translation

COOKIE = settings.LANGUAGE_COOKIE_NAME


def known(code: str) -> bool:
    return code in dict(settings.LANGUAGES)


def said(text: str) -> str:
    """What was stored in English, in the reader's language where it is a text of ours (`gettext_noop`)."""
    return translation.gettext(text) if text else ""


LONGEST = 600  # characters: a form with several values is tried in a time that grows by a power of the text's length


class Sentences:
    """Texts of ours as they are stored: in English, with values in the places of `%(name)s`.

    Each is known again by its form, and said in the reader's language with its values: those named in `texts` are such
    texts themselves, all others are what people and sites call things, and stay as written. Where several forms match,
    the first one counts.
    """

    def __init__(self, *forms: str, texts: Collection[str] = ()) -> None:
        self.forms = [(form, _shape(form)) for form in forms]
        self.texts = frozenset(texts)

    def said(self, text: str) -> str:
        if translation.get_language() in (None, settings.LANGUAGE_CODE) or len(text) > LONGEST:
            return text
        for form, shape in self.forms:
            if found := shape.fullmatch(text):
                return translation.gettext(form) % {
                    name: self.said(value) if name in self.texts else value for name, value in found.groupdict().items()
                }
        return said(text)


def _shape(form: str) -> re.Pattern[str]:
    literal_or_name = re.split(r"%\((\w+)\)s", form)
    parts = (f"(?P<{part}>.+?)" if place % 2 else re.escape(part) for place, part in enumerate(literal_or_name))
    return re.compile("".join(parts), re.DOTALL)


def of(user: Any, cookies: Mapping[str, str], accepts: str) -> str:
    """What was chosen in this browser; else what is kept with the person; else what the browser asks for (RFC 9110, 12.5.4).

    A sign-up keeps the page's language with the person without asking, so that is the weaker of the two.
    """
    for chosen in (cookies.get(COOKIE, ""), getattr(user, "language", "")):
        if known(chosen):
            return str(chosen)
    asked = SimpleNamespace(COOKIES=cookies, META={"HTTP_ACCEPT_LANGUAGE": accepts})
    return translation.get_language_from_request(cast(HttpRequest, asked))


def remember(user: Any, cookies: Mapping[str, str]) -> bool:
    """For mails: what was chosen in this browser goes to who never chose, and without it the page's language to who has none.

    The caller saves the person where this is True.
    """
    before = user.language, user.language_chosen
    chosen = cookies.get(COOKIE, "")
    if known(chosen) and not user.language_chosen:
        user.language, user.language_chosen = chosen, True
    elif not user.language:
        user.language = translation.get_language() or ""
    return before != (user.language, user.language_chosen)
