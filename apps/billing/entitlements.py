"""What an organization's plan gives it now. By date arithmetic alone: no task has to run for a grace period to end."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.utils.translation import gettext_noop

from apps.core.sql import Plan, Statement

PAY_AS_YOU_GO = gettext_noop("Pay as you go")

# In force: active, or overdue for less than the grace period, and not past the end that was asked for. A cheaper plan
# begins when the month of the dearer one, which was paid, is over.
IN_FORCE = """
SELECT s.organization_id, p.title, p.reserved_slots, p.max_open_jobs, p.requests_per_minute, p.input_tokens_per_minute,
    p.output_tokens_per_minute, p.concurrent_requests, p.batch_input_tokens
FROM billing_subscription s
JOIN billing_plan p ON p.id = CASE WHEN s.kept_until > %(now)s::timestamptz THEN s.kept_plan_id ELSE s.plan_id END
WHERE (s.state = 'active' OR s.state = 'past_due' AND s.past_due_since > %(now)s::timestamptz - %(grace)s::interval)
  AND NOT (s.cancel_at_period_end AND s.period_end_at <= %(now)s::timestamptz)
"""
OF = f"""
SELECT coalesce(p.title, %(title)s::text) AS title, coalesce(p.reserved_slots, 0)::int AS reserved_slots,
    coalesce(p.max_open_jobs, %(open)s::int) AS max_open_jobs,
    coalesce(p.requests_per_minute, %(requests)s::bigint) AS requests_per_minute,
    coalesce(p.input_tokens_per_minute, %(input_tokens)s::bigint) AS input_tokens_per_minute,
    coalesce(p.output_tokens_per_minute, %(output_tokens)s::bigint) AS output_tokens_per_minute,
    coalesce(p.concurrent_requests, %(concurrent)s::bigint) AS concurrent_requests,
    coalesce(p.batch_input_tokens, %(batch_input_tokens)s::bigint) AS batch_input_tokens
FROM (SELECT %(organization)s::uuid AS id) o LEFT JOIN ({IN_FORCE}) p ON p.organization_id = o.id
"""  # noqa: S608 - a constant goes in


@dataclass(frozen=True, slots=True)
class Entitlement:
    """`max_open_jobs` counts jobs that have not ended; `reserved_slots` of them never wait behind other organizations.

    The rate limits are those of an organization for which staff set none; None is no limit. `batch_input_tokens` are the
    most that its batches of one model may have waiting together.
    """

    title: str
    reserved_slots: int
    max_open_jobs: int
    requests_per_minute: int | None = None
    input_tokens_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    concurrent_requests: int | None = None
    batch_input_tokens: int | None = None


def params(now: datetime) -> dict[str, object]:
    """Of `IN_FORCE`."""
    return {"now": now, "grace": grace()}


def params_of(organization_id: UUID, now: datetime) -> dict[str, object]:
    """Of `OF`, which gives one row whatever the organization has."""
    return {
        **params(now),
        "organization": organization_id,
        "title": PAY_AS_YOU_GO,
        "open": settings.PAYG_MAX_OPEN_JOBS,
        "batch_input_tokens": settings.BATCH_INPUT_TOKENS or None,
        **{name: figure or None for name, figure in settings.RATE_LIMITS.items()},
    }


def grace() -> timedelta:
    """How long an overdue payment leaves the plan as it was."""
    return timedelta(days=settings.SUBSCRIPTION_GRACE_DAYS)


def of(organization_id: UUID, now: datetime) -> Plan[Entitlement]:
    rows = yield Statement(OF, params_of(organization_id, now))
    return Entitlement(**rows[0])
