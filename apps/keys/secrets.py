"""The text of an API key: `cango_`, 43 random base62 characters (256 bits), 6 of checksum.

The checksum lets a door refuse a mistyped key, and a scanner recognise a leaked one, without a database.
"""

import hashlib
import re
import secrets
import zlib

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
START = "cango_"
RANDOM_LENGTH = 43
CHECKSUM_LENGTH = 6  # 62^6 > 2^32
SHAPE = re.compile(rf"{START}[0-9A-Za-z]{{{RANDOM_LENGTH + CHECKSUM_LENGTH}}}", re.ASCII)


def new() -> str:
    body = START + "".join(secrets.choice(ALPHABET) for _ in range(RANDOM_LENGTH))
    return body + checksum(body)


def checksum(body: str) -> str:
    """CRC-32 of the part before it, in base62."""
    number = zlib.crc32(body.encode("ascii"))
    digits = ""
    for _ in range(CHECKSUM_LENGTH):
        number, digit = divmod(number, len(ALPHABET))
        digits = ALPHABET[digit] + digits
    return digits


def well_formed(text: str) -> bool:
    return bool(SHAPE.fullmatch(text)) and checksum(text[:-CHECKSUM_LENGTH]) == text[-CHECKSUM_LENGTH:]


def digest(text: str) -> str:
    """What is stored. The random part has 256 bits, so one SHA-256 needs no salt and no stretching."""
    return hashlib.sha256(text.encode()).hexdigest()


def prefix(text: str) -> str:
    """The part people may see: it tells keys apart and gives 36 of 256 bits away."""
    return text[: len(START) + 6]
