"""Readings at the runners' door: counted once, by the node that says them, and shown while Redis is there."""

import time
from datetime import UTC, datetime, timedelta

import pytest

from apps.runner.protocol import GPUReading, Reading, Telemetry
from apps.telemetry import counting, newest, retention, tasks
from apps.telemetry.models import Last, Minute, SiteMeterReading, Source
from cango_portal import database
from tests import make
from tests.agents.test_door import RIGHT, door, node  # noqa: F401 - fixtures

BEGAN = int(time.time() // 60) * 60 - 600.0


def look(seq, *, at=None, mj=None, **gpu):
    return Reading(
        seq=seq, at=BEGAN + 5 * seq if at is None else at, gpus=[GPUReading(uuid="GPU-a", energy_mj=mj, **gpu)]
    )


def told(*looks, boot="one"):
    return Telemetry(boot=boot, readings=list(looks))


def count(row, given, now=None):
    return database.run(counting.count(row.pk, given, now=now or time.time()))


def drawn():
    return sum(minute.energy_mj or 0 for minute in Minute.objects.all())


@pytest.mark.django_db
def test_what_is_sent_again_in_part_or_whole_is_counted_once():
    row = make.node()
    looks = [look(n, mj=n * 1000, power_w=200.0 + n, temperature_c=60.0 + n) for n in range(1, 9)]
    assert count(row, told(*looks[:4])) == 4
    assert count(row, told(*looks[:4])) == 4
    assert count(row, told(*looks[2:8])) == 8
    assert count(row, told(looks[0])) == 8
    minute = Minute.objects.get()
    assert (minute.energy_mj, minute.counted_seconds, minute.quality) == (7000, 35, "counter")
    assert (minute.samples, minute.power_mean_w, minute.power_max_w, minute.temperature_max_c) == (
        8,
        204.5,
        208.0,
        68.0,
    )
    assert (Last.objects.get().energy_mj, Source.objects.get().seq) == (8000, 8)


@pytest.mark.django_db
def test_a_restart_of_the_runner_loses_no_energy_and_another_node_is_another():
    row, other = make.node(), make.node()
    count(row, told(look(1, mj=1000), look(2, mj=2000)))
    count(row, told(look(1, at=BEGAN + 130, mj=9000), boot="two"))
    assert drawn() == 8000
    assert [minute.at.timestamp() - BEGAN for minute in Minute.objects.order_by("at")] == [0, 60, 120]
    count(other, told(look(1, mj=5)))
    assert (drawn(), Last.objects.count()) == (8000, 2)


@pytest.mark.django_db
def test_looks_of_another_time_are_not_believed_and_not_asked_for_again():
    row, now = make.node(), time.time()
    late = look(1, at=now - 74 * 3600, mj=1)
    early = look(2, at=now + 600, mj=10**9)
    assert count(row, told(late, early)) == 2
    assert (Minute.objects.count(), Last.objects.count()) == (0, 0)


@pytest.mark.django_db
def test_what_is_old_is_forgotten_by_age(settings):
    row = make.node()
    count(row, told(look(1, mj=1000)))
    made = Minute.objects.get()
    tasks.forget()
    assert Minute.objects.count() == Source.objects.count() == 1
    Minute.objects.filter(pk=made.pk).update(
        at=datetime.now(UTC) - timedelta(days=settings.TELEMETRY_RETENTION_DAYS + 1)
    )
    Source.objects.update(heard_at=datetime.now(UTC) - timedelta(days=8))
    tasks.forget()
    assert Minute.objects.count() == Source.objects.count() == 0


@pytest.mark.django_db
def test_it_is_forgotten_in_rounds_the_oldest_first_and_a_run_ends(settings, monkeypatch):
    monkeypatch.setattr(retention, "AT_ONCE", 2)
    row, now = make.node(), datetime.now(UTC)
    old = now - timedelta(days=settings.TELEMETRY_RETENTION_DAYS, seconds=1)
    for age in range(5):
        Minute.objects.create(node=row, uuid="GPU-0", at=old - timedelta(minutes=age))
        SiteMeterReading.objects.create(site=row.site, at=old - timedelta(minutes=age), energy_wh=1)
    kept = Minute.objects.create(node=row, uuid="GPU-0", at=old + timedelta(hours=1))
    monkeypatch.setattr(retention, "ROUNDS", 1)
    assert retention.forget(now) == 2 + 2
    assert Minute.objects.earliest("at").at == old - timedelta(minutes=2)
    monkeypatch.setattr(retention, "ROUNDS", 9)
    assert retention.forget(now) == 3 + 3
    assert list(Minute.objects.all()) == [kept]
    assert not SiteMeterReading.objects.exists()


def test_the_door_counts_for_its_node_and_shows_the_newest(shop, node, door, admin_client):  # noqa: F811
    content = told(look(1, mj=10), look(2, mj=40)).model_dump_json()
    answer = door("POST", "/agent/v1/telemetry", headers=RIGHT, content=content)
    assert (answer.status_code, answer.json()) == (200, {"seq": 2})
    assert (drawn(), Minute.objects.get().node_id) == (30, node.pk)
    assert door("POST", "/agent/v1/telemetry", headers={}, content=content).status_code == 401
    bad = content.replace('"energy_mj":40', '"energy_mj":-40')
    assert door("POST", "/agent/v1/telemetry", headers=RIGHT, content=bad).status_code == 400

    assert newest.of(node.pk) is None
    now = look(3, at=time.time(), power_w=412.5, utilization=0.97, clocks_event_reasons=["sw_power_cap"])
    beat = {"claimant": "a", "reading": now.model_dump()}
    assert door("POST", "/agent/v1/heartbeat", headers=RIGHT, json=beat).status_code == 200
    assert newest.of(node.pk)["gpus"][0]["power_w"] == 412.5
    assert drawn() == 30
    page = admin_client.get(f"/admin/sites/node/{node.pk}/change/").content.decode()
    assert "<td>412.5</td><td>–</td><td>97%</td>" in page
    assert "<td>sw_power_cap</td><td>–</td>" in page
    assert "portal/admin-live.js" in page


def test_with_redis_away_a_heartbeat_is_taken_all_the_same(shop, node, door, monkeypatch):  # noqa: F811
    monkeypatch.setattr("cango_portal.valkey.client_async", away)
    monkeypatch.setattr("apps.live.bell.ring_async", quiet)
    beat = {"claimant": "b", "reading": look(1, at=time.time(), power_w=1.0).model_dump()}
    assert door("POST", "/agent/v1/heartbeat", headers=RIGHT, json=beat).status_code == 200
    node.refresh_from_db()
    assert node.claimant == "b"


def away():
    raise ConnectionError("away")


async def quiet(*topics):
    pass
