"""What runners report of a batch's rows, and its money: each row counts once, whoever reports it and however often."""

from __future__ import annotations

import base64
import logging
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any
from uuid import UUID

from django.conf import settings
from psycopg.types.json import Jsonb

from apps.batches import ending, news, shards, statements
from apps.batches.endpoints import ENDPOINTS, Answered, usage_of
from apps.batches.models import about_row
from apps.catalog import offers
from apps.catalog.models import Tier
from apps.catalog.prices import Price, Terms
from apps.core.ids import public
from apps.core.sql import Plan, Row, Statement
from apps.dispatch import finishing, outcomes, reporting
from apps.dispatch.finishing import LEASED
from apps.dispatch.outcomes import Outcome
from apps.files import sealing
from apps.jobs import statements as jobs
from apps.jobs.models import FINAL
from apps.ledger import statements as ledger
from apps.runner.protocol import Failure, Report, RowResult

log = logging.getLogger(__name__)

TAKING = ("in_progress", "finalizing", "cancelling")  # rows of a batch that is being stopped are kept

SHARD = """
SELECT s.first_line, s.lines, s.ceilings_microusd, m.name AS model FROM batches_shard s
JOIN batches_batch b ON b.id = s.batch_id JOIN catalog_model m ON m.id = b.model_id WHERE s.job_id = %(job)s
"""
INSERT = f"""
WITH inserted AS (
    INSERT INTO batches_row (batch_id, line, job_id, status, prompt_tokens, cached_prompt_tokens, completion_tokens,
        charge_microusd, gpu_energy_mj, energy_wh, carbon_gco2e, carbon_market_gco2e, sealed_body, at)
    SELECT %(batch)s::uuid, line, %(job)s::uuid, status, prompt_tokens, cached_prompt_tokens, completion_tokens,
        charge_microusd, gpu_energy_mj, energy_wh, carbon_gco2e, carbon_market_gco2e, decode(body, 'base64'), statement_timestamp()
    FROM jsonb_to_recordset(%(rows)s) AS (line int, status int, prompt_tokens int, cached_prompt_tokens int,
        completion_tokens int, charge_microusd bigint, gpu_energy_mj bigint, energy_wh float8, carbon_gco2e float8,
        carbon_market_gco2e float8, body text)
    ORDER BY line
    ON CONFLICT (batch_id, line) DO NOTHING
    RETURNING line, status, prompt_tokens, cached_prompt_tokens, completion_tokens, charge_microusd, gpu_energy_mj, energy_wh, carbon_gco2e,
        carbon_market_gco2e
), sums AS (
    SELECT count(*)::int AS count, min(line) AS first, count(*) FILTER (WHERE status = 200)::int AS completed,
        coalesce(sum(prompt_tokens), 0)::bigint AS prompt_tokens, coalesce(sum(cached_prompt_tokens), 0)::bigint AS cached_prompt_tokens,
        coalesce(sum(completion_tokens), 0)::bigint AS completion_tokens, coalesce(sum(charge_microusd), 0)::bigint AS charge_microusd,
        sum(gpu_energy_mj)::bigint AS gpu_energy_mj, sum(energy_wh) AS energy_wh, sum(carbon_gco2e) AS carbon_gco2e,
        {statements.BY_MARKET} AS carbon_market_gco2e
    FROM inserted
), counted AS (
    UPDATE batches_batch b SET
        version = version + 1, completed = b.completed + sums.completed, failed = b.failed + sums.count - sums.completed,
        prompt_tokens = b.prompt_tokens + sums.prompt_tokens, cached_prompt_tokens = b.cached_prompt_tokens + sums.cached_prompt_tokens,
        completion_tokens = b.completion_tokens + sums.completion_tokens, charge_microusd = b.charge_microusd + sums.charge_microusd,
        gpu_energy_mj = CASE WHEN sums.gpu_energy_mj IS NULL THEN b.gpu_energy_mj ELSE coalesce(b.gpu_energy_mj, 0) + sums.gpu_energy_mj END,
        energy_wh = CASE WHEN sums.energy_wh IS NULL THEN b.energy_wh ELSE coalesce(b.energy_wh, 0) + sums.energy_wh END,
        carbon_gco2e = CASE WHEN sums.carbon_gco2e IS NULL THEN b.carbon_gco2e ELSE coalesce(b.carbon_gco2e, 0) + sums.carbon_gco2e END,
        carbon_market_gco2e = CASE WHEN coalesce(b.carbon_market_gco2e, sums.carbon_market_gco2e) IS NOT NULL THEN
            coalesce(b.carbon_market_gco2e, b.carbon_gco2e, 0) + coalesce(sums.carbon_market_gco2e, sums.carbon_gco2e, 0) END
    FROM sums WHERE b.id = %(batch)s::uuid AND sums.count > 0
)
SELECT count, first, charge_microusd FROM sums
"""  # noqa: S608 - a constant goes in
MISSING = """
SELECT line FROM generate_series(%(first)s::int, %(first)s::int + %(lines)s::int - 1) AS line
WHERE NOT EXISTS (SELECT FROM batches_row r WHERE r.batch_id = %(batch)s::uuid AND r.line = line.line)
"""
FRUITLESS = """
SELECT count(DISTINCT e.attempt)::int AS attempts FROM jobs_event e
WHERE e.job_id = %(job)s AND e.state = 'dispatched'
AND e.at > coalesce((SELECT max(r.at) FROM batches_row r WHERE r.job_id = %(job)s), '-infinity')
AND NOT EXISTS (
    SELECT FROM jobs_event u WHERE u.job_id = e.job_id AND u.attempt = e.attempt AND u.state = 'queued' AND u.data ? 'untaken'
)
"""


