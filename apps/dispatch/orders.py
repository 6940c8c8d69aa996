"""The order of one attempt: made from what the job holds, carried by the pool's queue."""

import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from django.conf import settings
from psycopg.types.json import Jsonb

from apps.core import jsons
from apps.core.signing import sign
from apps.core.sql import Plan, Statement
from apps.files import services as files
from apps.runner import protocol
from apps.scheduling.placement import OUTSIDE, Candidate

BODY_PATH = "/agent/v1/bodies/{job}"

WRITE = """
INSERT INTO dispatch_order (job_id, attempt, queue, body, created_at)
VALUES (%(job)s, %(attempt)s, %(queue)s, %(body)s, clock_timestamp())
"""
# The same as a part of the statement that writes the job.
ORDERED = """
ordered AS (
    INSERT INTO dispatch_order (job_id, attempt, queue, body, created_at)
    SELECT id, attempt, %(queue)s, %(order)s, created_at FROM job RETURNING 1
)
"""


@dataclass(frozen=True, slots=True)
class Draft:
    """What an order needs of a job, whether the job is being admitted or taken from the backlog."""

    job_id: UUID
    kind: str
    engine_name: str
    request: dict[str, Any]
    max_completion_tokens: int
    file_id: UUID | None
    file_type: str
    shard: bool = False


def make(draft: Draft, *, attempt: int, pool: str, fence: UUID) -> protocol.Order:
    """A body above 64 kB travels as a signed URL; a file always does. Both end with the order's deadline."""
    now = time.time()
    deadline = now + settings.RUN_SECONDS
    inline = not draft.shard and len(jsons.encoded(draft.request, errors="surrogatepass")) <= protocol.INLINE_BYTES
    path = BODY_PATH.format(job=draft.job_id)
    return protocol.Order(
        job=str(draft.job_id),
        attempt=attempt,
        fence=str(fence),
        pool=pool,
        kind=draft.kind,  # type: ignore[arg-type]
        model=draft.engine_name,
        body=draft.request if inline else None,
        body_url=None if inline else sign(path, expires=int(deadline), secret=settings.SECRET_KEY),
        file_url=files.sign(draft.file_id, seconds=settings.RUN_SECONDS) if draft.file_id else None,
        file_type=draft.file_type or None,
        max_completion_tokens=draft.max_completion_tokens,
        shard=draft.shard,
        expires_at=now + settings.DISPATCH_LEASE_SECONDS,
        deadline_at=deadline,
    )


def write(order: protocol.Order) -> Plan[None]:
    """Put the order into the outbox, in the transaction that leases the job."""
    yield Statement(
        WRITE,
        {
            "job": UUID(order.job),
            "attempt": order.attempt,
            "queue": protocol.queue(order.pool),
            "body": stored(order),
        },
    )


def beside(order: protocol.Order) -> dict[str, Any]:
    """Of `ORDERED`."""
    return {"queue": protocol.queue(order.pool), "order": stored(order)}


def stored(order: protocol.Order) -> Jsonb:
    """As the outbox holds it: what was asked is with the job, encrypted, and `outbox.unclaimed` puts it in again."""
    return Jsonb(order.model_dump(mode="json", exclude={"body"}))


def draft_changes(candidate: Candidate, candidates: list[Candidate], fence: UUID) -> dict[str, Any]:
    """The job's columns that a placement sets; host, PUE and grid factors are frozen here."""
    return {
        "fence": fence,
        "pool_id": candidate.pool.id,
        "energy_factor": candidate.pool.energy_factor,
        "grid_gco2e_per_kwh": candidate.pool.grid_gco2e_per_kwh,
        "market_gco2e_per_kwh": candidate.pool.market_gco2e_per_kwh,
        "placement": {"chosen": candidate.pool.code, "candidates": [each.record() for each in candidates]},
    }


def reason(candidate: Candidate, candidates: list[Candidate]) -> str:
    """Why this site, for the customer."""
    eligible = [each for each in candidates if not each.refusal and each.pool.trusted >= candidate.pool.trusted]
    where = " in the allowed places" if any(each.refusal == OUTSIDE for each in candidates) else ""
    if len(eligible) == 1:
        return f"{candidate.pool.site} is the one site ready for this model{where}"
    return f"{candidate.pool.site} has the lowest cost of power of {len(eligible)} ready pools{where} with a free slot"


new_fence = uuid4
