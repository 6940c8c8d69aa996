"""The list of jobs, newest first, with the requests that were refused among them.

Pages are cut by key, never by count: a job's id begins with its milliseconds, so the list is one walk down the index
(organization, id), and a refusal gets a key of the same kind from its time.

Text is encrypted, so the database cannot search it: a page opens the text of the LOOKED newest jobs that match otherwise, and
`older` goes on behind them, whether they held the words or not.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from channels.db import database_sync_to_async
from django.db.models import Q, QuerySet
from django.db.models.functions import Coalesce, Length
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy

from apps.accounts.models import Organization
from apps.catalog.models import Model
from apps.core.ids import LENGTH, VALUES
from apps.core.money import usd
from apps.core.spreadsheets import BYTE_ORDER_MARK, lines
from apps.files.sealing import Unreadable
from apps.jobs.forms import OPEN, PAGE, RANGES, REFUSED
from apps.jobs.models import Content, Job, Refusal
from apps.jobs.pages.job import JobPage

SIZE = 30  # rows of full-length names must not make a page too heavy (tests/portal/test_weight.py)
EXPORT_SIZE = 1000
REFUSED_FOR = timedelta(days=7)
RANDOM_BITS = 80  # of a version 7 UUID, below its milliseconds


LOOKED = 500  # jobs whose text one page opens
LONGEST_TEXT = 64 * 1024  # bytes of a stored text; longer ones are not opened
WALKED = 2500  # jobs that are looked through for words of their metadata before its index is asked
LONGEST_JOB = timedelta(days=2)
OWN_WORDS = {"role", "type", "model", "id", "finish_reason", "embedding"}

SHORT = {
    "insufficient_credit": gettext_lazy("no credit"),
    "budget_exceeded": gettext_lazy("spending limit"),
    "payment_owed": gettext_lazy("payment owed"),
    "too_many_open_jobs": gettext_lazy("too many open jobs"),
}


# What to do, and the name of the page that does it; who may not is told there who may.
REMEDIES = {
    "insufficient_credit": (gettext_lazy("Add credit"), "billing:add"),
    "budget_exceeded": (gettext_lazy("See limits"), "billing:limits"),
    "payment_owed": (gettext_lazy("Add credit"), "billing:add"),
    "too_many_open_jobs": (gettext_lazy("See plans"), "billing:plan"),
}


@dataclass(frozen=True, slots=True)
class Row:
    """A job or a refusal. `key` orders them together, newest largest."""

    key: int
    page: JobPage | None = None
    refusal: Refusal | None = None
    title: str = ""  # of the model that was refused

    @property
    def remedy(self) -> tuple[str, str] | None:
        """What to do about it, and where."""
        found = REMEDIES.get(self.refusal.code) if self.refusal else None
        return (str(found[0]), reverse(found[1])) if found else None

    @property
    def short(self) -> str:
        """What refused it, in a word or two."""
        code = self.refusal.code if self.refusal else ""
        return str(SHORT.get(code, code.replace("_", " ")))


@dataclass(frozen=True, slots=True)
class KeysetPage:
    """`older` is the key to go on from; None at the end. `looked` are the jobs whose text was searched, where that was asked."""

    rows: list[Row]
    older: str | None
    looked: Looked | None = None


@dataclass(frozen=True, slots=True)
class Looked:
    """`jobs` back to `since` were looked at. `unread` of them hold too long a text, or one that cannot be read."""

    jobs: int
    since: datetime | None
    unread: int


def first_key(at: datetime) -> int:
    """No row of that time or later has a smaller key."""
    return int(at.timestamp() * 1000) << RANDOM_BITS


def refusal_key(refusal: Refusal) -> int:
    return first_key(refusal.at) | refusal.pk


def prefix_range(text: str) -> tuple[int, int] | None:
    """First and last key whose public id begins like this, or None where no id does."""
    digits = text.strip().upper().removeprefix("JOB_")
    if not digits or len(digits) > LENGTH or not set(digits) <= set(VALUES):
        return None
    low, high = number(digits.ljust(LENGTH, "0")), number(digits.ljust(LENGTH, "Z"))
    return (low, min(high, (1 << 128) - 1)) if low < 1 << 128 else None


def number(digits: str) -> int:
    value = 0
    for digit in digits:
        value = value * 32 + VALUES[digit]
    return value


def listing(
    organization: Organization, filters: dict[str, str], *, before: str | None = None, size: int = SIZE
) -> KeysetPage:
    """One page of what matches. `before` is the `older` of the page above; what is not one is the beginning."""
    key = parse_key(before)
    if "text" in filters:
        return searched(organization, filters, key, size=size)
    rows = [
        Row(int(job.pk), page=JobPage(job)) for job in _newest(_jobs(organization, filters, key), filters, size + 1)
    ]
    rows += refused(organization, filters, key, most=size + 1)
    rows.sort(key=lambda row: row.key, reverse=True)
    return KeysetPage(rows[:size], f"{rows[size - 1].key:032x}" if len(rows) > size else None)


def refused(
    organization: Organization, filters: dict[str, str] | None = None, before: int | None = None, *, most: int
) -> list[Row]:
    """The newest that were refused."""
    found = list(_refusals(organization, filters or {}, before)[:most])
    titles: dict[str, str] = {}
    if found:
        named = Model.objects.filter(name__in={refusal.model_name for refusal in found})
        titles = dict(named.values_list("name", "title"))
    return [
        Row(refusal_key(refusal), refusal=refusal, title=titles.get(refusal.model_name, refusal.model_name))
        for refusal in found
    ]


def _newest(jobs: QuerySet[Job], filters: dict[str, str], most: int) -> list[Job]:
    """By metadata the newest WALKED are looked through first: what is common is found there, what is rare by the index."""
    if "metadata" not in filters:
        return list(jobs[:most])
    name, _, value = filters["metadata"].partition("=")
    looked = list(jobs.values_list("pk", "metadata")[:WALKED])
    ids = [pk for pk, words in looked if words.get(name) == value][:most]
    if len(ids) == most or len(looked) < WALKED:
        return list(jobs.filter(pk__in=ids))
    return list(jobs.filter(metadata__contains={name: value}).exclude(metadata={})[:most])


def searched(organization: Organization, filters: dict[str, str], before: int | None, *, size: int) -> KeysetPage:
    """The jobs whose request or answer holds the words, of the next LOOKED that match otherwise and may have text still."""
    kept = timedelta(days=organization.keep_text_days) + LONGEST_JOB
    jobs = _jobs(organization, filters, before).filter(pk__gte=UUID(int=first_key(timezone.now() - kept)))
    looked = list(jobs.values_list("pk", "created_at")[:LOOKED])
    texts = _texts([pk for pk, _ in looked])
    words, found, unread, count = filters["text"].casefold(), [], 0, 0
    for pk, _ in looked:
        count += 1
        text = texts.get(pk, "")
        if text is None:
            unread += 1
        elif words in text:
            found.append(pk)
            if len(found) == size:
                break
    more = count < len(looked) or count == LOOKED
    rows = [Row(int(job.pk), page=JobPage(job)) for job in _jobs(organization, {}, None).filter(pk__in=found)]
    at = looked[count - 1] if count else None
    return KeysetPage(rows, f"{int(at[0]):032x}" if at and more else None, Looked(count, at[1] if at else None, unread))


def _texts(ids: list[UUID]) -> dict[UUID, str | None]:
    """What was said in these jobs, folded; None where it is too long or cannot be read, and nothing where it is not kept."""
    size = Coalesce(Length("sealed_request"), 0) + Coalesce(Length("sealed_answer"), 0)
    sizes = dict(Content.objects.filter(pk__in=ids).annotate(size=size).values_list("pk", "size"))
    found: dict[UUID, str | None] = dict.fromkeys(sizes)
    for content in Content.objects.filter(pk__in=[pk for pk, size in sizes.items() if size <= LONGEST_TEXT]):
        with suppress(Unreadable):
            said = (*said_in(content.request), content.text, *said_in(content.result))
            found[content.pk] = "\n".join(said).casefold()
    return found


def said_in(value: Any) -> Iterator[str]:
    """The texts in a request or a result, but for the words of the API itself."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, part in value.items():
            if name not in OWN_WORDS:
                yield from said_in(part)
    elif isinstance(value, list):
        for part in value:
            yield from said_in(part)


