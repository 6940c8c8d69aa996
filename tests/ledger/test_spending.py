"""How fast credit goes: hours of charges are summed once, and say what the journal says."""

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from apps.core.ids import uuid7
from apps.ledger import spending
from apps.ledger.models import ChargedHour, ChargedUntil
from apps.ledger.spending import Pace
from apps.ledger.tasks import sum_charges
from cango_portal import database
from tests import make


@pytest.fixture
def now():
    """Of the test, not of its file: the database's clock says which hours are over."""
    return timezone.now()


@pytest.fixture
def hour(now):
    """Over and settled."""
    return spending.hour_of(now - timedelta(hours=2))


@pytest.fixture
def pace(now):
    def said(organization) -> Pace:
        return database.run(spending._pace(organization.pk, 10_000, now))

    return said


def moved(organization, microusd, at, *, debit="held", credit="revenue") -> None:
    """A line of the journal of another time."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO ledger_transfer (id, key, organization_id, debit, credit, amount_microusd, reason, actor, at)"
            " VALUES (%s, %s, %s, %s, %s, %s, '', '', %s)",
            [pk := uuid7(), f"charge:{pk}", organization.pk, debit, credit, microusd, at],
        )


@pytest.fixture
def organization(db, now, hour):
    """Spent for four days and two hours; half an hour ago too. Nothing of another or of another kind counts."""
    made = make.organization()
    began = hour - timedelta(days=4)
    for at, microusd in ((began, 700), (began + timedelta(minutes=40), 20), (hour, 80), (now, 200)):
        moved(made, microusd, at)
    moved(made, 5_000, hour, debit="credit", credit="held")
    moved(made, 9_000, hour - timedelta(days=8))
    moved(make.organization(), 7_000, hour)
    return made


def test_hours_say_what_the_journal_says(organization, now, hour, pace):
    before = pace(organization)
    daily = round(1_000 * 86_400 / (now - hour + timedelta(days=4)).total_seconds())
    assert before == Pace(daily, 10_000 // daily)
    sum_charges()
    rows = ChargedHour.objects.filter(organization=organization).order_by("hour")
    assert [(row.hour, row.microusd) for row in rows] == [(hour - timedelta(days=4), 720), (hour, 80)]
    assert pace(organization) == before
    sum_charges()
    assert (rows.count(), pace(organization)) == (2, before)


def test_what_was_written_into_the_past_counts_after_that_was_said(organization, now, hour, pace):
    sum_charges()
    before, until = pace(organization), ChargedUntil.objects.get().at
    moved(organization, 100, hour)
    assert pace(organization) == before
    database.run(spending.again(hour + timedelta(minutes=59)))
    assert ChargedUntil.objects.get().at == hour
    waiting = pace(organization)
    assert waiting.microusd_per_day == round(1_100 * 86_400 / (now - hour + timedelta(days=4)).total_seconds())
    sum_charges()
    assert ChargedUntil.objects.get().at >= until
    assert pace(organization) == waiting
    assert ChargedHour.objects.get(organization=organization, hour=hour).microusd == 180


def test_hours_of_the_week_before_are_forgotten(organization, hour):
    sum_charges()
    ChargedHour.objects.create(organization=organization, hour=hour - timedelta(days=8), microusd=1)
    database.run(spending.again(hour))
    sum_charges()
    assert ChargedHour.objects.filter(organization=organization).count() == 2


def test_nothing_spent_has_no_end(db, pace):
    assert pace(make.organization()) == Pace(0, None)


def test_a_flood_that_nobody_summed_is_as_fast_as_its_newest(db, monkeypatch, now, pace):
    monkeypatch.setattr(spending, "NEWEST", 2)
    organization = make.organization()
    for minutes, microusd in ((600, 90_000), (12, 10), (6, 10)):
        moved(organization, microusd, now - timedelta(minutes=minutes))
    assert pace(organization).microusd_per_day == 20 * 24 * 5


def test_an_old_hour_does_not_hide_a_flood_nor_a_lull_the_hours(db, monkeypatch, now, hour, pace):
    monkeypatch.setattr(spending, "NEWEST", 2)
    small, great = make.organization(), make.organization()
    began = hour - timedelta(days=4)
    moved(small, 100_000, began)
    moved(great, 90_000_000, began)
    sum_charges()
    for organization, microusd in ((small, 10_000), (great, 10)):
        for minutes in (9, 6, 3):
            moved(organization, microusd, now - timedelta(minutes=minutes))
    assert pace(small).microusd_per_day == 20_000 * 10 * 24
    day = timedelta(days=1)
    waits = 20 * 10 * 24 * ((now - ChargedUntil.objects.get().at) / day)
    assert pace(great).microusd_per_day == round((90_000_000 + waits) / ((now - began) / day))


def test_what_stands_on_every_page_is_the_same_figure_of_a_minute_ago_at_most(organization, pace, now):
    lately = spending.lately(organization.pk, available_microusd=10_000)
    assert lately.microusd_per_day == pytest.approx(pace(organization).microusd_per_day, abs=1)  # a moment passed
    assert lately.days_left == 10_000 // lately.microusd_per_day
    moved(organization, 50_000, now)
    assert spending.lately(organization.pk, available_microusd=10_000) == lately
    half = spending.lately(organization.pk, available_microusd=5_000)
    assert half == Pace(lately.microusd_per_day, 5_000 // lately.microusd_per_day)  # what is free is of now


@pytest.mark.parametrize(
    ("days", "words"),
    [
        (None, ""),
        (0, "less than a day at this pace"),
        (1, "about 1 day at this pace"),
        (19, "about 19 days at this pace"),
        (365, "about 365 days at this pace"),
        (366, "more than a year at this pace"),
    ],
)
def test_how_long_it_lasts_in_words(days, words):
    assert Pace(1, days).words == words
