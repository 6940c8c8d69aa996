"""A site's meter against its GPUs: an alarm beyond 8 % for a quarter of an hour, one at a time, and its end."""

import logging
from datetime import UTC, datetime, timedelta

import pytest

from apps.core.errors import InvalidRequest
from apps.sites.models import Feed, FeedValue
from apps.telemetry import meters
from apps.telemetry.models import MeterAlarm, Minute, SiteMeterReading
from tests import make

NOW = datetime.now(UTC).replace(second=0, microsecond=0)
START = NOW - timedelta(minutes=40)


@pytest.fixture
def site(db):
    """Two GPUs of two nodes draw 300 W each for forty minutes: at (1 + 0.1) × 1.2 that is 13.2 Wh a minute."""
    made = make.site(pue=1.2, host_share=0.1)
    for _ in range(2):
        node = make.node(site=made)
        for minute in range(40):
            Minute.objects.create(
                node=node, uuid="GPU-a", at=START + timedelta(minutes=minute), energy_mj=18_000_000,
                counted_seconds=60, quality="counter", samples=12,
            )  # fmt: skip
    return made


def show(site, **wh):
    """`m7=…`: what the meter showed in minute 7."""
    for minute, value in wh.items():
        moment = START + timedelta(minutes=float(minute[1:].replace("_", ".")))
        SiteMeterReading.objects.create(site=site, at=moment, energy_wh=1_000_000 + value)


def test_within_8_percent_is_no_alarm_and_parts_of_minutes_count_by_their_part(site):
    show(site, m3_5=0, m20_5=17 * 13.2 / 0.921)
    meters.reconcile()
    assert MeterAlarm.objects.count() == 0
    show(site, m21_25=17.75 * 13.2 / 0.919)
    meters.reconcile()
    alarm = MeterAlarm.objects.get()
    assert alarm.counted_wh == pytest.approx(17.75 * 13.2)


def test_the_alarm_is_raised_once_logged_and_ends_when_they_agree(site, caplog):
    show(site, m0=0, m10=100, m16=16 * 15)
    caplog.set_level(logging.WARNING, logger="apps.telemetry.meters")
    meters.reconcile()
    meters.reconcile()
    alarm = MeterAlarm.objects.get()
    assert (alarm.open, alarm.meter_wh, alarm.counted_wh) == (True, pytest.approx(240), pytest.approx(211.2))
    assert [record.message for record in caplog.records] == ["a site's meter and its GPUs differ"]
    show(site, m32=240 + 16 * 13.2)
    meters.reconcile()
    alarm.refresh_from_db()
    assert (alarm.open, alarm.ended_at is not None) == (False, True)
    assert MeterAlarm.objects.count() == 1


def test_a_shorter_time_a_changed_meter_and_what_may_still_come_say_nothing(site):
    show(site, m0=0, m14=5000)
    show(site, m39=0)  # it shows less than before: another meter
    SiteMeterReading.objects.create(site=site, at=datetime.now(UTC) - timedelta(seconds=30), energy_wh=9e9)
    meters.reconcile()
    assert MeterAlarm.objects.count() == 0


def test_a_meter_that_stands_still_while_gpus_work_is_an_alarm(site):
    show(site, m0=0, m15=0)
    meters.reconcile()
    assert MeterAlarm.objects.get().meter_wh == 0


def test_a_feed_is_a_meter_too(site):
    feed = Feed.objects.create(code="meter-1", kind="meter", adapter="file", address="x", unit="kwh")
    site.meter_feed = "meter-1"
    site.save()
    for minute, value in ((0, 0.0), (15, 5000.0)):
        FeedValue.objects.create(feed=feed, at=START + timedelta(minutes=minute), value=value)
    meters.reconcile()
    meters.reconcile()
    assert SiteMeterReading.objects.count() == 2
    assert MeterAlarm.objects.get().meter_wh == 5000


def test_staff_enter_readings_with_a_reason_or_nothing_is_written(site):
    actor = make.user(is_staff=True)
    good = f"at,value\n{START.isoformat()},81.5\n"
    meters.enter(site=site, content=good, unit="kwh", reason="Read on site", actor=actor)
    meters.enter(site=site, content=good.replace("81.5", "82"), unit="kwh", reason="Misread", actor=actor)
    assert SiteMeterReading.objects.get().energy_wh == 82_000
    for bad in ("", "at,value\nyesterday,1", good.replace("81.5", "-1")):
        with pytest.raises(InvalidRequest):
            meters.enter(site=site, content=bad, unit="wh", reason="Wrong", actor=actor)
    assert SiteMeterReading.objects.get().energy_wh == 82_000
