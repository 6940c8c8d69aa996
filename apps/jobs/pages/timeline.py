"""The stages of a job, told from its events: queued, routed, running, and how it ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.translation import gettext, gettext_lazy

from apps.core import numbers
from apps.jobs import reasons
from apps.jobs.models import FINAL, Event, Job
from apps.scheduling import placement

STOPPING = "Stopping"  # how the reason begins where a cancel was asked for
BY_OPERATOR = "Cancelled by the operator"
ORDINALS = {
    1: gettext_lazy("first"),
    2: gettext_lazy("second"),
    3: gettext_lazy("third"),
    4: gettext_lazy("fourth"),
    5: gettext_lazy("fifth"),
}


@dataclass(frozen=True, slots=True)
class Step:
    """`step` is done, now, next or failed. `at` is when it began; `note` follows the time, `why` gives the reason."""

    step: str
    icon: str
    title: str
    at: datetime | None
    since: bool
    note: str
    why: str


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try at one site. `outcome` is empty while it is under way."""

    number: int
    site: str
    routed_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    state: str
    outcome: str


def ordinal(number: int) -> str:
    """
    >>> ordinal(2), ordinal(12), ordinal(43), ordinal(111), ordinal(121)
    ('second', '12th', '43rd', '111th', '121st')
    """
    if number in ORDINALS:
        return str(ORDINALS[number])
    last = 0 if number // 10 % 10 == 1 else number % 10
    written = {1: gettext("%(number)sst"), 2: gettext("%(number)snd"), 3: gettext("%(number)srd")}
    return written.get(last, gettext("%(number)sth")) % {"number": number}


def place(position: int | None) -> str:
    """The place in line, in words."""
    if position is None:
        return ""
    return (
        gettext("next in line") if position <= 1 else gettext("%(position)s in line") % {"position": ordinal(position)}
    )


def steps(
    job: Job, events: Sequence[Event], *, position: int | None, running: str, decimals: int, waits: str = ""
) -> list[Step]:
    """The timeline. `running` says what is used while it runs, `decimals` how money is written, `waits` why it does now."""
    routed = [event for event in events if event.state == "dispatched" and not _stopping(event)]
    lost = [event for event in events if event.state == "queued" and event.attempt > 0]
    found = [_queued(job, routed, lost, decimals, _why(job, position, waits))]
    if routed and job.state != "queued":
        found.append(_routed(job, routed[-1], lost))
    if job.started_at and job.state != "queued":
        found.append(_running(job, running))
    if job.state in FINAL:
        return [*found, _ended(job, charged(job, decimals))]
    for state, title, why in (
        ("dispatched", gettext("Routed"), gettext("The cheapest site that is ready")),
        ("running", gettext("Running"), gettext("Starts when the site takes the order")),
    ):
        if (job.state, state) in {("queued", "dispatched"), ("queued", "running"), ("dispatched", "running")}:
            found.append(Step("next", "", title, None, False, gettext("not yet"), why))
    return [
        *found,
        Step(
            "next",
            "",
            gettext("Settled"),
            None,
            False,
            gettext("not yet"),
            gettext("The final cost is charged and the rest of the hold returned"),
        ),
    ]


def attempts(events: Sequence[Event]) -> list[Attempt]:
    """Every attempt, oldest first."""
    found = []
    for event in events:
        if event.state != "dispatched" or _stopping(event):
            continue
        later = [each for each in events if each.attempt == event.attempt and each.number > event.number]
        started = next((each.at for each in later if each.state == "running"), None)
        ended = next((each for each in later if each.state in ("queued", *FINAL)), None)
        found.append(
            Attempt(
                number=event.attempt,
                site=event.data.get("site", ""),
                routed_at=event.at,
                started_at=started,
                ended_at=ended.at if ended else None,
                state=("failed" if ended.state == "queued" else ended.state)
                if ended
                else ("running" if started else "dispatched"),
                outcome=reasons.said(ended.reason) if ended else "",
            )
        )
    return found


def others(placement: dict[str, Any]) -> list[tuple[str, str]]:
    """The sites that were looked at beside the chosen pool and why it is none of theirs, each reason of a site once, best first."""
    chosen = placement.get("chosen", "")
    return list(
        dict.fromkeys(
            (
                each.get("site", ""),
                reasons.said(each.get("refusal", "")) or gettext("costlier power or no free slot"),
            )
            for each in placement.get("candidates", [])
            if not chosen or each.get("pool") != chosen
        )
    )


