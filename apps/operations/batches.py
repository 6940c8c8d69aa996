"""Ledger against batches: every row costs what its usage does, and rows, shards, batch and hold say the same sum."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Any

from django.db import connection

from apps.catalog.models import PriceVersion, Tier
from apps.catalog.prices import Price, Terms
from apps.core.ids import public
from apps.operations.differences import Found, Item

PART = 1000
RECENT = "(%(since)s::timestamptz IS NULL OR b.expires_at >= %(since)s::timestamptz)"  # it ended at its window's end or before

HOLDS = f"""
SELECT b.id, b.organization_id, c.says, c.expected::text, c.found::text
FROM batches_batch b LEFT JOIN ledger_hold h ON h.key = 'batch:' || b.id
CROSS JOIN LATERAL (VALUES
    ('a batch has a hold from its start to its end',
        CASE WHEN b.in_progress_at IS NULL THEN 'missing' WHEN b.state IN ('completed', 'expired', 'cancelled') THEN 'ended' ELSE 'open' END,
        CASE WHEN h.state IS NULL THEN 'missing' WHEN h.state = 'open' THEN 'open' ELSE 'ended' END),
    ('a batch and its hold have one organization', b.organization_id::text, coalesce(h.organization_id, b.organization_id)::text),
    ('the hold is what the batch says was held', b.hold_microusd::text, coalesce(h.promotional_microusd + h.credit_microusd, 0)::text),
    ('the ledger took what the batch says was charged', b.charge_microusd::text,
        coalesce(h.promotional_charged_microusd + h.credit_charged_microusd, 0)::text),
    ('no row passes its ceiling, so no batch its hold', '0', coalesce(h.overrun_microusd, 0)::text)
) AS c (says, expected, found)
WHERE {RECENT} AND c.expected <> c.found
"""  # noqa: S608 - a constant goes in
SUMS = f"""
SELECT b.id, b.organization_id, c.says, c.expected::text, c.found::text
FROM batches_batch b LEFT JOIN (
    SELECT batch_id, sum(charge_microusd) AS charge, count(*) FILTER (WHERE status = 200) AS completed,
        count(*) FILTER (WHERE status <> 200) AS failed, sum(prompt_tokens) AS prompt, sum(completion_tokens) AS completion,
        sum(gpu_energy_mj) AS energy
    FROM batches_row GROUP BY batch_id
) r ON r.batch_id = b.id
CROSS JOIN LATERAL (VALUES
    ('a batch is charged what its rows are', coalesce(r.charge, 0), b.charge_microusd::numeric),
    ('a batch has completed as many rows as it has', coalesce(r.completed, 0), b.completed),
    ('as many rows of a batch failed as it has', coalesce(r.failed, 0), b.failed),
    ('a batch read what its rows did', coalesce(r.prompt, 0), b.prompt_tokens),
    ('a batch wrote what its rows did', coalesce(r.completion, 0), b.completion_tokens),
    ('a batch used the energy its rows did', coalesce(r.energy, 0), coalesce(b.gpu_energy_mj, 0))
) AS c (says, expected, found)
WHERE {RECENT} AND c.expected <> c.found
"""  # noqa: S608 - a constant goes in
SHARDS = f"""
SELECT j.id, j.organization_id, c.says, c.expected::text, c.found::text
FROM jobs_job j JOIN batches_batch b ON b.id = j.batch_id LEFT JOIN (
    SELECT job_id, sum(charge_microusd) AS charge, count(*) AS rows FROM batches_row GROUP BY job_id
) r ON r.job_id = j.id
CROSS JOIN LATERAL (VALUES
    ('a shard that ended was charged what its rows were', coalesce(r.charge, 0), j.charge_microusd::numeric),
    ('a shard that ended counts its rows', coalesce(r.rows, 0), CASE WHEN j.finished_at IS NULL THEN NULL ELSE j.rows END),
    ('no shard is open once its batch has ended', 0, (j.finished_at IS NULL AND b.state IN ('completed', 'expired', 'cancelled', 'failed'))::int)
) AS c (says, expected, found)
WHERE {RECENT} AND c.expected <> c.found
"""  # noqa: S608 - a constant goes in
HOMELESS = """
SELECT j.id, j.organization_id, 'a shard belongs to a batch', 'a batch', 'none' FROM jobs_job j
LEFT JOIN batches_shard s ON s.job_id = j.id WHERE j.batch_id IS NOT NULL AND s.batch_id IS DISTINCT FROM j.batch_id
UNION ALL
SELECT h.id, h.organization_id, 'a hold belongs to a batch', 'a batch', h.key FROM ledger_hold h
LEFT JOIN batches_batch b ON 'batch:' || b.id = h.key WHERE h.key LIKE 'batch:%%' AND b.id IS NULL
"""
ROWS = f"""
SELECT b.id, b.organization_id, r.line, r.status, b.price_id, b.discount_basis_points, r.prompt_tokens, r.cached_prompt_tokens,
    r.completion_tokens, r.charge_microusd, s.ceilings_microusd[r.line - s.first_line + 1] AS ceiling
FROM batches_row r JOIN batches_batch b ON b.id = r.batch_id JOIN batches_shard s ON s.job_id = r.job_id
WHERE {RECENT}
"""  # noqa: S608 - a constant goes in

item = partial(Item, "batches")


def compare(found: Found, *, since: datetime | None) -> None:
    """In the caller's transaction. `since`: batches whose window ended before it are left out."""
    for check, sql in (("hold", HOLDS), ("rows", SUMS), ("shard", SHARDS), ("owner", HOMELESS)):
        for subject, organization_id, says, expected, is_ in fetched(sql, since):
            prefix = "job" if check in ("shard", "owner") else "batch"
            found.differs(item(check, public(prefix, subject), public("org", organization_id), expected, is_, says))
    prices = {price.pk: Price.of(price) for price in PriceVersion.objects.all()}
    found.checked["batch_rows"] = compare_rows(found, prices, since)


def compare_rows(found: Found, prices: dict[int, Price], since: datetime | None) -> int:
    count = 0
    for (
        batch_id,
        organization_id,
        line,
        status,
        price_id,
        discount,
        prompt,
        cached,
        completion,
        charge,
        ceiling,
    ) in fetched(ROWS, since):
        count += 1
        cost = 0
        if status == 200 and (prompt or completion):
            cost = prices[price_id].charge_microusd(
                prompt_tokens=prompt,
                completion_tokens=completion,
                pages=0,
                cached_prompt_tokens=cached,
                terms=Terms(Tier.BATCH.value, discount),
            )
        if charge != min(cost, ceiling):
            subject = f"{public('batch', batch_id)} line {line}"
            says = "a row costs usage × price × tier × discount, within its ceiling"
            found.differs(
                item("usage", subject, public("org", organization_id), str(min(cost, ceiling)), str(charge), says)
            )
    return count


def fetched(sql: str, since: datetime | None) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, {"since": since})
        while part := cursor.fetchmany(PART):
            yield from part
