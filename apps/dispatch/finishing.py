"""How an attempt ended becomes the job's state and the customer's bill, in one transaction.

A job ends by a runner's report, or, where the runner was lost, by what its stream holds.
"""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from django.conf import settings

from apps.catalog import offers
from apps.catalog.prices import Terms
from apps.core.ids import public
from apps.core.sql import Plan, Row, Statement
from apps.dispatch.admission import hold_key, topics
from apps.dispatch.outcomes import Outcome, Used, unused
from apps.jobs import statements as jobs
from apps.ledger import statements as ledger
from apps.runner.protocol import Energy, Failure, Report, Usage
from apps.scheduling import slots
from apps.sites.power import gco2e
from apps.webhooks import statements as webhooks

# Of the statement that ends a job: its order is done with, and whoever waits may have its slot.
ENDED = (
    "gone AS (DELETE FROM dispatch_order WHERE job_id = (SELECT id FROM moved) RETURNING 1)",
    "notified AS (SELECT pg_notify('dispatch', '') FROM moved WHERE EXISTS (SELECT FROM jobs_job WHERE state = 'queued'))",
)
UNSETTLED = jobs.Beside()
LEASED = ("dispatched", "running")
MOST = 2**31 - 1  # what a count's column holds
RETRY_SECONDS = 10  # an interactive job that goes back to the queue waits at least so long for another site


@dataclass(frozen=True, slots=True)
class News:
    """How an attempt ended. `delivered`: the client has some of it, so it is not run again and what came is charged."""

    state: str
    usage: Usage
    energy: Energy | None
    failure: Failure | None
    delivered: bool
    claimant: str
    text: str = ""
    result: dict[str, Any] | None = None
    finish_reason: str = ""
    started_at: float | None = None
    first_token_at: float | None = None

    @classmethod
    def of(cls, report: Report) -> "News":
        return cls(
            state=report.state or "failed",
            usage=report.usage,
            energy=report.energy,
            failure=report.failure,
            delivered=report.streamed,
            claimant=report.claimant,
            text=report.text,
            result=report.result,
            finish_reason=report.finish_reason,
            started_at=report.started_at,
            first_token_at=report.first_token_at,
        )


def finish(job: Row, news: News) -> Plan[Outcome]:
    """End a locked, leased job, or send it back to the queue for another attempt."""
    freed = slot_of(job)
    told = topics(job["id"], job["organization_id"])
    state = news.state
    delivered = job["streaming"] and news.delivered
    if state == "failed" and job["cancel_requested_at"]:
        state = "cancelled"
    if (
        state == "failed"
        and news.failure
        and news.failure.retryable
        and not delivered
        and (yield from tries(job)) < settings.MAX_ATTEMPTS
    ):
        yield from again(job, f"Attempt {job['attempt']} ended: {news.failure.message}")
        return Outcome(accepted=True, topics=told, freed=freed)

    price = offers.price_of(job["price"])
    charged = state in ("succeeded", "cancelled") or delivered
    usage = bounded(news.usage)
    by = (yield from cancelled_by(job)) if state == "cancelled" else ""
    cost = (
        price.charge_microusd(
            prompt_tokens=usage.prompt_tokens,
            completion_tokens=usage.completion_tokens,
            pages=usage.pages,
            cached_prompt_tokens=usage.cached_prompt_tokens,
            terms=Terms(job["tier"], job["discount_basis_points"]),
        )
        if charged and any_usage(usage)
        else 0
    )
    ended = yield from end(
        job,
        state,
        cost_microusd=cost,
        reason=reason_of(state, news, delivered=delivered, by=by),
        claimants=("", news.claimant),
        claimant=news.claimant,
        prompt_tokens=usage.prompt_tokens,
        cached_prompt_tokens=usage.cached_prompt_tokens,
        completion_tokens=usage.completion_tokens,
        pages=usage.pages,
        finish_reason=news.finish_reason[:20],
        first_token_at=datetime.fromtimestamp(news.first_token_at, UTC) if news.first_token_at else None,
        **began(job, news),
        # An answer is kept where it was charged: what failed for free is not read on the job's page instead.
        content=jobs.Content(news.text if charged else "", news.result if charged else None),
        **energy_of(job, news.energy),
        **error_of(state, news.failure),
    )
    return Outcome(
        accepted=True,
        topics=told,
        freed=freed,
        overrun_microusd=ended.settlement.overrun_microusd,
        told=ended.told,
        used=Used(job_id=job["id"], input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens),
    )