def charged(job: Job, decimals: int) -> str:
    """What a job that ended cost, in words."""
    charge = job.charge_microusd or 0
    if not charge:
        return gettext("Nothing charged, the hold is returned")
    back = job.hold_microusd - charge
    return gettext("%(decimals)s charged, %(decimals_2)s returned") % {
        "decimals": numbers.dollars(charge, decimals),
        "decimals_2": numbers.dollars(back, decimals),
    }


def decimals_of(job: Job, lines: Sequence[int]) -> int:
    """At which held, charged and returned add up as they are shown, and so do the receipt's lines where they do."""
    if job.charge_microusd is None:
        return numbers.sum_places((job.hold_microusd, [job.hold_microusd]))
    sums = [(job.hold_microusd, [job.charge_microusd, job.hold_microusd - job.charge_microusd])]
    if sum(lines) == job.charge_microusd:
        sums.append((job.charge_microusd, list(lines)))
    return numbers.sum_places(*sums)


def by_operator(job: Job) -> bool:
    """Was it cancelled by staff and not by the customer?"""
    return job.reason.startswith(BY_OPERATOR)


def _stopping(event: Event) -> bool:
    """A cancel that was asked for is an event in the state the job is in."""
    return event.reason.startswith(STOPPING)


def _why(job: Job, position: int | None, waits: str) -> str:
    why = reasons.said(waits or job.reason or placement.FULL)
    return f"{why}, {place(position)}" if position else why


def _queued(job: Job, routed: Sequence[Event], lost: Sequence[Event], decimals: int, why: str) -> Step:
    """`why` it waits now, with its place in line."""
    held = gettext("%(decimals)s held from your balance") % {"decimals": numbers.dollars(job.hold_microusd, decimals)}
    if job.state == "queued":
        why = gettext("%(why)s. %(then)s") % {"why": why, "then": held}
        at = lost[-1].at if lost else job.created_at
        return Step("now", "", gettext("Queued again") if lost else gettext("Queued"), at, True, "", why)
    until = routed[0].at if routed else job.finished_at
    waited = (until - job.created_at).total_seconds() if until else None
    note = gettext("for %(waited)s") % {"waited": numbers.duration(waited)} if waited and waited >= 0.05 else ""
    return Step("done", "check", gettext("Queued"), job.created_at, False, note, held)


def _routed(job: Job, event: Event, lost: Sequence[Event]) -> Step:
    site = event.data.get("site", "") or gettext("a site")
    note = gettext("%(ordinal)s attempt") % {"ordinal": ordinal(event.attempt)} if event.attempt > 1 else ""
    why = reasons.said(event.reason)
    if lost:
        cause = reasons.said(lost[-1].reason.partition(": ")[2] or lost[-1].reason)
        free = (
            gettext("%(site)s: %(cause)s Started again here, the first attempt is free")
            if event.attempt == 2
            else gettext("%(site)s: %(cause)s Started again here, the earlier attempts are free")
        )
        why = free % {"site": lost[-1].data.get("site", ""), "cause": cause}
    now = job.state == "dispatched"
    return Step(
        "now" if now else "done",
        "" if now else "check",
        gettext("Routed to %(site)s") % {"site": site},
        event.at,
        now,
        note,
        why,
    )


def _running(job: Job, running: str) -> Step:
    if job.state == "running":
        why = (
            gettext("%(stopping)s; what is written is kept and charged")
            % {"stopping": reasons.said(job.reason if job.reason.startswith(STOPPING) else STOPPING)}
            if job.cancel_requested_at
            else running
        )
        return Step("now", "", gettext("Running"), job.started_at, True, "", why)
    took = (job.finished_at - job.started_at).total_seconds() if job.finished_at and job.started_at else None
    return Step(
        "done",
        "check",
        gettext("Running"),
        job.started_at,
        False,
        gettext("for %(took)s") % {"took": numbers.duration(took)} if took is not None else "",
        running,
    )


def _ended(job: Job, charge: str) -> Step:
    at = job.finished_at
    if job.state == "succeeded":
        return Step("done", "check", gettext("Settled"), at, False, "", charge)
    if job.state == "cancelled":
        why = gettext("What was finished is kept. %(charge)s") % {"charge": charge} if job.charge_microusd else charge
        if by_operator(job):
            why = f"{reasons.said(job.reason.partition('; ')[0].rstrip('.'))}. {why}"
        return Step("done", "off", gettext("Cancelled"), at, False, "", why)
    if job.state == "expired":
        return Step(
            "done",
            "clock",
            gettext("Expired"),
            at,
            False,
            "",
            gettext("It had not started at its deadline. %(charge)s") % {"charge": charge},
        )
    return Step(
        "failed",
        "x",
        gettext("Failed"),
        at,
        False,
        "",
        f"{reasons.said(job.error_message) or gettext('The attempt failed.')} {charge}",
    )