@dataclass(frozen=True, slots=True)
class Taken:
    """What became of a report. `ready`: the batch whose files are to be written now."""

    outcome: Outcome
    ready: UUID | None = None


REFUSED = Taken(outcomes.REFUSED)


def row_id(batch_id: UUID, line: int) -> UUID:
    """One id for each line of a batch, as old as the batch: RFC 9562 version 7, its random bits from a digest."""
    digest = int.from_bytes(blake2b(f"{batch_id}:{line}".encode(), digest_size=10).digest())
    value = batch_id.int >> 80 << 80 | 0x7 << 76 | (digest >> 68) << 64 | 0b10 << 62 | digest & (1 << 62) - 1
    return UUID(int=value)


def report(told: Report, *, node_id: int | None = None) -> Plan[Taken]:
    """Take the rows of a report, and the end of its shard. Repeating it changes nothing and is accepted again.

    Locks the shard's job, then the batch, then the rows, and touches the account last.
    """
    job = yield from jobs.lock(UUID(told.job))
    if job is None or job["batch_id"] is None or not reporting.names_the_attempt(job, told, node_id):
        return REFUSED
    if job["state"] in FINAL:
        return Taken(Outcome(accepted=job["claimant"] == told.claimant))
    if job["claimant"] not in ("", told.claimant) or job["state"] not in LEASED:
        return REFUSED
    if job["state"] == "dispatched":  # its `started` is still on the way
        yield from reporting.start(job, told)
        job = yield from jobs.lock(job["id"])
        assert job is not None
    batch = yield from statements.lock(job["batch_id"])
    if batch is None or batch["state"] not in TAKING:
        return REFUSED
    shard = (yield Statement(SHARD, {"job": job["id"]}))[0]
    charge = yield from record(job, batch, shard, rows_of(told, job, batch, shard, offers.price_of(job["price"])))
    ready, freed = None, None
    if told.kind == "finished":
        freed = finishing.slot_of(job)
        ready = yield from conclude(job, batch, shard, told)
    if charge is not None:
        yield from charged(batch, *charge)
    return Taken(Outcome(accepted=True, topics=news.topics(batch["id"], batch["organization_id"]), freed=freed), ready)


def record(job: Row, batch: Row, shard: Row, rows: list[dict[str, Any]]) -> Plan[tuple[int, int] | None]:
    """Write what is new of these rows, and count it. Returns the first new line and what the new ones cost together."""
    rows = [row for row in rows if 0 <= row["line"] - shard["first_line"] < shard["lines"]]
    if not rows:
        return None
    sums = (
        yield Statement(
            INSERT, {"batch": batch["id"], "job": job["id"], "rows": Jsonb([stored(batch["id"], row) for row in rows])}
        )
    )[0]
    return (sums["first"], sums["charge_microusd"]) if sums["count"] else None


def stored(batch_id: UUID, row: dict[str, Any]) -> dict[str, Any]:
    sealed = sealing.seal_json(jobs.storable(row["body"]), about_row(batch_id, row["line"]))
    return {**row, "body": base64.b64encode(sealed).decode()}


def charged(batch: Row, first_line: int, microusd: int) -> Plan[None]:
    """One transfer for the rows of one report. A line is new once, so the first of them names the part for ever."""
    if not microusd:
        return
    settlement = yield from ledger.charge(shards.hold_key(batch["id"]), microusd, f"line:{first_line}")
    if settlement.repeated or settlement.charged_microusd != microusd:  # then none of it may stand
        raise RuntimeError(f"rows of {batch['id']} from line {first_line} were not charged")


def rows_of(told: Report, job: Row, batch: Row, shard: Row, price: Price) -> list[dict[str, Any]]:
    """The rows of a report as they are written. A line that is named twice counts as it was named first."""
    terms = Terms(Tier.BATCH.value, batch["discount_basis_points"])
    found: dict[int, dict[str, Any]] = {}
    for result in told.rows:
        place = result.line - shard["first_line"]
        if result.line not in found and 0 <= place < shard["lines"]:
            charge = cost_of(result, batch, price, terms, shard["ceilings_microusd"][place])
            found[result.line] = row_of(result, job, batch, charge, model=shard["model"], at=told.at)
    return list(found.values())


