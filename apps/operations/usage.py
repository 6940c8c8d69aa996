"""Ledger against jobs: each job was charged what its usage costs, out of a hold of its own that ended with it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from functools import partial
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

from django.db import connection

from apps.catalog.models import PriceVersion
from apps.catalog.prices import Price, Terms
from apps.core.ids import public
from apps.jobs.models import FINAL, Job
from apps.ledger.models import Hold
from apps.operations.differences import Found, Item

CHUNK = 1000
HELD = "job:"  # how the key of a job's hold begins

T = TypeVar("T")

OPEN_WITHOUT_HOLD = """
SELECT j.id, j.organization_id, j.state, coalesce(h.state, 'missing') AS hold FROM jobs_job j
LEFT JOIN ledger_hold h ON h.key = 'job:' || j.id
WHERE j.state IN ('queued', 'dispatched', 'running') AND j.batch_id IS NULL AND h.state IS DISTINCT FROM 'open'
"""
HOLD_WITHOUT_JOB = """
SELECT h.key, h.organization_id, h.state FROM ledger_hold h LEFT JOIN jobs_job j ON 'job:' || j.id = h.key
WHERE j.id IS NULL AND (h.key LIKE 'job:%' OR h.state = 'open') AND h.key NOT LIKE 'batch:%'
"""

item = partial(Item, "jobs")


def compare(found: Found, *, since: datetime | None) -> None:
    """In the caller's transaction. `since` is the end of a job; open jobs and holds are always all compared.

    Shards of batches have no hold of their own: `operations.batches` compares them.
    """
    prices = {price.pk: Price.of(price) for price in PriceVersion.objects.all()}
    ended = Job.objects.filter(state__in=FINAL, batch_id__isnull=True)
    if since:
        ended = ended.filter(finished_at__gte=since)
    count = 0
    for jobs in chunks(ended.order_by().iterator(chunk_size=CHUNK), CHUNK):
        count += len(jobs)
        holds = Hold.objects.in_bulk([f"{HELD}{job.pk}" for job in jobs], field_name="key")
        for job in jobs:
            compare_job(found, job, holds.get(f"{HELD}{job.pk}"), prices[job.price_id])
    found.checked["ended_jobs"] = count
    found.checked["open_jobs"] = Job.objects.open().filter(batch_id__isnull=True).count()
    for job_id, organization_id, state, hold in rows(OPEN_WITHOUT_HOLD):
        says = "a job that has not ended has an open hold"
        found.differs(item("hold", subject(job_id), name(organization_id), "open", f"{hold} ({state})", says))
    for key, organization_id, state in rows(HOLD_WITHOUT_JOB):
        found.differs(item("job", key, name(organization_id), "a job", f"none ({state})", "a hold belongs to a job"))


def compare_job(found: Found, job: Job, hold: Hold | None, price: Price) -> None:
    whose, what = name(job.organization_id), subject(job.pk)

    def differs(check: str, expected: object, is_: object, says: str) -> None:
        found.differs(item(check, what, whose, str(expected), str(is_), says))

    if hold is None or hold.state == Hold.State.OPEN:
        differs("hold", "ended", "open" if hold else "missing", "a job is admitted with a hold, which ends with it")
        return
    if hold.organization_id != job.organization_id:
        differs("organization", whose, name(hold.organization_id), "a job and its hold have one organization")
    if hold.amount_microusd != job.hold_microusd:
        differs("hold", job.hold_microusd, hold.amount_microusd, "the hold is what the job says was held")
    if hold.charged_microusd != job.charge_microusd:
        differs("charge", job.charge_microusd, hold.charged_microusd, "the ledger took what the job says was charged")
    costs = costs_of(job, price)
    charges = [min(cost, hold.amount_microusd) for cost in costs]
    if job.charge_microusd not in charges:
        expected = " or ".join(str(charge) for charge in sorted(set(charges)))
        differs(
            "usage", expected, job.charge_microusd, "the charge is usage × price × tier × discount, within the hold"
        )
    elif hold.overrun_microusd not in [cost - charge for cost, charge in zip(costs, charges, strict=True)]:
        expected = " or ".join(str(max(cost - hold.amount_microusd, 0)) for cost in costs)
        differs("overrun", expected, hold.overrun_microusd, "what the cost passes the hold by is ours")
    if hold.overrun_microusd:
        says = "a cost passed its hold: charged to the house"
        amounts = (str(hold.amount_microusd), str(hold.charged_microusd + hold.overrun_microusd))
        found.overran(item("overrun", what, whose, *amounts, says), hold.overrun_microusd)


def costs_of(job: Job, price: Price) -> list[int]:
    """What a job may have cost: a failed one all or nothing, as it had delivered or not; one that never ran, nothing."""
    if job.state == Job.State.EXPIRED or not (job.prompt_tokens or job.completion_tokens or job.pages):
        return [0]
    cost = price.charge_microusd(
        prompt_tokens=job.prompt_tokens,
        completion_tokens=job.completion_tokens,
        pages=job.pages,
        cached_prompt_tokens=job.cached_prompt_tokens,
        terms=Terms(job.tier, job.discount_basis_points),
    )
    if job.state != Job.State.FAILED:
        return [cost]
    return [cost, 0] if job.streaming else [0]


def rows(sql: str) -> Iterator[Any]:
    """Few rows in good books; many are fetched in parts."""
    with connection.cursor() as cursor:
        cursor.execute(sql)
        while part := cursor.fetchmany(CHUNK):
            yield from part


def chunks(things: Iterable[T], size: int) -> Iterator[list[T]]:
    iterator = iter(things)
    while chunk := list(islice(iterator, size)):
        yield chunk


def subject(job_id: UUID) -> str:
    return public("job", job_id)


def name(organization_id: UUID) -> str:
    return public("org", organization_id)