@dataclass(frozen=True, slots=True)
class Ended:
    """`told`: a webhook of the customer's waits to be sent."""

    settlement: ledger.Settlement
    told: bool


def end(job: Row, state: str, *, cost_microusd: int, reason: str, **changes: Any) -> Plan[Ended]:
    """The last step of any job: state, charge and the end of its hold together. The account row is touched last."""
    charge = min(cost_microusd, job["hold_microusd"])
    key = hold_key(job["id"])
    told = (yield from tell(job, state, charge)) if not job["interactive"] else False
    ended = yield from close(
        job,
        state,
        charge_microusd=charge,
        reason=reason,
        settling=jobs.Beside(last=ledger.END_HOLD, params=ledger.end(key, cost_microusd)),
        alone=job["interactive"],
        **changes,
    )
    return Ended(ledger.settled(key, ended), told)


def tell(job: Row, state: str, charge_microusd: int) -> Plan[bool]:
    """The customer's webhooks hear of work that nobody waits for. True where one listens."""
    message = yield from webhooks.notify(
        organization=job["organization_id"],
        type=f"job.{state}",
        data={"id": public("job", job["id"]), "state": state, "charge_microusd": charge_microusd},
        key=f"job.{state}:{job['id']}",
        now=datetime.now(UTC),
    )
    return message is not None


def close(
    job: Row,
    state: str,
    *,
    charge_microusd: int,
    reason: str,
    settling: jobs.Beside = UNSETTLED,
    alone: bool = False,
    **changes: Any,
) -> Plan[Any]:
    """The last step of a job. `settling` ends its hold, and what that gives is returned: a shard of a batch has none.

    Raises StaleState where it has changed since it was read.
    """
    moved = yield from jobs.transition(
        job["id"],
        state,
        sources=("queued", *LEASED),
        version=job["version"],
        reason=reason,
        data={"charge_microusd": charge_microusd, **({"site": job["site"]} if job["site"] else {})},
        now=("finished_at",),
        charge_microusd=charge_microusd,
        lease_expires_at=None,
        beside=replace(settling, parts=ENDED),
        alone=alone,
        **changes,
    )
    return moved["last"]


def untaken(job: Row, reason: str) -> Plan[Outcome]:
    """Nobody took the order of a locked job (a broker that is away, say): it waits on, up to its deadline.

    That was no try of the job's, so it does not count towards `MAX_ATTEMPTS`.
    """
    told, used = False, None
    if job["past_deadline"] and not job["batch_id"]:
        ended = yield from end(
            job,
            "expired",
            cost_microusd=0,
            reason="No site took it before the deadline; nothing was charged",
            error_code="no_capacity",
            error_message="No site took this in time. Nothing was charged.",
            error_status=503,
        )
        told, used = ended.told, unused(job["id"])
    else:
        yield from again(job, reason, untaken=True)
    return Outcome(
        accepted=True,
        topics=topics(job["id"], job["organization_id"]),
        freed=slot_of(job),
        used=used,
        told=told,
    )


def slot_of(job: Row) -> tuple[str, str]:
    """What a leased job holds: the pool's lane, and who it is there."""
    return slots.lane(job["pool"], shard=job["batch_id"] is not None), slots.holder(job["id"], job["attempt"])


def tries(job: Row) -> Plan[int]:
    """How many attempts of the job a runner has taken, this one included."""
    rows = yield Statement(
        "SELECT count(*) AS untaken FROM jobs_event WHERE job_id = %(job)s AND state = 'queued' AND data ? 'untaken'",
        {"job": job["id"]},
    )
    taken: int = job["attempt"] - rows[0]["untaken"]
    return taken


