"""Ends that do not come from a runner: a customer cancels, a deadline passes, a lease is lost."""

import contextlib
import logging
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.db import transaction
from pydantic import ValidationError

from apps.accounts import audit
from apps.accounts.models import Membership, Organization, User
from apps.core.ids import public
from apps.core.sql import Plan, Row
from apps.dispatch import finishing, outcomes, receipts
from apps.dispatch.admission import topics
from apps.dispatch.finishing import LEASED, News
from apps.dispatch.outcomes import Outcome
from apps.files.sealing import Unreadable
from apps.jobs import statements as jobs
from apps.jobs.models import FINAL
from apps.runner.protocol import Control, Entry, Failure, Usage, control, stream
from apps.scheduling import slots
from cango_portal import database, valkey

log = logging.getLogger(__name__)

LOST = Failure(
    code="site_lost", message="The site stopped answering while it worked on this.", status=503, retryable=True
)


MOST_REASON = 110  # characters of a reason of staff: with the words around it the event holds it


@dataclass(frozen=True, slots=True)
class Begun:
    """Who has begun the attempt, by its stream: "" is nobody, None where that could not be read."""

    attempt: int
    claimant: str | None


def cancel_plan(job_id: UUID, *, begun: Begun, by: str = "") -> Plan[Outcome]:
    """End what has not started, at no cost; ask a runner to end what has or may have.

    `by` is the beginning of the reason where it was not the customer: kept in the event until the runner's report ends it.

    A runner's report of its start may still be on the way when its stream says so.
    """
    job = yield from jobs.lock(job_id)
    if job is None or job["state"] in FINAL or job["batch_id"] is not None:
        return outcomes.REFUSED
    told = topics(job_id, job["organization_id"])
    idle = begun == Begun(job["attempt"], "") and not job["claimant"]
    if job["state"] == "queued" or (job["state"] == "dispatched" and idle):
        ended = yield from finishing.end(
            job, "cancelled", cost_microusd=0, reason=f"{by or 'Cancelled before it started'}; nothing was charged"
        )
        freed = (job["pool"], slots.holder(job_id, job["attempt"])) if job["pool"] else None
        return Outcome(accepted=True, topics=told, freed=freed, told=ended.told, used=outcomes.unused(job_id))
    if job["cancel_requested_at"] is not None:
        return Outcome(accepted=True)
    yield from ask_to_stop(job, by=by)
    return Outcome(accepted=True, topics=told)


def ask_to_stop(job: Row, *, by: str = "") -> Plan[None]:
    """A locked, leased job is to end: the answer to its runner's next heartbeat says so."""
    yield from jobs.transition(
        job["id"],
        job["state"],
        sources=LEASED,
        version=job["version"],
        reason=f"Stopping. {by}" if by else "Stopping",
        data={"cancelled": by} if by else {},
        now=("cancel_requested_at",),
    )


def expire_plan(job_id: UUID) -> Plan[Outcome]:
    """A job still queued past its deadline expires and its hold is released; any other is left alone."""
    job = yield from jobs.lock(job_id)
    if job is None or job["state"] != "queued" or not job["past_deadline"]:
        return outcomes.REFUSED
    ended = yield from finishing.end(
        job,
        "expired",
        cost_microusd=0,
        reason="No site had a free slot before the deadline; nothing was charged",
        error_code="no_capacity",
        error_message="No site had a free slot in time. Nothing was charged.",
        error_status=503,
    )
    return Outcome(
        accepted=True,
        topics=topics(job_id, job["organization_id"]),
        told=ended.told,
        used=outcomes.unused(job_id),
    )


def unreadable_plan(job_id: UUID) -> Plan[Outcome]:
    """A queued job whose request cannot be read fails at no cost: no other attempt could read it either."""
    job = yield from jobs.lock(job_id)
    if job is None or job["state"] != "queued" or job["batch_id"] is not None:
        return outcomes.REFUSED
    ended = yield from finishing.end(
        job,
        "failed",
        cost_microusd=0,
        reason="What was asked cannot be read any more; nothing was charged",
        error_code=Unreadable.code,
        error_message="What is stored of this request cannot be read any more. Nothing was charged. Send it again.",
        error_status=Unreadable.status,
    )
    return Outcome(
        accepted=True,
        topics=topics(job_id, job["organization_id"]),
        told=ended.told,
        used=outcomes.unused(job_id),
    )


def lose_plan(job_id: UUID, *, attempt: int, entries: list[Entry]) -> Plan[Outcome]:
    """End or repeat an attempt whose lease ran out, by what its stream holds. Nothing where it was renewed meanwhile."""
    job = yield from jobs.lock(job_id)
    if job is None or job["state"] not in LEASED or job["attempt"] != attempt or not job["lease_lost"]:
        return outcomes.REFUSED
    if job["batch_id"] is not None:  # the rows that were reported are kept; `batches` ends it where that is due
        taken = job["state"] == "running" or job["claimant"]
        reason = f"Attempt {attempt} ended: the site {'stopped answering' if taken else 'did not take the order'}."
        yield from finishing.again(job, reason, untaken=not taken)
        return Outcome(accepted=True, freed=finishing.slot_of(job))
    entries = [
        entry
        for entry in entries
        if entry.fence == job["fence"] and entry.claimant == (job["claimant"] or entry.claimant)
    ]
    news = told_by(entries)
    taken = job["state"] == "running" or job["claimant"]
    if not entries and not taken and not job["cancel_requested_at"]:
        return (yield from finishing.untaken(job, f"Attempt {attempt} ended: the site did not take the order."))
    if (
        not entries and taken
    ):  # it ran, so it had written: the stream itself was lost, and what the client saw is unknown
        news = replace(news, delivered=True, claimant=job["claimant"])
    return (yield from finishing.finish(job, news))


