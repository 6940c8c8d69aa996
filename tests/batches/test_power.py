"""What a batch draws now: the energy of its newest rows over the time they came in, and where nothing is known, nothing."""

import re
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.db import connection
from django.test import Client
from django.utils import timezone

from apps.batches.models import Batch, Row
from apps.batches.pages import power
from apps.batches.topics import PowerTopic
from apps.core.ids import uuid7
from apps.jobs.models import Job
from apps.live.topics import Viewer, resolve
from apps.sites.models import GPU
from tests import make
from tests.batches.works import deliver, finished, report, row, started

WH = 3_600_000  # mJ


def begun(works, rows: int = 40) -> tuple[Batch, Job]:
    batch = works.begin(rows)
    (job,) = works.feed()
    Job.objects.filter(pk=job.pk).update(energy_factor=1.5)
    deliver(started(job))
    return batch, job


def tell(job: Job, *lines: int, energy: int | None = WH) -> None:
    deliver(report(job, "rows", [row(line, gpu_energy_mj=energy) for line in lines]))


def came(seconds_ago: dict[int, float]) -> None:
    """The reports of these lines, to the microsecond as far apart as that."""
    now = timezone.now()
    for line, seconds in seconds_ago.items():
        Row.objects.filter(line=line).update(at=now - timedelta(seconds=seconds))


def drawn(batch: Batch) -> tuple[float | None, float]:
    found = power.read(batch)
    return None if found.w is None else round(found.w, 6), found.seconds


def test_from_report_to_report(works):
    batch, job = begun(works)
    assert drawn(batch) == (None, 0)  # no row
    tell(job, 1, 2)
    assert drawn(batch) == (None, 0)  # one report: over what time is not known
    tell(job, 3)
    came({1: 9.9, 2: 9.9, 3: 0})
    assert drawn(batch) == (None, 9.9)  # too short
    came({1: 12, 2: 12, 3: 3})
    tell(job, 4, 5)
    came({1: 12, 2: 12, 3: 3, 4: 0, 5: 0})
    assert drawn(batch) == (1350, 12)  # 3 rows of 1.5 Wh in 12 s
    tell(job, 6)
    tell(job, 7, 8)
    came({1: 78, 2: 78, 3: 69, 4: 66, 5: 66, 6: 30, 7: 0, 8: 0})
    assert drawn(batch) == (round(3 * 1.5 * 3600 / 66, 6), 66)  # those after the report before the last minute
    tell(job, 8, energy=9 * WH)  # told before: it counts once
    assert drawn(batch) == (round(3 * 1.5 * 3600 / 66, 6), 66)
    came({**dict.fromkeys(range(1, 6), 200), 6: 119, 7: 89, 8: 89})
    assert drawn(batch)[0] is not None
    came({**dict.fromkeys(range(1, 6), 200), 6: 121, 7: 91, 8: 91})
    assert drawn(batch)[0] is None  # it has been silent


def test_rows_of_a_report_have_one_time_and_what_is_not_measured_is_said(works):
    batch, job = begun(works)
    tell(job, *range(1, 30), energy=None)
    assert Row.objects.values("at").distinct().count() == 1
    tell(job, 30, energy=None)
    came({**dict.fromkeys(range(1, 30), 20), 30: 0})
    assert drawn(batch) == (None, 20)
    tell(job, 31)
    came({**dict.fromkeys(range(1, 30), 20), 30: 0, 31: 0})
    assert drawn(batch) == (270, 20)
    assert power.read(batch).note == "mean of the last 20\xa0s, not all rows measured"
    Row.objects.filter(line=30).update(status=400, charge_microusd=0)  # nothing was drawn for what was refused
    assert power.read(batch).note == "mean of the last 20\xa0s"


