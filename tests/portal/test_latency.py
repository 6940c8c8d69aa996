"""The overview's charts of today: time to first token by quarters of an hour, and the day's hours with a line at now."""

from datetime import UTC, datetime, timedelta

from django.utils import timezone

from apps.jobs.pages.day import DayPage
from apps.jobs.pages.usage_form import UsageForm
from apps.portal import selectors
from apps.portal.selectors import Latency, Quarter, latency
from tests import make

MIDNIGHT = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def at(hours: float) -> datetime:
    return MIDNIGHT + timedelta(hours=hours)


def test_a_line_breaks_where_nobody_answered_and_one_alone_is_a_dot():
    quarters = [Quarter(at(1), 9, 0.1, 0.2), Quarter(at(1.25), 1, 0.2, 0.4), Quarter(at(3), 1, 0.05, 0.05)]
    found = Latency(MIDNIGHT, at(4), 11, 0.1, 0.35, 40.0, quarters)
    assert (found.axis.top, found.axis.marks) == (0.4, ["400\xa0ms", "200\xa0ms", "0"])
    assert found.paths == [
        ("line line-2", "M28.12 50.00L34.38 0.00"),
        ("line line-2 line-alone", "M78.12 87.50h0"),
        ("line", "M28.12 75.00L34.38 50.00"),
        ("line line-alone", "M78.12 87.50h0"),
    ]
    assert found.slowest == quarters[1]


def test_quarters_are_of_the_first_token_and_the_whole_is_of_all(db):
    shop, model = make.organization(), make.model(kind="chat")
    for hours, seconds in ((1, 2), (1.2, 4), (1.3, 6)):
        make.job(
            organization=shop,
            model=model,
            state="succeeded",
            streaming=True,
            created_at=at(hours) - timedelta(seconds=seconds),
            first_token_at=at(hours),
            finished_at=at(hours) + timedelta(seconds=1),
            completion_tokens=10,
        )
    found = latency(shop, now=at(2))
    assert (found.jobs, found.p50, found.tokens_per_second) == (3, 4, 10)
    assert [(each.at, each.jobs, each.p50) for each in found.quarters] == [(at(1), 2, 3), (at(1.25), 1, 6)]
    nobody = latency(make.organization(), now=at(2))
    assert (nobody.jobs, nobody.p50, nobody.quarters, nobody.slowest) == (0, None, [], None)


def test_answers_are_looked_for_among_so_many_jobs_of_every_kind(db, monkeypatch):
    shop, chat, embeds = make.organization(), make.model(kind="chat"), make.model(kind="embedding")
    for model, first in ((chat, at(1)), (embeds, None), (embeds, None)):
        make.job(
            organization=shop,
            model=model,
            state="succeeded",
            created_at=at(1) - timedelta(seconds=2),
            first_token_at=first,
            finished_at=at(1.1),
        )
    monkeypatch.setattr(selectors, "WALKED_JOBS", 3)
    assert latency(shop, now=at(2)).jobs == 1
    monkeypatch.setattr(selectors, "WALKED_JOBS", 2)
    assert latency(shop, now=at(2)).jobs == 0


def test_the_day_has_24_hours_a_line_at_now_and_no_row_of_an_hour_that_has_not_come(db):
    page = DayPage(make.organization(), UsageForm({"range": "today"}, MIDNIGHT.date()), at(14.25))
    assert len(page.moments) == 24
    assert (page.now_x, page.width) == ("142.50", 240)
    assert page.times == ["00:00", "06:00", "12:00", "18:00", "24:00"]
    assert [row[0] for row in page.table] == [f"{hour:02}:00" for hour in range(15)]
    with timezone.override("Asia/Shanghai"):
        assert page.times == ["08:00", "14:00", "20:00", "02:00", "08:00"]
