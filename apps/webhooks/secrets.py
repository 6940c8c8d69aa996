"""Signing secrets: made, kept encrypted, and what they sign. Standard Webhooks, spec 1.0, "Signature scheme"."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Iterable

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings

PREFIX = "whsec_"
BYTES = 32  # the specification asks for 24 to 64


class Unreadable(Exception):
    """The stored secret was encrypted under a SECRET_KEY that is neither the present one nor a fallback."""


def new() -> str:
    return PREFIX + base64.b64encode(secrets.token_bytes(BYTES)).decode()


def seal(secret: str) -> str:
    return _box().encrypt(secret.encode()).decode()


def unseal(sealed: str) -> str:
    """Raises Unreadable."""
    try:
        return _box().decrypt(sealed.encode()).decode()
    except InvalidToken:
        raise Unreadable from None


def signature(secret: str, *, message_id: str, timestamp: int, body: str) -> str:
    """`v1,` and the base64 of the HMAC-SHA256 of `id.timestamp.body`. `timestamp` is Unix seconds."""
    key = base64.b64decode(secret.removeprefix(PREFIX))
    signed = hmac.new(key, f"{message_id}.{timestamp}.{body}".encode(), hashlib.sha256).digest()
    return f"v1,{base64.b64encode(signed).decode()}"


def signatures(sealed: Iterable[str], *, message_id: str, timestamp: int, body: str) -> str:
    """The header's value: one signature for each secret in force, with a space between. Raises Unreadable."""
    return " ".join(
        signature(unseal(secret), message_id=message_id, timestamp=timestamp, body=body) for secret in sealed
    )


def _box() -> MultiFernet:
    """A key of its own out of SECRET_KEY; what a replaced SECRET_KEY encrypted stays readable through its fallbacks."""
    keys = [str(key) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)]
    return MultiFernet([Fernet(base64.urlsafe_b64encode(_derived(key))) for key in keys])


def _derived(key: str) -> bytes:
    return hmac.new(key.encode(), b"cango.webhooks.secret.1", hashlib.sha256).digest()
