"""Checks signatures by the words of the specification, with nothing of ours."""

import base64
import hashlib
import hmac


def fits(secret: str, *, headers: dict[str, str], body: bytes) -> list[bool]:
    """For each signature of the header, whether `secret` made it."""
    assert secret.startswith("whsec_")
    key = base64.b64decode(secret[6:], validate=True)
    assert 24 <= len(key) <= 64
    content = headers["webhook-id"].encode() + b"." + headers["webhook-timestamp"].encode() + b"." + body
    found = []
    for given in headers["webhook-signature"].split(" "):
        version, _, signature = given.partition(",")
        assert version == "v1"
        found.append(base64.b64decode(signature, validate=True) == hmac.digest(key, content, hashlib.sha256))
    return found
