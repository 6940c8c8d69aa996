"""The audit trail: who did what to whose things, and why."""

from collections.abc import Mapping
from typing import Any

from apps.accounts import whence
from apps.accounts.models import AuditEvent, Organization, User


def record(
    *,
    organization: Organization | None,
    actor: User | None,
    action: str,
    target: str = "",
    reason: str = "",
    data: Mapping[str, Any] | None = None,
) -> AuditEvent:
    """Write one event, in the caller's transaction if there is one, so that act and record stand or fall together.

    `organization` is None for acts on the platform's own things, `actor` for acts of the portal itself. `action` is
    `<noun>.<past verb>`, as `api_key.revoked`; `target` a public id. `data` must be JSON and hold no secret.
    """
    return AuditEvent.objects.create(
        organization=organization,
        actor=actor,
        action=action,
        target=target[:128],
        reason=reason[:500],
        data=dict(data or {}),
        address=whence.address(),
    )
