"""The token a node's runner calls with: shown once, stored as a hash."""

import hashlib
import secrets


def new_token() -> str:
    """256 random bits behind a prefix that secret scanners can find."""
    return f"node_{secrets.token_urlsafe(32)}"


def digest(token: str) -> str:
    """SHA-256 in hexadecimal: enough for a secret of full entropy, and quick enough for every heartbeat."""
    return hashlib.sha256(token.encode()).hexdigest()
