"""What customers send and get is stored encrypted: AES-256 in Galois/Counter mode, NIST SP 800-38D, a key from the settings.

Every sealed body is bound to what it belongs to (`about`), so none can be read in another's place. The first of
CONTENT_KEYS seals, all of them open, and SECRET_KEY with its fallbacks after them; without CONTENT_KEYS SECRET_KEY seals.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from functools import lru_cache
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings

from apps.core import jsons
from apps.core.errors import PortalError

# A sealed body: FORMAT, the key's name, the nonce, the cipher text with its tag.
FORMAT = b"\x01"
NAME, NONCE = 4, 12  # bytes
HEAD = len(FORMAT) + NAME + NONCE


class Unreadable(PortalError):
    """What is stored was changed, or the key is not among the settings any more. Nothing else depends on it."""

    code, status, type, retryable = "content_unreadable", 500, "server_error", False


def seal(body: bytes, about: bytes) -> bytes:
    """Random nonces: one key may seal 2³² bodies (SP 800-38D, 8.3), then another is to go before it."""
    name, key = ring(*secrets())[0]
    nonce = os.urandom(NONCE)
    return b"".join((FORMAT, name, nonce, key.encrypt(nonce, body, about)))


def unseal(sealed: bytes | memoryview, about: bytes) -> bytes:
    """Raises Unreadable."""
    sealed = bytes(sealed)
    name, nonce = sealed[len(FORMAT) : len(FORMAT) + NAME], sealed[len(FORMAT) + NAME : HEAD]
    for known, key in ring(*secrets()):
        if known == name and sealed.startswith(FORMAT):
            try:
                return key.decrypt(nonce, sealed[HEAD:], about)
            except (InvalidTag, ValueError):
                break
    raise Unreadable(
        "What is stored of this cannot be read: it was changed, or the key it was encrypted with is not in use any more. "
        "The record, its usage and its charge are not touched by that."
    )


def seal_json(value: Any, about: bytes) -> bytes:
    return seal(jsons.encoded(value, errors="surrogatepass"), about)


def unseal_json(sealed: bytes | memoryview, about: bytes) -> Any:
    """Raises Unreadable."""
    return json.loads(unseal(sealed, about).decode("utf-8", "surrogatepass"))


def secrets() -> tuple[str, ...]:
    return (*settings.CONTENT_KEYS, settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)


@lru_cache(maxsize=8)
def ring(*secrets: str) -> list[tuple[bytes, AESGCM]]:
    """A key of its own out of each secret, and the name that finds it again."""
    made = [hmac.digest(secret.encode(), b"cango.content.1", hashlib.sha256) for secret in secrets]
    return [(hmac.digest(key, b"name", hashlib.sha256)[:NAME], AESGCM(key)) for key in made]
