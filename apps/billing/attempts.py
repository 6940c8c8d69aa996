"""What an automatic payment's outcome means for the next one: a pause that grows, and an end after three failures."""

from datetime import timedelta

from django.utils import timezone

from apps.accounts import audit
from apps.accounts.models import Organization
from apps.billing import mail, news
from apps.billing.models import AutomaticTopUp, TopUp

MOST_FAILURES = 3
FIRST_PAUSE = timedelta(hours=1)


def succeeded(top_up: TopUp) -> None:
    """A payment by card went through: what failed before is forgotten. What was switched off stays off."""
    AutomaticTopUp.objects.filter(organization=top_up.organization_id).update(
        failures=0, next_try_at=None, needs_authentication=False
    )


def failed(top_up: TopUp, reason: str, *, authentication: bool = False) -> bool:
    """End an open automatic top-up that was not paid; count it, once. False where it was not open any more.

    Locks the top-up, then the settings. `reason` is shown to the customer.
    """
    row = TopUp.objects.select_for_update().get(pk=top_up.pk)
    if row.state != TopUp.State.OPEN:
        return False
    row.state, row.failure, row.ended_at = TopUp.State.FAILED, reason[:300], timezone.now()
    row.save(update_fields=["state", "failure", "ended_at"])
    news.top_up(row)
    settings = AutomaticTopUp.objects.select_for_update().filter(organization=row.organization_id).first()
    if settings is None:
        return True
    settings.failures = min(settings.failures + 1, 100)
    settings.needs_authentication = settings.needs_authentication or authentication
    settings.next_try_at = timezone.now() + FIRST_PAUSE * 2 ** (min(settings.failures, MOST_FAILURES) - 1)
    settings.save()
    if settings.enabled and settings.failures >= MOST_FAILURES:
        stop(row.organization, f"{MOST_FAILURES} payments in a row failed. The last one: {row.failure}")
    else:
        template = "authentication_required" if authentication else "automatic_failed"
        mail.to_payers(row.organization, template, top_up=row, settings=settings)
    return True


def stop(organization: Organization, reason: str) -> bool:
    """Switch automatic top-up off and say why, by mail too. False where it was off."""
    settings = AutomaticTopUp.objects.select_for_update().filter(organization=organization, enabled=True).first()
    if settings is None:
        return False
    settings.enabled, settings.stopped_reason, settings.next_try_at = False, reason[:300], None
    settings.save()
    audit.record(
        organization=organization,
        actor=None,
        action="automatic_top_up.stopped",
        target=organization.public_id,
        reason=reason,
    )
    mail.to_payers(organization, "automatic_stopped", settings=settings)
    return True
