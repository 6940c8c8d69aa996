"""Languages: those the pages are written in, and the one a reader gets."""

from __future__ import annotations

from collections.abc import Mapping
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


def of(user: Any, cookies: Mapping[str, str], accepts: str) -> str:
    """What the person chose; else what was chosen in this browser; else what the browser asks for (RFC 9110, 12.5.4)."""
    chosen = getattr(user, "language", "")
    if known(chosen):
        return str(chosen)
    asked = SimpleNamespace(COOKIES=cookies, META={"HTTP_ACCEPT_LANGUAGE": accepts})
    return translation.get_language_from_request(cast(HttpRequest, asked))
