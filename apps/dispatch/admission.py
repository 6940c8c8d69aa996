"""Admit one request: win a slot, then write hold, job and order in one transaction, all or none."""

import asyncio
import contextlib
import time
from dataclasses import replace
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import OperationalError as DjangoOperationalError
from django.db import connection
from psycopg.errors import OperationalError
from psycopg_pool import PoolTimeout

from apps.catalog.models import Tier
from apps.core import places
from apps.core.errors import Unavailable
from apps.core.ids import public
from apps.core.sql import Plan
from apps.dispatch import orders, outbox, receipts
from apps.dispatch.receipts import StillStopping, Taken, Ticket
from apps.dispatch.situation import Situation, situation
from apps.dispatch.work import Submitted, Work
from apps.jobs import statements as jobs
from apps.keys import rates
from apps.keys.rates import Limit
from apps.keys.services import Caller
from apps.ledger import statements as ledger
from apps.live import bell
from apps.runner import protocol
from apps.scheduling import placement, slots
from apps.scheduling.placement import Candidate
from cango_portal import database, valkey

NOTIFIED = "notified AS (SELECT pg_notify('dispatch', '') FROM job)"  # a job in the queue: the dispatcher looks at once
STOPPING_SECONDS, STOPPING_LOOKS = 3, 30  # a job that its client left is waited for so long, and looked at so often
DOUBT_SECONDS = (0.05, 0.4, 1.5)  # pauses before looking whether a commit arrived


class InDoubt(Unavailable):
    """The work may have been accepted: a client that sent it again by itself might pay twice."""

    retryable = False


def hold_key(job_id: object) -> str:
    return f"job:{job_id}"


def topics(job_id: UUID, organization_id: object) -> tuple[str, str]:
    return f"job.{public('job', job_id)}", f"organization.{organization_id}"


def candidates_for(work: Work, caller: Caller, now: Situation) -> tuple[list[Candidate], list[Limit]]:
    """The ranked pools and the rate limits.

    Raises ModelNotAllowed, NowhereAllowed, and TooManyOpenJobs: counted without a lock, so requests that come at the same
    moment may pass the limit by as many as they are.
    """
    caller.require_model(work.offer.name)
    caller.require_place(residency_of(caller, work))
    now.standing.admit_one()
    return placement.rank(now.pools, residency_of(caller, work)), now.standing.rate_limits(caller)


def behind(work: Work, ranked: list[Candidate]) -> Plan[bool]:
    """Whether others already wait for this model where this could run: nobody jumps the line."""
    return (yield from jobs.waiting(work.offer.model_id, work.tier, [each.pool.place for each in eligible(ranked)]))


def residency_of(caller: Caller, work: Work) -> places.Rule:
    return places.narrowed(caller.residency, work.residency)


def wait_seconds(work: Work) -> float:
    """How long it may wait for a slot."""
    if work.deadline_seconds or not work.interactive:
        return work.deadline_seconds or settings.JOB_DEADLINE_SECONDS
    return settings.FLEXIBLE_QUEUE_SECONDS if work.tier == Tier.FLEXIBLE else work.offer.max_queue_seconds