def parse_key(text: str | None) -> int | None:
    if not text or len(text) != 32:
        return None
    try:
        return int(text, 16)
    except ValueError:
        return None


def _jobs(organization: Organization, filters: dict[str, str], before: int | None) -> QuerySet[Job]:
    jobs = (
        Job.objects.of(organization)
        .select_related("model", "price", "api_key", "pool__node__site", "file")
        .order_by("-pk")
    )
    if filters.get("state") == REFUSED:
        return jobs.none()
    if before is not None:
        jobs = jobs.filter(pk__lt=UUID(int=before))
    if "id" in filters:
        keys = prefix_range(filters["id"])
        if keys is None:
            return jobs.none()
        jobs = jobs.filter(pk__gte=UUID(int=keys[0]), pk__lte=UUID(int=keys[1]))
    if filters.get("state") == OPEN:
        jobs = jobs.open()
    elif "state" in filters:
        jobs = jobs.filter(state=filters["state"])
    if "model" in filters:
        jobs = jobs.filter(model__name=filters["model"])
    if "key" in filters:
        jobs = (
            jobs.filter(api_key__isnull=True) if filters["key"] == PAGE else jobs.filter(api_key=UUID(filters["key"]))
        )
    if "range" in filters:
        jobs = jobs.filter(pk__gte=UUID(int=first_key(timezone.now() - RANGES[filters["range"]])))
    return jobs


