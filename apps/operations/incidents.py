"""What customers are told when something is wrong."""

from django.db import transaction
from django.utils import timezone

from apps.accounts import audit
from apps.accounts.models import User
from apps.operations.models import Incident, IncidentUpdate

RESOLVED = IncidentUpdate.State.RESOLVED


@transaction.atomic
def tell(*, incident: Incident, state: str, text: str, actor: User, reason: str) -> IncidentUpdate:
    """Say how it stands. “Resolved” ends it; anything else said later opens it again."""
    locked = Incident.objects.select_for_update().get(pk=incident.pk)
    update = IncidentUpdate.objects.create(incident=locked, state=state, text=text, actor=actor)
    ended = state == RESOLVED
    if ended != (locked.ended_at is not None):
        locked.ended_at = max(timezone.now(), locked.began_at) if ended else None
        locked.save(update_fields=["ended_at"])
    audit.record(
        organization=None,
        actor=actor,
        action="incident.told",
        target=str(locked),
        reason=reason,
        data={"state": state},
    )
    return update
