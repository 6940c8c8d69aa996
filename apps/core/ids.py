"""Identifiers: time-ordered UUIDs in the database, prefixed Crockford base32 where people and clients read them.

A public id is `<prefix>_` and 26 characters, such as `job_01KAGNJ8V4E2W9D3ZQ6M0T5RXC`; it sorts by time of creation.
"""

import secrets
import time
import uuid

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
VALUES = {character: value for value, character in enumerate(ALPHABET)}
LENGTH = 26


def uuid7() -> uuid.UUID:
    """RFC 9562 version 7: 48 bits of Unix milliseconds, then randomness (Python has its own from 3.14 on)."""
    milliseconds = time.time_ns() // 1_000_000
    random = secrets.randbits(74)
    value = milliseconds << 80 | 0x7 << 76 | (random >> 62) << 64 | 0b10 << 62 | random & (1 << 62) - 1
    return uuid.UUID(int=value)


def public(prefix: str, value: uuid.UUID) -> str:
    digits = []
    number = value.int
    for _ in range(LENGTH):
        number, digit = divmod(number, 32)
        digits.append(ALPHABET[digit])
    return f"{prefix}_{''.join(reversed(digits))}"


def parse(prefix: str, text: str) -> uuid.UUID | None:
    """The UUID behind a public id, or None where the text is not one."""
    body = text.removeprefix(f"{prefix}_").upper()
    if len(body) != LENGTH or not text.startswith(f"{prefix}_"):
        return None
    number = 0
    for character in body:
        if character not in VALUES:
            return None
        number = number * 32 + VALUES[character]
    return uuid.UUID(int=number) if number < 1 << 128 else None
