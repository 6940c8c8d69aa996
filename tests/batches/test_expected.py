"""What a batch is expected to cost is said with every report; the charges it follows from are read every few seconds."""

from datetime import UTC, datetime, timedelta

from asgiref.sync import sync_to_async

from apps.batches import topics
from apps.batches.models import Batch, Row
from apps.live.topics import Viewer
from cango_portal import database
from tests import make
from tests.batches.works import deliver, some


async def test_its_sample_holds_for_some_seconds_and_its_sums_are_those_of_the_moment(works):
    @sync_to_async
    def begin():
        batch = works.begin(200)
        (job,) = works.feed()
        deliver(some(job, list(range(1, 51))))
        Row.objects.filter(line__lte=25).update(charge_microusd=100)
        Row.objects.filter(line__gt=25).update(charge_microusd=200)
        begun = datetime.now(UTC) - timedelta(seconds=50)
        Batch.objects.update(in_progress_at=begun, charge_microusd=7500, hold_microusd=60_000, version=10)
        return batch, make.user()

    batch, user = await begin()
    viewer = Viewer(user, works.organization.pk, frozenset({works.organization.pk}))
    topic = topics.BatchTopic(f"batch.{batch.public_id}", viewer, batch=batch.public_id)
    topic.phase = "in_progress"
    version = 10

    async def said(**fields) -> str:
        nonlocal version
        version += 1
        await sync_to_async(Batch.objects.update)(version=version, **fields)
        (told,) = await topic.news(version - 1)
        return told["set"]["expected"]

    assert await said() == "$0.0275 to $0.0325"
    await sync_to_async(Row.objects.update)(charge_microusd=150)  # no report does that: it shows what is read
    assert await said() == "$0.0275 to $0.0325"
    assert await said(hold_microusd=31_000) == "$0.0275 to $0.0310"
    topic.sample_at -= topics.SAMPLE_SECONDS
    assert await said() == "$0.0300"
    await database.close()