def cost_of(result: RowResult, batch: Row, price: Price, terms: Terms, ceiling: int) -> int:
    """What a row is charged: its usage, never above what was held for it; an excess is ours."""
    usage = finishing.bounded(result.usage)
    if result.failure is not None or not finishing.any_usage(usage):
        return 0
    cost = price.charge_microusd(
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        pages=0,
        cached_prompt_tokens=usage.cached_prompt_tokens,
        terms=terms,
    )
    if cost > ceiling:
        log.error(
            "a row's cost is above its ceiling",
            extra={"batch": public("batch", batch["id"]), "line": result.line, "excess_microusd": cost - ceiling},
        )
    return min(cost, ceiling)


def row_of(result: RowResult, job: Row, batch: Row, charge_microusd: int, *, model: str, at: float) -> dict[str, Any]:
    gpu_energy_mj = None if result.gpu_energy_mj is None else max(result.gpu_energy_mj, 0)
    energy_wh = None if gpu_energy_mj is None else gpu_energy_mj / 3_600_000 * (job["energy_factor"] or 1)
    carbon = None if energy_wh is None else energy_wh / 1000 * (job["grid_gco2e_per_kwh"] or 0)
    by_contract = job["market_gco2e_per_kwh"]
    market = None if energy_wh is None or by_contract is None else energy_wh / 1000 * by_contract
    measured = {"energy_wh": energy_wh, "carbon_gco2e": carbon, "carbon_market_gco2e": market}
    used = {"gpu_energy_mj": gpu_energy_mj, **measured}
    if result.failure is not None:
        return {**failed(result.line, result.failure), **used}
    usage = finishing.bounded(result.usage)
    settled = {"cost_microusd": charge_microusd, **measured}
    answer = ENDPOINTS[batch["endpoint"]].answer(
        Answered(
            row_id=row_id(batch["id"], result.line),
            model=model,
            result=result,
            usage=usage_of(usage, settled),
            site=job["site"],
            at=int(at),
        )
    )
    return {
        "line": result.line,
        "status": 200,
        "prompt_tokens": usage.prompt_tokens,
        "cached_prompt_tokens": usage.cached_prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "charge_microusd": charge_microusd,
        **used,
        "body": answer,
    }


def failed(line: int, failure: Failure) -> dict[str, Any]:
    """A row that failed: it costs nothing, whatever was computed for it. The energy of that is counted all the same."""
    status = failure.status if 400 <= failure.status < 600 else 500
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {
        "line": line,
        "status": status,
        "prompt_tokens": 0,
        "cached_prompt_tokens": 0,
        "completion_tokens": 0,
        "charge_microusd": 0,
        "gpu_energy_mj": None,
        "energy_wh": None,
        "carbon_gco2e": None,
        "carbon_market_gco2e": None,
        "body": {
            "error": {
                "message": failure.message[:500],
                "type": kind,
                "param": failure.param,
                "code": failure.code[:64],
            }
        },
    }


def conclude(job: Row, batch: Row, shard: Row, told: Report) -> Plan[UUID | None]:
    """The end of a shard's attempt: it is done when its rows are. Returns the batch whose files are to be written now."""
    missing = yield Statement(MISSING, {"batch": batch["id"], "first": shard["first_line"], "lines": shard["lines"]})
    failure = told.failure or Failure(
        code="server_error", message="The site did not do all of it.", status=503, retryable=True
    )
    if not missing:
        yield from ending.close_shard(job, "succeeded", "Finished", claimant=told.claimant, quality=told.quality)
    elif batch["state"] != "in_progress":
        state = "expired" if batch["ending"] == "expired" else "cancelled"
        yield from ending.close_shard(
            job, state, "Stopped; what was finished is kept and charged", claimant=told.claimant, quality=told.quality
        )
    elif (yield from fruitless(job)) < settings.BATCH_SHARD_ATTEMPTS:
        yield from finishing.again(job, f"Attempt {job['attempt']} ended: {failure.message}")
        return None
    else:
        yield from give_up(job, batch, shard, failure, claimant=told.claimant)
    return (yield from ending.advance(batch["id"]))


def fruitless(job: Row) -> Plan[int]:
    """How many attempts of a shard a runner has taken since the last of its rows was recorded: that one moved it on."""
    attempts: int = (yield Statement(FRUITLESS, {"job": job["id"]}))[0]["attempts"]
    return attempts


def give_up(job: Row, batch: Row, shard: Row, failure: Failure, *, claimant: str = "") -> Plan[None]:
    """End a shard that was tried often enough: the rows that are missing fail, at no cost."""
    missing = yield Statement(MISSING, {"batch": batch["id"], "first": shard["first_line"], "lines": shard["lines"]})
    yield from record(job, batch, shard, [failed(row["line"], failure) for row in missing])
    yield from ending.close_shard(job, "failed", f"{failure.message} Rows that were missing failed.", claimant=claimant)
