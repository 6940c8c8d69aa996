"""What a batch draws now and on what: the energy its rows were attributed lately, over the time they came in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Count
from django.utils.translation import gettext

from apps.batches.models import Batch
from apps.core import numbers
from apps.core.sql import Plan, Row, Statement
from apps.jobs.models import Job
from apps.sites.models import GPU
from cango_portal import database

SPAN_SECONDS = 60  # looked back at, and on to the report before: all rows of a report have one time, so it goes from report to report
LEAST_SECONDS = 10  # a shorter span says little
SILENT_SECONDS = 90  # after the newest row nobody knows what is drawn
MIB_PER_GB = 1024  # as memory of GPUs is named

RECENT = """
WITH newest AS (
    SELECT at FROM batches_row WHERE batch_id = %(batch)s ORDER BY at DESC LIMIT 1
), span AS (
    SELECT newest.at AS until, coalesce(
        (SELECT r.at FROM batches_row r WHERE r.batch_id = %(batch)s AND r.at <= newest.at - make_interval(secs => %(seconds)s) ORDER BY r.at DESC LIMIT 1),
        (SELECT r.at FROM batches_row r WHERE r.batch_id = %(batch)s ORDER BY r.at LIMIT 1)
    ) AS since FROM newest
), ended AS (
    SELECT r.job_id, sum(r.energy_wh) AS energy_wh, bool_or(r.energy_wh IS NULL AND r.status = 200) AS partial FROM span, batches_row r
    WHERE r.batch_id = %(batch)s AND r.at > span.since AND r.at <= span.until GROUP BY r.job_id
)
SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint AS version,
    (SELECT extract(epoch FROM until - since)::float8 FROM span) AS seconds,
    (SELECT extract(epoch FROM clock_timestamp() - until)::float8 FROM span) AS silent_seconds,
    (SELECT sum(energy_wh) FROM ended) AS energy_wh,
    (SELECT coalesce(bool_or(partial), false) FROM ended) AS partial,
    (SELECT max(j.energy_quality) FROM ended JOIN jobs_job j ON j.id = ended.job_id) AS quality
"""  # of the words of quality the last is the least: counter, integrated, modelled, nameplate


@dataclass(frozen=True, slots=True)
class Power:
    """`w` is the mean over `seconds`; None where nobody knows, and too low where `partial`: there are answers whose energy nobody
    knows. `gpus` are (name, memory, how many) of the nodes where it runs."""

    version: int
    w: float | None
    seconds: float
    quality: str
    gpus: Sequence[tuple[str, int | None, int]]
    partial: bool = False

    @property
    def figure(self) -> str:
        return numbers.power(self.w)

    @property
    def note(self) -> str:
        """What the figure is: over how long, and how it was come by as far as a shard that ended says it."""
        if self.w is None:
            return gettext("known once rows have come for some seconds")
        mean = gettext("mean of the last minute")
        if not 55 <= self.seconds < 90:
            mean = gettext("mean of the last %(time)s") % {"time": numbers.duration(round(self.seconds))}
        how = str(Job(energy_quality=self.quality).get_energy_quality_display()) if self.quality else ""
        less = gettext("not all rows measured") if self.partial else ""
        return gettext(", ").join(filter(None, (mean, less, how)))

    @property
    def hardware(self) -> str:
        return gettext(", ").join(
            f"{count}{numbers.SPACE}×{numbers.SPACE}{gpu(name, memory_mib)}" for name, memory_mib, count in self.gpus
        ) or numbers.NONE  # fmt: skip

    def fields(self) -> dict[str, str]:
        return {"figure": self.figure, "note": self.note, "hardware": self.hardware}


def gpu(name: str, memory_mib: int | None) -> str:
    """
    >>> gpu("NVIDIA H200", 143771), gpu("", 97887), gpu("NVIDIA L4", None), gpu("", None)
    ('NVIDIA H200, 140\\xa0GB', '96\\xa0GB GPU', 'NVIDIA L4', 'GPU')
    """
    memory = f"{memory_mib / MIB_PER_GB:.0f}{numbers.SPACE}GB" if memory_mib else ""
    if name:
        return f"{name}, {memory}" if memory else name
    return f"{memory} GPU" if memory else "GPU"


def read(batch: Batch) -> Power:
    """Of one that runs. By the index of its rows by time: as many as came in a minute, whatever its size."""
    row = database.run(recent(batch))
    known = row["energy_wh"] is not None and row["seconds"] >= LEAST_SECONDS and row["silent_seconds"] <= SILENT_SECONDS
    open_shards = Job.objects.open().filter(organization_id=batch.organization_id, batch_id=batch.pk)
    here = GPU.objects.filter(removed_at=None, node__in=open_shards.filter(pool__isnull=False).values("pool__node"))
    gpus = here.values_list("name", "memory_mib").annotate(count=Count("pk")).order_by("-count", "name", "memory_mib")
    return Power(
        row["version"],
        row["energy_wh"] * 3600 / row["seconds"] if known else None,
        row["seconds"] or 0.0,
        row["quality"] or "",
        list(gpus),
        row["partial"],
    )


def recent(batch: Batch) -> Plan[Row]:
    return (yield Statement(RECENT, {"batch": batch.pk, "seconds": SPAN_SECONDS}, alone=True))[0]