def again(job: Row, reason: str, *, untaken: bool = False) -> Plan[None]:
    """Back to the queue; the next attempt has a fence of its own. One that was begun waits at least RETRY_SECONDS."""
    yield from jobs.transition(
        job["id"],
        "queued",
        sources=LEASED,
        version=job["version"],
        reason=reason,
        data={"site": job["site"], **({"untaken": True} if untaken else {})},
        fence=None,
        claimant="",
        pool_id=None,
        lease_expires_at=None,
        started_at=None,
    )
    yield Statement(
        "UPDATE jobs_job SET deadline_at = greatest(deadline_at, clock_timestamp() + make_interval(secs => %(seconds)s)) WHERE id = %(id)s",
        {"id": job["id"], "seconds": 0 if untaken else RETRY_SECONDS},
    )
    yield Statement("DELETE FROM dispatch_order WHERE job_id = %(job)s", {"job": job["id"]})
    yield Statement("SELECT pg_notify('dispatch', '')")


def bounded(usage: Usage) -> Usage:
    """Counts as a column holds them: a site that counts wrongly ends its job all the same.

    What was cached is part of the prompt, whatever an engine says.
    """
    counts = {name: min(max(count, 0), MOST) for name, count in usage.model_dump().items()}
    counts["cached_prompt_tokens"] = min(counts["cached_prompt_tokens"], counts["prompt_tokens"])
    return Usage(**counts)


def any_usage(usage: Usage) -> bool:
    return bool(usage.prompt_tokens or usage.completion_tokens or usage.pages)


def cancelled_by(job: Row) -> Plan[str]:
    """How the reason begins where staff asked for the end of a running job; "" where the customer did."""
    rows = yield Statement(
        "SELECT data->>'cancelled' AS by FROM jobs_event WHERE job_id = %(job)s AND data ? 'cancelled' ORDER BY number LIMIT 1",
        {"job": job["id"]},
    )
    return str(rows[0]["by"]) if rows else ""


def reason_of(state: str, news: News, *, delivered: bool, by: str = "") -> str:
    if state == "succeeded":
        return "Finished"
    if state == "cancelled":
        return (
            f"{by or 'Cancelled'}; what was finished is kept and charged"
            if any_usage(news.usage)
            else f"{by}; nothing was charged"
            if by
            else "Cancelled before anything was done"
        )
    cause = news.failure.message if news.failure else "The attempt failed"
    return f"{cause} What had been delivered is charged." if delivered else f"{cause} Nothing was charged."


def began(job: Row, news: News) -> dict[str, Any]:
    """When an attempt began whose end came before the news of its start. The site's clock may be ahead; ours rules."""
    if job["state"] == "running" or news.started_at is None:
        return {}
    return {"started_at": min(datetime.fromtimestamp(news.started_at, UTC), datetime.now(UTC))}


def energy_of(job: Row, energy: Energy | None) -> dict[str, Any]:
    """Device energy, and with the factors frozen at placement what the site used for it. No reading stays empty."""
    if energy is None:
        return {}
    gpu_energy_wh = energy.gpu_energy_mj / 3_600_000
    energy_wh = gpu_energy_wh * (job["energy_factor"] or 1)
    market = job["market_gco2e_per_kwh"]
    return {
        "gpu_energy_wh": gpu_energy_wh,
        "energy_wh": energy_wh,
        "energy_quality": energy.quality,
        "carbon_gco2e": gco2e(energy_wh, job["grid_gco2e_per_kwh"] or 0),
        **({} if market is None else {"carbon_market_gco2e": gco2e(energy_wh, market)}),
    }


def error_of(state: str, failure: Failure | None) -> dict[str, Any]:
    if state != "failed":
        return {}
    failure = failure or Failure(code="server_error", message="The attempt failed.")
    return {"error_code": failure.code[:64], "error_message": failure.message[:500], "error_status": failure.status}