def admit(
    *,
    job_id: UUID,
    caller: Caller,
    work: Work,
    chosen: Candidate | None,
    ranked: list[Candidate],
    discount: int,
    ticket: Ticket | None = None,
) -> Plan[tuple[Submitted, protocol.Order | None]]:
    """The one statement, a transaction of its own. The account row is touched last. Raises what the ledger refuses a hold with, and Taken; then nothing was written."""
    fence = orders.new_fence() if chosen else None
    placed = (
        orders.draft_changes(chosen, ranked, fence)
        if chosen and fence
        else {
            "fence": None,
            "pool_id": None,
            "energy_factor": None,
            "grid_gco2e_per_kwh": None,
            "market_gco2e_per_kwh": None,
            "placement": {"candidates": [each.record() for each in ranked]},
        }
    )
    reason = orders.reason(chosen, ranked) if chosen else placement.waits(ranked)
    residency = residency_of(caller, work)
    ceiling = work.ceiling_microusd(discount_basis_points=discount)
    order = None
    if chosen and fence:
        order = orders.make(draft(job_id, work), attempt=1, pool=chosen.pool.code, fence=fence)
    params = {
        "id": job_id,
        "organization": caller.organization_id,
        "api_key": caller.api_key_id,
        "user": caller.user_id,
        "model": work.offer.model_id,
        "price": work.offer.price.id,
        "file": work.file_id,
        "kind": work.kind,
        "interactive": work.interactive,
        "streaming": work.streaming,
        "tier": work.tier,
        "discount": discount,
        "state": "dispatched" if chosen else "queued",
        "reason": reason,
        "attempt": 1 if chosen else 0,
        "fence": placed["fence"],
        "pool": placed["pool_id"],
        "placement": placed["placement"],
        "residency": None if residency is None else list(residency),
        "wait_seconds": wait_seconds(work),
        "lease_seconds": settings.DISPATCH_LEASE_SECONDS,
        "hold": ceiling,
        "max_completion_tokens": work.max_completion_tokens,
        "pages": work.pages,
        "energy_factor": placed["energy_factor"],
        "grid": placed["grid_gco2e_per_kwh"],
        "market": placed["market_gco2e_per_kwh"],
        "request": work.body,
        "metadata": work.metadata,
        "stored": work.stored,
        "asked": work.asked,
        "data": {"site": chosen.pool.site} if chosen else {},
        **(receipts.params(ticket) if ticket else {}),
    }
    try:
        made = yield from jobs.create(
            params,
            first=receipts.WRITE if ticket else "",
            beside=jobs.Beside(
                parts=(orders.ORDERED if order else NOTIFIED,),
                last=ledger.HOLD,
                params={
                    **ledger.hold(caller.organization_id, ceiling, hold_key(job_id), caller.budgets),
                    **(orders.beside(order) if order else {}),
                },
            ),
            alone=True,
        )
    except Exception as error:
        if refusal := ledger.refused(error, ceiling):
            raise refusal from error
        raise
    if made is None:
        raise Taken
    return Submitted(
        job_id,
        "dispatched" if chosen else "queued",
        1 if chosen else 0,
        chosen.pool.code if chosen else None,
        made["deadline_at"],
    ), order


def draft(job_id: UUID, work: Work) -> orders.Draft:
    return orders.Draft(
        job_id=job_id,
        kind=work.kind,
        engine_name=work.offer.engine_name,
        request=work.body,
        max_completion_tokens=work.max_completion_tokens,
        file_id=work.file_id,
        file_type=work.file_type,
    )


def away() -> Unavailable:
    return Unavailable(
        "The portal cannot reach its database. Nothing was accepted or charged; try again in a moment.",
        retry_after_seconds=5,
    )


def found(ticket: Ticket) -> Submitted | None:
    """As `receipts.find`."""
    try:
        return database.run(receipts.find(ticket))
    except DjangoOperationalError as error:
        raise away() from error


async def found_async(ticket: Ticket) -> Submitted | None:
    """As `receipts.find`, but a job that is being stopped is waited for."""
    for last in (*[False] * STOPPING_LOOKS, True):
        try:
            return await database.run_async(receipts.find(ticket))
        except StillStopping:
            if last:
                raise
            await asyncio.sleep(STOPPING_SECONDS / STOPPING_LOOKS)
        except (OperationalError, PoolTimeout) as error:
            raise away() from error
    raise AssertionError


def submit(*, caller: Caller, work: Work, ticket: Ticket | None = None) -> Submitted:
    """Admit from a page, a command or the management API. See `submit_async`."""
    while True:
        if ticket and ticket.is_repeat and (before := found(ticket)):
            return before
        with contextlib.suppress(Taken):
            return admitted(caller=caller, work=work, ticket=ticket)


def admitted(*, caller: Caller, work: Work, ticket: Ticket | None) -> Submitted:
    job_id = work.job_id
    try:
        now = database.run(situation(caller, work.offer.name, work.tier))
        ranked, limits = candidates_for(work, caller, now)
        backlog = now.is_crowded and database.run(behind(work, ranked))
        windows = rates.take(limits, **asked(work))
        chosen = None
        try:
            chosen = None if backlog else _win(ranked, job_id)
            plan = admit(
                job_id=job_id,
                caller=caller,
                work=work,
                chosen=chosen,
                ranked=ranked,
                discount=now.discount,
                ticket=ticket,
            )
            try:
                submitted, order = database.run(plan)
            except DjangoOperationalError:
                submitted, order = doubted(job_id), None
        except BaseException:
            if chosen:
                slots.free(chosen.pool.code, holder=slots.holder(job_id, 1))
            rates.give_back(limits, job_id)
            raise
    except DjangoOperationalError as error:
        raise away() from error
    if order:
        outbox.publish(order)
    bell.ring(*topics(job_id, caller.organization_id))
    return replace(submitted, windows=windows)


