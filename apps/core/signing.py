"""Signed, expiring paths: a runner fetches what its order names, and nothing else."""

import hashlib
import hmac


def signature(path: str, expires: str, secret: str) -> str:
    return hmac.new(secret.encode(), f"path:{path}:{expires}".encode(), hashlib.sha256).hexdigest()


def sign(path: str, *, expires: int, secret: str) -> str:
    """`path` with `expires` (Unix seconds) and a signature over both in its query."""
    return f"{path}?expires={expires}&signature={signature(path, str(expires), secret)}"


def verified(path: str, *, expires: str, given: str, secret: str, now: float) -> bool:
    right = hmac.compare_digest(signature(path, expires, secret).encode(), given.encode())
    return right and expires.isascii() and expires.isdigit() and int(expires) >= now
