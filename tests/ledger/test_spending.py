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

NOW = timezone.now()
HOUR = spending.hour_of(NOW - timedelta(hours=2))  # over and settled


def moved(organization, microusd, at, *, debit="held", credit="revenue") -> None:
    """A line of the journal of another time."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO ledger_transfer (id, key, organization_id, debit, credit, amount_microusd, reason, actor, at)"
            " VALUES (%s, %s, %s, %s, %s, %s, '', '', %s)",
            [pk := uuid7(), f"charge:{pk}", organization.pk, debit, credit, microusd, at],
        )


def pace(organization, available=10_000) -> Pace:
    return database.run(spending._pace(organization.pk, available, NOW))


@pytest.fixture
def organization(db):
    """Spent for four days and two hours; half an hour ago too. Nothing of another or of another kind counts."""
    made = make.organization()
    began = HOUR - timedelta(days=4)
    for at, microusd in ((began, 700), (began + timedelta(minutes=40), 20), (HOUR, 80), (NOW, 200)):
        moved(made, microusd, at)
    moved(made, 5_000, HOUR, debit="credit", credit="held")
    moved(made, 9_000, HOUR - timedelta(days=8))
    moved(make.organization(), 7_000, HOUR)
    return made


def test_hours_say_what_the_journal_says(organization):
    before = pace(organization)
    daily = round(1_000 * 86_400 / (NOW - HOUR + timedelta(days=4)).total_seconds())
    assert before == Pace(daily, 10_000 // daily)
    sum_charges()
    hours = ChargedHour.objects.filter(organization=organization).order_by("hour")
    assert [(row.hour, row.microusd) for row in hours] == [(HOUR - timedelta(days=4), 720), (HOUR, 80)]
    assert pace(organization) == before
    sum_charges()
    assert (hours.count(), pace(organization)) == (2, before)


def test_what_was_written_into_the_past_counts_after_that_was_said(organization):
    sum_charges()
    before, until = pace(organization), ChargedUntil.objects.get().at
    moved(organization, 100, HOUR)
    assert pace(organization) == before
    database.run(spending.again(HOUR + timedelta(minutes=59)))
    assert ChargedUntil.objects.get().at == HOUR
    sum_charges()
    assert ChargedUntil.objects.get().at == until
    assert ChargedHour.objects.get(organization=organization, hour=HOUR).microusd == 180


def test_hours_of_the_week_before_are_forgotten(organization):
    sum_charges()
    ChargedHour.objects.create(organization=organization, hour=HOUR - timedelta(days=8), microusd=1)
    database.run(spending.again(HOUR))
    sum_charges()
    assert ChargedHour.objects.filter(organization=organization).count() == 2


def test_nothing_spent_has_no_end(db):
    assert pace(make.organization()) == Pace(0, None)


def test_a_flood_that_nobody_summed_is_as_fast_as_its_newest(db, monkeypatch):
    monkeypatch.setattr(spending, "NEWEST", 2)
    organization = make.organization()
    for minutes, microusd in ((600, 90_000), (12, 10), (6, 10)):
        moved(organization, microusd, NOW - timedelta(minutes=minutes))
    assert pace(organization).microusd_per_day == 20 * 24 * 5