def _refusals(organization: Organization, filters: dict[str, str], before: int | None) -> QuerySet[Refusal]:
    refusals = Refusal.objects.filter(organization=organization, at__gt=timezone.now() - REFUSED_FOR)
    refusals = refusals.select_related("api_key").order_by("-at", "-pk")
    if filters.get("state", REFUSED) != REFUSED or {"id", "metadata", "text"} & filters.keys():
        return refusals.none()
    if before is not None:
        at = datetime.fromtimestamp((before >> RANDOM_BITS) / 1000, UTC)
        same = Q(at__gte=at, at__lt=at + timedelta(milliseconds=1), pk__lt=before & ((1 << 63) - 1))
        if before & ((1 << RANDOM_BITS) - 1) >= 1 << 63:  # a job's key: every refusal of its millisecond is below it
            same = Q(at__gte=at, at__lt=at + timedelta(milliseconds=1))
        refusals = refusals.filter(Q(at__lt=at) | same)
    if "model" in filters:
        refusals = refusals.filter(model_name=filters["model"])
    if "key" in filters:
        refusals = (
            refusals.filter(api_key__isnull=True)
            if filters["key"] == PAGE
            else refusals.filter(api_key=UUID(filters["key"]))
        )
    if "range" in filters:
        refusals = refusals.filter(at__gt=timezone.now() - RANGES[filters["range"]])
    return refusals


COLUMNS = [
    "id",
    "created_at",
    "finished_at",
    "state",
    "model",
    "api_key",
    "prompt_tokens",
    "cached_prompt_tokens",
    "completion_tokens",
    "pages",
    "first_token_seconds",
    "charge_usd",
    "energy_wh",
    "energy_quality",
    "carbon_gco2e",
    "carbon_market_gco2e",
    "site",
    "attempts",
    "reason",
]


def record(row: Row) -> list[Any]:
    """A line of the export: exact figures, UTC."""
    if row.refusal is not None:
        refusal = row.refusal
        key = refusal.api_key.name if refusal.api_key else ""
        return [
            "",
            refusal.at.isoformat(),
            "",
            "refused",
            refusal.model_name,
            key,
            *[""] * 5,
            usd(0),
            *[""] * 6,
            refusal.message,
        ]
    assert row.page is not None
    page, job = row.page, row.page.job
    return [
        job.public_id,
        job.created_at.isoformat(),
        job.finished_at.isoformat() if job.finished_at else "",
        job.state,
        job.model.name,
        job.api_key.name if job.api_key else "",
        job.prompt_tokens,
        job.cached_prompt_tokens,
        job.completion_tokens,
        job.pages,
        "" if page.first_token_seconds is None or not job.writes else f"{page.first_token_seconds:.3f}",
        "" if job.charge_microusd is None else usd(job.charge_microusd),
        "" if job.energy_wh is None else job.energy_wh,
        job.energy_quality,
        "" if job.carbon_gco2e is None else job.carbon_gco2e,
        "" if job.carbon_market_gco2e is None else job.carbon_market_gco2e,
        page.site.name if page.site else "",
        job.attempt,
        job.error_message or job.reason,
    ]


async def export(organization: Organization, filters: dict[str, str]) -> AsyncIterator[str]:
    """The whole filtered list as CSV, a page at a time."""
    yield BYTE_ORDER_MARK + lines([COLUMNS])
    before: str | None = None
    while True:
        found = await database_sync_to_async(listing)(organization, filters, before=before, size=EXPORT_SIZE)
        yield lines([record(row) for row in found.rows])
        before = found.older
        if before is None:
            return
