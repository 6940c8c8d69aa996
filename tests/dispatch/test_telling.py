"""A customer's webhooks hear how background work ended, once; of what a client waits for they hear nothing."""

import pytest

from apps.dispatch import services as dispatch
from apps.dispatch.dispatcher import Dispatcher
from apps.webhooks import services as webhooks
from apps.webhooks.models import Delivery, Message
from tests.dispatch import site


@pytest.fixture
def endpoint(shop):
    made, _ = webhooks.create(
        organization=shop.organization,
        url="https://example.com/hooks",
        description="",
        event_types=["job.succeeded", "job.failed", "job.cancelled", "job.expired"],
        user=None,
    )
    return made


def told() -> list[tuple[str, dict]]:
    return list(Message.objects.order_by("created_at").values_list("type", "data"))


def test_background_work_that_ended_is_told_once(shop, endpoint):
    job = shop.submit(interactive=False)
    news = site.report(job)
    outcomes = [site.deliver(news), site.deliver(news)]
    assert [outcome.told for outcome in outcomes] == [True, False]
    job.refresh_from_db()
    data = {"id": job.public_id, "state": "succeeded", "charge_microusd": job.charge_microusd}
    assert told() == [("job.succeeded", data)]
    assert Delivery.objects.get().endpoint == endpoint


def test_each_way_to_end_is_told(shop, endpoint):
    cancelled = shop.submit(interactive=False)
    dispatch.cancel(job_id=cancelled.pk)
    expired, failed = shop.submit(interactive=False), shop.submit(interactive=False)
    site.deliver(site.report(failed, state="failed", failure=site.BAD_REQUEST))
    site.pass_deadline(expired)
    site.lose(expired)
    Dispatcher().tick()
    assert {(type, data["id"], data["charge_microusd"]) for type, data in told()} == {
        ("job.cancelled", cancelled.public_id, 0),
        ("job.failed", failed.public_id, 0),
        ("job.expired", expired.public_id, 0),
    }


def test_nobody_is_told_of_what_a_client_waits_for(shop, endpoint):
    assert not site.deliver(site.report(shop.submit(interactive=True))).told
    assert told() == []


def test_without_a_webhook_nothing_is_written(shop):
    assert not site.deliver(site.report(shop.submit(interactive=False))).told
    assert told() == []