async def submit_async(
    *, caller: Caller, work: Work, now: Situation | None = None, ticket: Ticket | None = None
) -> Submitted:
    """Admit from a lean door. The order leaves after commit; the dispatcher sends what that misses.

    `now` is the situation that the door has just read for this caller, model and tier.
    A request that made a job before, by its `ticket`, gets that one. Without a free slot, or with Redis away, the job is
    `queued`. Raises InsufficientCredit, what `receipts.find` raises, and Unavailable without the database; then no job,
    hold or order exists.
    """
    while True:
        if ticket and ticket.is_repeat and (before := await found_async(ticket)):
            return before
        with contextlib.suppress(Taken):
            return await admitted_async(caller=caller, work=work, now=now, ticket=ticket)
        now = None


async def admitted_async(*, caller: Caller, work: Work, now: Situation | None, ticket: Ticket | None) -> Submitted:
    job_id = work.job_id
    try:
        if now is None:
            now = await database.run_async(situation(caller, work.offer.name, work.tier))
        ranked, limits = candidates_for(work, caller, now)
        backlog = now.is_crowded and await database.run_async(behind(work, ranked))
        windows = await rates.take_async(limits, **asked(work))
        chosen = None
        try:
            chosen = None if backlog else await _win_async(ranked, job_id)
            plan = admit(
                job_id=job_id,
                caller=caller,
                work=work,
                chosen=chosen,
                ranked=ranked,
                discount=now.discount,
                ticket=ticket,
            )
            try:
                submitted, order = await database.run_async(plan)
            except PoolTimeout:
                raise  # nothing was sent
            except OperationalError:
                submitted, order = await doubted_async(job_id), None
        except BaseException:
            if chosen:
                await slots.free_async(chosen.pool.code, holder=slots.holder(job_id, 1))
            await rates.give_back_async(limits, job_id)
            raise
    except (OperationalError, PoolTimeout) as error:
        raise away() from error
    if order:
        await outbox.publish_async(order)
    await bell.ring_async(*topics(job_id, caller.organization_id))
    return replace(submitted, windows=windows)


def asked(work: Work) -> dict[str, Any]:
    """What a request takes of its rate limits. Work that waits in the background is limited by its number, not at the same time."""
    return {
        "job_id": work.job_id,
        "input_tokens": work.prompt_tokens_ceiling,
        "output_tokens": work.max_completion_tokens,
        "lease": work.interactive,
    }


def written(job_id: UUID) -> Plan[Submitted | None]:
    job = yield from jobs.snapshot(job_id)
    return Submitted(job_id, job["state"], job["attempt"], job["pool"], job["deadline_at"]) if job else None


def doubted(job_id: UUID) -> Submitted:
    """A connection that broke may have broken after the commit: look before saying that nothing was accepted.

    Raises Unavailable where the job was not written, and InDoubt where that cannot be found out.
    """
    for pause in DOUBT_SECONDS:
        time.sleep(pause)
        if not connection.in_atomic_block:
            connection.close()
        with contextlib.suppress(DjangoOperationalError):
            return known(database.run(written(job_id)))
    raise in_doubt(job_id)


async def doubted_async(job_id: UUID) -> Submitted:
    """As `doubted`."""
    for pause in DOUBT_SECONDS:
        await asyncio.sleep(pause)
        with contextlib.suppress(OperationalError, TimeoutError):
            async with asyncio.timeout(1):
                return known(await database.run_async(written(job_id)))
    raise in_doubt(job_id)


def known(found: Submitted | None) -> Submitted:
    if found is None:
        raise away()
    return found


def in_doubt(job_id: UUID) -> InDoubt:
    return InDoubt(
        "The portal lost its database while it accepted this, and cannot say whether it did. "
        f"Look for {public('job', job_id)} among your jobs before you send it again.",
        retry_after_seconds=5,
    )


def eligible(ranked: list[Candidate]) -> list[Candidate]:
    return [each for each in ranked if not each.refusal]


def _win(ranked: list[Candidate], job_id: UUID) -> Candidate | None:
    try:
        return slots.win(eligible(ranked), holder=slots.holder(job_id, 1))
    except valkey.Away:
        return None


async def _win_async(ranked: list[Candidate], job_id: UUID) -> Candidate | None:
    try:
        return await slots.win_async(eligible(ranked), holder=slots.holder(job_id, 1))
    except valkey.Away:
        return None