def told_by(entries: list[Entry]) -> News:
    """The end of an attempt as far as its stream tells: its own last words, or that it was lost."""
    last = entries[-1] if entries else None
    texts: list[str] = []
    have = 0
    for entry in entries:
        for index, choices in enumerate(entry.chunks, start=entry.seq):
            if index == have:
                have += 1
                texts += [
                    choice.get("delta", {}).get("content") or "" for choice in choices if choice.get("index", 0) == 0
                ]
    said = last.end if last and last.end else None
    return News(
        state=said.state if said else "failed",
        usage=last.usage if last else Usage(),
        energy=said.energy if said else None,
        failure=said.failure if said else LOST,
        delivered=have > 0,
        claimant=last.claimant if last else "",
        text="".join(texts),
        result=said.result if said else None,
    )


def by_operator(actor: User | None, organization_id: UUID, reason: str) -> str:
    """What the customer is told of a cancel by staff, who are no members; "" where it was the customer's own."""
    if actor is None or not actor.is_staff:
        return ""
    if Membership.objects.filter(organization_id=organization_id, user=actor).exists():
        return ""
    words = " ".join(reason.split()).rstrip(".;")
    if len(words) > MOST_REASON:
        words = f"{words[: MOST_REASON - 1].rstrip()}…"
    return f"Cancelled by the operator: {words}" if words else "Cancelled by the operator"


def cancel(*, job_id: UUID, actor: User | None = None, reason: str = "") -> None:
    """Cancel for a customer or, with a reason, for staff. Safe to repeat; a job that has ended stays as it ended."""
    snapshot = database.run(jobs.snapshot(job_id))
    if snapshot is None:
        return
    claimant = None
    with contextlib.suppress(*slots.UNUSABLE):
        claimant = _claimant(valkey.client().xrange(_stream(snapshot), count=1) if snapshot["pool"] else [])
    with transaction.atomic():
        by = by_operator(actor, snapshot["organization_id"], reason)
        outcome = database.run(cancel_plan(job_id, begun=Begun(snapshot["attempt"], claimant), by=by))
        if actor is not None and outcome.topics:
            organization = Organization.objects.get(pk=snapshot["organization_id"])
            audit.record(
                organization=organization,
                actor=actor,
                action="job.cancelled",
                target=public("job", job_id),
                reason=reason,
            )
    if not outcome.accepted:
        return
    if claimant and not outcome.freed:
        with contextlib.suppress(*slots.UNUSABLE):  # the next heartbeat's answer says it again
            valkey.client().xadd(control(claimant), _cancel_message(job_id, snapshot), maxlen=1000)
    outcome.announce()


async def cancel_async(*, job_id: UUID) -> None:
    """Cancel from a lean door: the client hung up."""
    snapshot = await database.run_async(jobs.snapshot(job_id))
    if snapshot is None or snapshot["state"] in FINAL:
        return
    claimant = None
    with contextlib.suppress(*slots.UNUSABLE):
        claimant = _claimant(await valkey.client_async().xrange(_stream(snapshot), count=1) if snapshot["pool"] else [])
    outcome = await database.run_async(cancel_plan(job_id, begun=Begun(snapshot["attempt"], claimant)))
    if not outcome.accepted:
        return
    if claimant and not outcome.freed:
        with contextlib.suppress(*slots.UNUSABLE):
            await valkey.client_async().xadd(control(claimant), _cancel_message(job_id, snapshot), maxlen=1000)
    await outcome.announce_async()


async def leave_async(*, job_id: UUID) -> None:
    """A client stops following its job: the last one cancels it."""
    if await database.run_async(receipts.leave(job_id)):
        await cancel_async(job_id=job_id)


async def expire_async(*, job_id: UUID) -> None:
    outcome = await database.run_async(expire_plan(job_id))
    await outcome.announce_async()


def _stream(snapshot: dict[str, Any]) -> str:
    return stream(snapshot["pool"], str(snapshot["id"]), snapshot["attempt"])


def _claimant(entries: Any) -> str | None:
    for _, fields in entries or ():
        read = readable(fields)
        return read.claimant if read else None
    return ""


def readable(fields: dict[str, str]) -> Entry | None:
    """An entry of a job's stream; a runner that writes what is none is passed over."""
    try:
        return Entry.model_validate_json(fields.get("e", ""))
    except ValidationError:
        log.warning("entry of a job's stream cannot be read")
        return None


def tell_to_stop(row: Row) -> None:
    """Say to the claimant of an attempt that was taken from it; the answer to its next heartbeat says it again."""
    if row["claimant"]:
        message: Any = {"e": Control(kind="stop", job=str(row["id"]), attempt=row["attempt"]).model_dump_json()}
        with contextlib.suppress(*slots.UNUSABLE):
            valkey.client().xadd(control(row["claimant"]), message, maxlen=1000)


def _cancel_message(job_id: UUID, snapshot: dict[str, Any]) -> Any:
    return {"e": Control(kind="cancel", job=str(job_id), attempt=snapshot["attempt"]).model_dump_json()}
