import json

import pytest
from django.conf import settings

from apps.dispatch import outbox
from apps.dispatch import services as dispatch
from apps.dispatch.models import Order
from apps.jobs.models import Content, Event, Job
from apps.keys.services import Caller
from apps.ledger import services as ledger
from apps.ledger.models import Hold, Transfer
from apps.runner import protocol
from cango_portal import database
from tests import make
from tests.ledger.books import balanced
from tests.threads import run_in_threads

CEILING = 120 + 180  # 1,000 tokens at $0.12 and 500 at $0.36 per million


def queued_orders(valkey, pool) -> list[protocol.Order]:
    messages = valkey.lrange(protocol.queue(pool.code), 0, -1)
    import base64

    return [
        protocol.Order.model_validate(json.loads(base64.b64decode(json.loads(message)["body"]))[0][0])
        for message in messages
    ]


def test_a_free_slot_makes_a_routed_job_with_hold_order_and_message(shop, valkey):
    job = shop.submit()
    assert (job.state, job.attempt, job.pool, job.version) == ("dispatched", 1, shop.pool, 1)
    assert job.hold_microusd == CEILING
    assert ledger.balance(shop.organization.pk) == ledger.Balance(1_000_000 - CEILING, 0, CEILING, 0)
    [order] = queued_orders(valkey, shop.pool)
    assert (order.job, order.attempt, order.fence, order.pool) == (str(job.pk), 1, str(job.fence), shop.pool.code)
    assert order.body == {"messages": [{"role": "user", "content": "Hello"}]}
    assert Order.objects.get().body == order.model_dump(mode="json", exclude={"body"})
    assert valkey.zcard(f"slots:{shop.pool.code}") == 1
    [event] = job.events.all()
    assert (event.number, event.state, event.data) == (1, "dispatched", {"site": shop.pool.node.site.name})
    balanced()


def test_a_full_pool_makes_a_queued_job_and_no_order(shop, valkey):
    first, second, third = (shop.submit() for _ in range(3))
    assert [first.state, second.state, third.state] == ["dispatched", "dispatched", "queued"]
    assert (third.fence, third.pool, third.reason) == (None, None, "Waiting for a free GPU")
    assert Order.objects.filter(job=third).count() == 0
    assert len(queued_orders(valkey, shop.pool)) == 2


def test_nobody_jumps_the_line(shop, valkey):
    waiting = [shop.submit() for _ in range(3)][-1]
    valkey.delete(f"slots:{shop.pool.code}")
    assert waiting.state == "queued"
    assert shop.submit().state == "queued"


def test_without_credit_nothing_is_written_and_the_slot_is_free(shop, valkey):
    poor = make.organization(credit_microusd=CEILING - 1)
    with pytest.raises(ledger.InsufficientCredit):
        dispatch.submit(caller=Caller(poor.pk, None, None), work=shop.work())
    assert [model.objects.count() for model in (Job, Content, Event, Order, Hold)] == [0, 0, 0, 0, 0]
    assert Transfer.objects.filter(hold__isnull=False).count() == 0
    assert valkey.zcard(f"slots:{shop.pool.code}") == 0
    assert queued_orders(valkey, shop.pool) == []
    balanced()


def test_racing_submissions_never_overspend_nor_overfill(shop, valkey):
    poor = make.organization(credit_microusd=CEILING * 5 + 1)
    outcomes = run_in_threads(24, lambda n: dispatch.submit(caller=Caller(poor.pk, None, None), work=shop.work()))
    assert sum(isinstance(outcome, ledger.InsufficientCredit) for outcome in outcomes) == 19
    assert Job.objects.count() == 5
    assert Job.objects.filter(state="dispatched").count() <= 2
    assert ledger.balance(poor.pk) == ledger.Balance(1, 0, CEILING * 5, 0)
    balanced()


def test_pools_that_cannot_work_are_not_chosen_and_say_why(shop):
    shop.pool.ready, shop.pool.reason = False, "engine restarting"
    shop.pool.save()
    job = shop.submit()
    assert (job.state, job.reason) == ("queued", "Waiting for a site: engine restarting")
    assert job.placement["candidates"] == [
        {"pool": shop.pool.code, "site": shop.pool.node.site.name, "usd_per_mwh": 59.4, "refusal": "engine restarting"}
    ]


def test_the_cheaper_site_is_chosen(shop):
    cheap = make.pool(model=shop.model, node=make.node(site=make.site(power_usd_per_mwh=20)))
    job = shop.submit()
    assert job.pool == cheap
    assert job.reason == f"{cheap.node.site.name} has the lowest cost of power of 2 ready pools with a free slot"
    assert (job.energy_factor, job.grid_gco2e_per_kwh) == (pytest.approx(1.32), 380)


def test_a_broker_that_is_away_delays_the_order_and_loses_nothing(shop, valkey, monkeypatch):
    outbox.broker.cache_clear()
    monkeypatch.setattr(settings, "CELERY_BROKER_URL", "redis+socket:///nonexistent/valkey.sock")
    job = shop.submit()
    assert job.state == "dispatched"
    assert queued_orders(valkey, shop.pool) == []
    monkeypatch.undo()
    outbox.broker.cache_clear()
    assert database.run(outbox.unclaimed()) == []  # its first chance is not over
    monkeypatch.setattr(outbox, "RESEND_SECONDS", 0)
    [body] = database.run(outbox.unclaimed())
    assert outbox.send(body, queue=protocol.queue(shop.pool.code))
    assert [order.job for order in queued_orders(valkey, shop.pool)] == [str(job.pk)]


def test_redis_away_queues_the_job(shop, monkeypatch):
    from cango_portal import valkey

    monkeypatch.setattr(settings, "REDIS_URL", "unix:///nonexistent/valkey.sock")
    valkey.client.cache_clear()
    try:
        job = shop.submit()
    finally:
        monkeypatch.undo()
        valkey.client.cache_clear()
    assert job.state == "queued"
    assert ledger.balance(shop.organization.pk).held_microusd == CEILING


def test_a_long_request_travels_by_signed_address(shop, valkey):
    job = shop.submit(body={"messages": [{"role": "user", "content": "x" * 70_000}]})
    [order] = queued_orders(valkey, shop.pool)
    assert order.body is None
    assert order.body_url.startswith(f"/agent/v1/bodies/{job.pk}?expires=")