def test_what_it_says_of_itself(works):
    batch, job = begun(works)
    node = job.pool.node
    assert power.read(batch).hardware == "–"
    for number in range(3):
        GPU.objects.create(uuid=f"GPU-{number}", node=node, name="NVIDIA H200", memory_mib=143_771)
    GPU.objects.create(uuid="GPU-9", node=node, memory_mib=97_887)
    GPU.objects.create(uuid="GPU-8", node=make.node(), memory_mib=97_887)
    GPU.objects.filter(uuid="GPU-0").update(removed_at=batch.created_at)
    tell(job, 1)
    tell(job, 2)
    came({1: 60, 2: 0})
    client = Client()
    client.force_login(member(works))
    page = client.get(f"/batches/{batch.public_id}/").content.decode()
    shown = " ".join(re.sub("<[^>]+>", " ", page).split())
    assert "Drawing now mean of the last minute 90 W" in shown
    assert "Hardware of the nodes it runs on 2 × NVIDIA H200, 140 GB, 1 × 96 GB GPU" in shown
    Job.objects.filter(pk=job.pk).update(energy_quality="modelled")
    assert power.read(batch).note == "mean of the last minute, estimated from a model of the machine"
    Job.objects.filter(pk=job.pk).update(state="queued", pool=None)
    assert power.read(batch).hardware == "–"
    Batch.objects.filter(pk=batch.pk).update(state="cancelling")
    assert "Drawing now" not in client.get(f"/batches/{batch.public_id}/").content.decode()


def member(works):
    user = make.user()
    works.organization.memberships.create(user=user, role="owner")
    return user


def test_the_worst_quality_of_what_counts(works):
    batch = works.begin(450)  # three shards
    jobs = works.feed()
    for job in jobs:
        deliver(started(job))
    one, two = jobs[:2]
    deliver(finished(one, quality="nameplate"))
    assert power.read(batch).quality == ""  # what came first does not count
    Row.objects.update(at=timezone.now() - timedelta(seconds=30))
    deliver(finished(two, quality="integrated"))
    assert power.read(batch).quality == "integrated"


@pytest.mark.parametrize("size", [20_000])
def test_however_many_rows_there_are_few_are_read(works, size):
    batch, job = begun(works)
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO batches_row (batch_id, line, job_id, status, prompt_tokens, cached_prompt_tokens, completion_tokens, charge_microusd, energy_wh, at)"
            " SELECT %s, 1000 + n, %s, 200, 0, 0, 0, 0, 1, now() - make_interval(secs => n) FROM generate_series(1, %s) n",
            [batch.pk, job.pk, size],
        )
        cursor.execute("ANALYZE batches_row")
        cursor.execute("EXPLAIN (ANALYZE, FORMAT JSON) " + power.RECENT, {"batch": batch.pk, "seconds": 60})
        plan = str(cursor.fetchone()[0])
    assert "Seq Scan', 'Parallel Aware': False, 'Async Capable': False, 'Relation Name': 'batches_row'" not in plan
    read = [int(rows) for rows in re.findall(r"'Actual Rows': (\d+)", plan)]
    assert max(read) == 60
    assert round(power.read(batch).w or 0) == 3600


@pytest.mark.django_db(transaction=True)
async def test_live(works):
    def seed():
        batch, job = begun(works)
        return batch, job, member(works)

    batch, job, user = await sync_to_async(seed)()
    name = f"batch.{batch.public_id}.power"
    topic = resolve(name, Viewer(user, works.organization.pk, frozenset({works.organization.pk})))
    assert isinstance(topic, PowerTopic)
    assert await topic.allowed()
    assert not await PowerTopic(name, Viewer(user, uuid7(), frozenset({uuid7()})), batch=batch.public_id).allowed()

    async def said():
        return [message["set"] for message in await topic.news(0)]

    unknown = {"figure": "–", "note": "known once rows have come for some seconds", "hardware": "–"}
    assert await said() == [unknown]
    assert await said() == []

    def move():
        tell(job, 1)
        tell(job, 2)
        came({1: 45, 2: 0})

    await sync_to_async(move)()
    assert await said() == [{**unknown, "figure": "120\xa0W", "note": "mean of the last 45\xa0s"}]
    await sync_to_async(Batch.objects.filter(pk=batch.pk).update)(state="finalizing")
    assert not topic.finished
    assert await said() == []
    assert topic.finished
