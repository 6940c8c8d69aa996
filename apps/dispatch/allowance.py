"""What an organization's plan allows of its next request: how many jobs it may have open, and slots that are its own."""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from apps.billing import entitlements
from apps.core.errors import PortalError
from apps.core.sql import Plan, Row, Statement
from apps.keys import rates
from apps.keys.rates import Limit
from apps.keys.services import Caller
from cango_portal import database

# Counted no further than the answer needs, through the index of open jobs.
STANDING = f"""
SELECT e.title, e.reserved_slots, e.max_open_jobs,
    ARRAY[e.requests_per_minute, e.input_tokens_per_minute, e.output_tokens_per_minute, e.concurrent_requests] AS usual,
    (SELECT count(*) FROM (
        SELECT FROM jobs_job WHERE organization_id = %(organization)s AND state IN ('queued', 'dispatched', 'running')
          AND batch_id IS NULL LIMIT e.max_open_jobs
    ) open)::int AS open,
    (SELECT count(*) FROM (
        SELECT FROM jobs_job WHERE organization_id = %(organization)s AND state IN ('dispatched', 'running')
          AND batch_id IS NULL LIMIT e.reserved_slots
    ) leased)::int AS leased,
    ({rates.OF}) AS rates
FROM ({entitlements.OF}) e
"""  # noqa: S608 - a constant goes in

SHOWN_SECONDS, SHOWN_AT_MOST = 5, 10_000
shown: dict[tuple[UUID, UUID | None], tuple[float, list[Limit]]] = {}  # until when, and the limits, of whom


class TooManyOpenJobs(PortalError):
    """The plan's number of jobs that have not ended is reached. Nothing was accepted or held."""

    code, status, type = "too_many_open_jobs", 429, "rate_limit_error"


@dataclass(frozen=True, slots=True)
class Standing:
    """`open` jobs have not ended, `leased` of them have a slot; both are counted up to the limits beside them.

    `usual` are the rate limits of the plan, `rates` the rows that staff or the key's maker set.
    """

    title: str
    reserved_slots: int
    max_open_jobs: int
    open: int
    leased: int
    usual: list[int | None]
    rates: list[Row] | None

    def rate_limits(self, caller: Caller) -> list[Limit]:
        return rates.limits(caller, self.rates, usual=self.usual)

    @property
    def has_slot_of_its_own(self) -> bool:
        return self.leased < self.reserved_slots

    def admit_one(self) -> None:
        if self.open >= self.max_open_jobs:
            raise TooManyOpenJobs(
                f"This organization has {self.max_open_jobs:,} jobs that have not ended, the most that its plan "
                f"“{self.title}” allows. Nothing was accepted or charged. Wait until some have ended, or take a larger "
                "plan on the Billing page.",
                retry_after_seconds=5,
            )


def params(caller: Caller, model: str | None = None, tier: str = "") -> dict[str, object]:
    """Of `STANDING`. Its `rates` are the rows of the rate limits that count for a request for this model and tier."""
    return {
        **entitlements.params_of(caller.organization_id, datetime.now(UTC)),
        "api_key": caller.api_key_id,
        "model": model,
        "tier": tier,
    }


def standing(caller: Caller) -> Plan[Standing]:
    """Whatever the model."""
    rows = yield Statement(STANDING, params(caller), alone=True)
    return Standing(**rows[0])


async def windows_async(caller: Caller) -> tuple[rates.Window, ...]:
    """What the caller's rate limits have counted, whatever the model. Counts nothing, and costs one look at Valkey.

    For showing only: which limits there are may be as old as SHOWN_SECONDS. Admission reads them anew.
    """
    who, now = (caller.organization_id, caller.api_key_id), time.monotonic()
    until, limits = shown.get(who, (0.0, []))
    if until <= now:
        limits = (await database.run_async(standing(caller))).rate_limits(caller)
        if len(shown) >= SHOWN_AT_MOST:
            shown.clear()
        shown[who] = now + SHOWN_SECONDS, limits
    return await rates.look_async(limits)
