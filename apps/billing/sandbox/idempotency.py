"""Idempotency keys: docs.stripe.com/api/idempotent_requests. Kept for 24 hours, as Stripe does."""

import hashlib
import json
from datetime import timedelta
from typing import Any

from django.utils import timezone

from apps.billing.models import SandboxObject
from apps.billing.sandbox.refusals import Conflicting, Refusal

KIND = "_idempotency"
KEPT = timedelta(hours=24)
LONGEST = 255


def _row(key: str) -> str:
    return f"idem_{hashlib.sha256(key.encode()).hexdigest()}"


def _digest(method: str, path: str, params: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps([method, path, params], sort_keys=True).encode()).hexdigest()


def replay(key: str, *, method: str, path: str, params: dict[str, Any]) -> tuple[int, Any] | None:
    """The answer this key got before; None for a new one. Raises Conflicting. Holds `rows.writing`."""
    if len(key) > LONGEST:
        raise Refusal(f"Idempotency keys are at most {LONGEST} characters long.")
    row = SandboxObject.objects.filter(pk=_row(key), created_at__gt=timezone.now() - KEPT).first()
    if row is None:
        return None
    if row.data["request"] != _digest(method, path, params):
        raise Conflicting(
            "Keys for idempotent requests can only be used with the same parameters they were first used with. "
            f"Try using a key other than '{key}' if you meant to execute a different request."
        )
    return row.data["status"], row.data["body"]


def keep(key: str, *, method: str, path: str, params: dict[str, Any], status: int, body: Any) -> None:
    """Holds `rows.writing`."""
    data = {"request": _digest(method, path, params), "status": status, "body": body}
    SandboxObject.objects.filter(pk=_row(key)).delete()
    SandboxObject.objects.create(pk=_row(key), kind=KIND, data=data)


def forget() -> None:
    SandboxObject.objects.filter(kind=KIND, created_at__lte=timezone.now() - KEPT).delete()
