"""Usage: sums of what ended, in groups, exactly what the ledger charged; the page, its chart and its CSV."""

import csv
import io
import json
import re
from datetime import UTC, date, datetime, timedelta

import pytest
import time_machine
from django.test import Client

from apps.accounts.models import Membership
from apps.core.ids import uuid7
from apps.core.spreadsheets import lines
from apps.jobs import rollup, usage
from apps.jobs.models import Job, UsageHour, UsageUntil
from apps.jobs.pages.measures import EMPTY
from apps.jobs.pages.usage import UsagePage
from apps.jobs.pages.usage_form import UsageForm
from apps.keys import services as keys
from apps.ledger import services as ledger
from apps.ledger.models import Transfer
from cango_portal import database
from tests import make
from tests.portal.test_pages import assert_clean

pytestmark = pytest.mark.django_db
NOW = datetime(2026, 11, 25, 14, 15, 30, tzinfo=UTC)
MIDNIGHT = NOW.replace(hour=0, minute=0, second=0)


@pytest.fixture
def place():
    owner = make.user(email="anna@example.org")
    organization = make.organization(owner=owner, credit_microusd=100_000_000)
    developer = make.user(email="ben@example.org")
    Membership.objects.create(organization=organization, user=developer, role="developer")
    return organization, owner, developer


def ended(organization, model, at, charge, **fields):
    """A job that ended then and was charged in the ledger too."""
    began = at - timedelta(minutes=1)
    pk = type(uuid7())(int=int(began.timestamp() * 1000) << 80 | uuid7().int & (1 << 80) - 1)
    ledger.reserve(organization=organization, microusd=charge + 10, key=f"job:{pk}")
    ledger.settle(key=f"job:{pk}", cost_microusd=charge)
    return make.job(
        organization=organization,
        model=model,
        id=pk,
        **{
            "state": "succeeded",
            "created_at": began,
            "finished_at": at,
            "hold_microusd": charge + 10,
            "charge_microusd": charge,
            **fields,
        },
    )


@pytest.fixture
def used(place):
    organization, owner, developer = place
    chat, vectors = make.model(name="acme/chat", title="Acme chat"), make.model(kind="embeddings", name="acme/vectors")
    pool = make.pool(model=chat, node=make.node(site=make.site(code="georgia-1", name="Georgia 1")))
    key, _ = keys.issue(organization=organization, name="=sync", user=developer)
    counted = {"prompt_tokens": 100, "completion_tokens": 50}
    ended(
        organization,
        chat,
        NOW - timedelta(hours=1),
        3,
        user=owner,
        pool=pool,
        energy_wh=0.25,
        carbon_gco2e=0.5,
        energy_quality="counter",
        **counted,
    )
    ended(
        organization,
        chat,
        MIDNIGHT,
        5,
        api_key=key,
        pool=pool,
        energy_wh=0.5,
        carbon_gco2e=1.0,
        carbon_market_gco2e=0.125,
        energy_quality="modelled",
        **counted,
    )
    ended(organization, vectors, MIDNIGHT - timedelta(microseconds=1), 7, api_key=key, prompt_tokens=1000)
    ended(organization, chat, NOW - timedelta(days=3), 0, api_key=key, state="failed")
    ended(organization, chat, NOW - timedelta(days=40), 1_000_000, user=owner)
    make.job(organization=organization, model=chat, state="running")
    other = make.organization(credit_microusd=1_000_000)
    ended(other, chat, NOW - timedelta(hours=1), 999)
    return organization


def read(organization, *groups, start=NOW - timedelta(days=30), end=NOW):
    rows = database.run(usage.used(organization.pk, start=start, end=end, groups=groups))
    return {tuple(row.groups[group][0] for group in groups): row for row in rows}


def test_groups_and_their_sums(used, place):
    _, owner, developer = place
    by_model = read(used, "model")
    assert {key: (row.requests, row.failed, row.charge_microusd) for key, row in by_model.items()} == {
        ("acme/chat",): (3, 1, 8),
        ("acme/vectors",): (1, 0, 7),
    }
    assert by_model[("acme/chat",)].groups["model"] == ("acme/chat", "Acme chat")
    assert (by_model[("acme/chat",)].energy_wh, by_model[("acme/chat",)].estimated) == (0.75, True)
    assert by_model[("acme/vectors",)].energy_wh is None
    members = {key: row.charge_microusd for key, row in read(used, "member").items()}
    assert members == {(str(owner.pk),): 3, (str(developer.pk),): 12}
    assert {key: row.charge_microusd for key, row in read(used, "site").items()} == {("georgia-1",): 8, (None,): 7}
    days = {key: row.charge_microusd for key, row in read(used, "day").items()}
    assert days == {("2026-11-25",): 8, ("2026-11-24",): 7, ("2026-11-22",): 0}
    assert {key: row.charge_microusd for key, row in read(used, "week").items()} == {
        ("2026-11-23",): 15,
        ("2026-11-16",): 0,
    }
    both = {key: row.charge_microusd for key, row in read(used, "day", "model").items()}
    assert both[("2026-11-24", "acme/vectors")] == 7
    (everything,) = read(used).values()
    assert (
        everything.charge_microusd,
        everything.requests,
        everything.prompt_tokens,
        everything.completion_tokens,
    ) == (15, 4, 1200, 100)


@pytest.fixture(params=["jobs", "hours", "both"])
def summed(request, used):
    """Read from the jobs alone, from hours that were summed, or from either for a part of the time."""
    if request.param != "jobs":
        while database.run(rollup.fill()):
            pass
    if request.param == "both":
        database.run(rollup.again(MIDNIGHT))
    return request.param


@pytest.mark.parametrize(
    "groups",
    [
        (),
        ("model",),
        ("key",),
        ("member",),
        ("site",),
        ("day",),
        ("week",),
        ("week", "model"),
        ("model", "key", "member", "site", "day"),
    ],
)
@pytest.mark.usefixtures("summed")
def test_the_sums_are_what_the_ledger_charged(used, groups):
    charged = sum(
        transfer.amount_microusd
        for transfer in Transfer.objects.filter(organization=used, debit="held", credit="revenue")
    )
    rows = read(used, *groups, start=NOW - timedelta(days=60)).values()
    assert sum(row.charge_microusd for row in rows) == charged == 1_000_015
    assert usage.total(rows).charge_microusd == charged


@pytest.mark.usefixtures("summed")
@pytest.mark.parametrize("group", ["model", "key", "member", "site"])
def test_all_but_the_leading_are_one(used, group):
    """A year of many keys is a few rows for each bar, and none of the sums is another."""
    start, end = NOW - timedelta(days=60), NOW
    every = read(used, "day", group, start=start)
    for lead in ([], [next(iter(every))[1]], [None], [key for _, key in every]):
        rows = database.run(usage.used(used.pk, start=start, end=end, groups=("day", group), leading=lead))
        wanted: dict = {}
        for (day, key), row in every.items():
            found = wanted.setdefault((day, key if key in lead else usage.REST), [0, 0])
            found[0] += row.charge_microusd
            found[1] += row.requests
        told = {(row.groups["day"][0], row.groups[group][0]): [row.charge_microusd, row.requests] for row in rows}
        assert told == wanted


@pytest.mark.usefixtures("summed")
def test_carbon_by_market_stands_beside_that_by_location(used):
    """What ran at a site without contracts counts with its grid's figure; where no site has any there is no figure."""
    by_day = read(used, "day")
    shown = {day: (row.carbon_gco2e, row.carbon_market_gco2e) for (day,), row in by_day.items()}
    assert shown == {"2026-11-25": (1.5, 0.5 + 0.125), "2026-11-24": (None, None), "2026-11-22": (None, None)}
    by_key = {row.groups["key"][1]: row.carbon_market_gco2e for row in read(used, "key").values()}
    assert by_key == {"=sync": 0.125, "sent from a page": None}
    for rows in (by_day.values(), read(used, "key").values(), read(used).values()):
        total = usage.total(rows)
        assert (total.carbon_gco2e, total.carbon_market_gco2e) == (1.5, 0.625)


def sums(organization):
    return {
        (hour.hour, hour.model.name): (hour.requests, hour.failed, hour.charge_microusd, hour.energy_wh, hour.estimated)
        for hour in UsageHour.objects.filter(organization=organization).select_related("model")
    }


def test_hours_are_summed_once_and_again_where_the_past_changed(used):
    while database.run(rollup.fill()):
        pass
    hour = timedelta(hours=1)
    first = sums(used)
    assert first == {
        (NOW.replace(minute=0, second=0) - hour, "acme/chat"): (1, 0, 3, 0.25, False),
        (MIDNIGHT, "acme/chat"): (1, 0, 5, 0.5, True),
        (MIDNIGHT - hour, "acme/vectors"): (1, 0, 7, None, False),
        ((NOW - timedelta(days=3)).replace(minute=0, second=0), "acme/chat"): (1, 1, 0, None, False),
        ((NOW - timedelta(days=40)).replace(minute=0, second=0), "acme/chat"): (1, 0, 1_000_000, None, False),
    }
    until = UsageUntil.objects.get().at
    assert (until.minute, until.second) == (0, 0)
    database.run(rollup.fill())
    assert (sums(used), UsageUntil.objects.get().at) == (first, until)
    job = Job.objects.get(finished_at=MIDNIGHT)
    ended(used, job.model, MIDNIGHT + timedelta(minutes=1), 90, api_key=job.api_key, pool=job.pool)
    assert read(used, "hour")[("2026-11-25T00:00",)].charge_microusd == 5
    database.run(rollup.again(MIDNIGHT + timedelta(minutes=1)))
    assert read(used, "hour")[("2026-11-25T00:00",)].charge_microusd == 95
    while database.run(rollup.fill()):
        pass
    assert {key for key, sum_ in sums(used).items() if first[key] != sum_} == {(MIDNIGHT, "acme/chat")}
    assert sums(used)[(MIDNIGHT, "acme/chat")][2] == 95


def test_an_hour_is_not_summed_before_its_last_job_is_written(place):
    now = datetime.now(UTC)
    ended(place[0], make.model(), now - timedelta(hours=2), 3)
    while database.run(rollup.fill()):
        pass
    assert now - timedelta(minutes=71) <= UsageUntil.objects.get().at <= now - timedelta(minutes=9)


def test_without_jobs_nothing_is_summed(place):
    assert database.run(rollup.fill()) is False
    assert UsageUntil.objects.count() == 0


def test_nothing_used_is_a_row_of_zeros(place):
    (row,) = read(place[0]).values()
    assert (row.requests, row.charge_microusd, row.energy_wh, row.estimated) == (0, 0, None, False)
    assert read(place[0], "model") == {}


@pytest.fixture
def client(used, place):
    with time_machine.travel(NOW, tick=False):
        client = Client()
        client.force_login(place[2])  # a developer: usage is for all members
        yield client


URLS = [
    "/usage/",
    *(f"/usage/?measure={name}" for name in ("spend", "tokens", "requests", "energy", "carbon")),
    *(f"/usage/?group={name}" for name in ("model", "key", "member", "site", "day")),
    *(f"/usage/?range={name}" for name in ("today", "7d", "30d", "month", "last-month")),
    "/usage/?range=7d&bars=hour",
    "/usage/?range=365d",
    "/usage/?range=365d&group=day",
    "/usage/?range=90d&group=day",
    "/usage/?range=today&bars=week",
    "/usage/?start=2026-11-24&end=2026-11-24&group=site&measure=energy",
    "/usage/?first_hour=2026-11-24T23:00&last_hour=2026-11-25T00:00",
]


@pytest.mark.parametrize("url", URLS)
def test_every_view_has_its_address(client, url):
    answer = client.get(url)
    assert answer.status_code == 200
    assert_clean(answer)


def test_the_page_answers_in_figures_chart_and_table(client):
    html = client.get("/usage/").content.decode()
    assert "27 Oct 2026 to 25 Nov 2026" in html
    assert "Complete until 25 Nov 14:15" in html
    assert "Spend by day and model. Highest day 25 Nov with &lt;\xa0$0.01. Total &lt;\xa0$0.01." in html.replace(
        "&nbsp;", "\xa0"
    )
    assert html.index("Acme chat") < html.index("acme/vectors")
    assert "partly estimated" in html
    assert '<path class="s1"' in html
    hours = client.get("/usage/?range=today&measure=requests").content.decode()
    assert "Requests by hour" in hours
    assert "Highest hour" in hours
    part = client.get("/usage/", headers={"hx-request": "true"}).content.decode()
    assert part.lstrip().startswith('<div class="stack" id="usage"')
    assert "<html" not in part


def test_the_table_says_each_part_of_a_bar(client):
    html = client.get("/usage/?range=7d&measure=requests").content.decode()
    table = html.split("Show as table")[1].split("</table>")[0]
    heads = re.findall(r'<th scope="col">([^<]+)</th>', table)
    assert heads[:2] == ["Day", "Requests"]
    assert {"Acme chat", "acme/vectors"} <= set(heads[2:])
    for row in re.findall(r"<tr><th scope=\"row\">.*?</tr>", table):
        whole, *parts = [int(value) for value in re.findall(r"<td>(\d+)</td>", row)]
        assert (len(parts), sum(parts)) == (len(heads) - 2, whole)


def test_days_without_work_are_there_as_zero(client):
    html = client.get("/usage/?range=7d&group=day&measure=requests").content.decode()
    table = html.split("Show as table")[1].split("</table>")[0]
    assert re.findall(r'<th scope="row">([^<]+)</th><td>([^<]+)<', table) == [
        ("19 Nov", "0"), ("20 Nov", "0"), ("21 Nov", "0"), ("22 Nov", "1"), ("23 Nov", "0"), ("24 Nov", "1"), ("25 Nov", "2")
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("measure=joy", "Measure:"),
        ("group=mood", "Group by:"),
        ("range=ever", "Time:"),
        ("bars=hour", "At most 8 days can be shown by hour."),
        ("bars=minute", "Bars:"),
        ("start=2026-11-24", "Choose both days"),
        ("start=2026-11-24&end=2026-11-20", "The last day is before the first."),
        ("start=2020-01-01&end=2026-11-20", "At most 366 days"),
        ("start=x&end=y", "From:"),
        ("start=0001-01-01&end=0001-01-02", "Nothing used in this time"),
        ("start=9999-12-31&end=9999-12-31", "25 Nov 2026"),
        ("first_hour=2026-11-24T23:00", "Choose both hours"),
        ("first_hour=2026-11-24T23:00&last_hour=2026-11-25T01:00&bars=week", "Chosen hours have no bars by week"),
        ("first_hour=2026-11-24T23:00&last_hour=2026-11-24T22:00", "The last hour is before the first."),
        ("first_hour=2026-11-10T00:00&last_hour=2026-11-18T00:00", "At most 8 days can be shown by hour."),
        ("first_hour=x&last_hour=0001-01-01T00:00", "This is not an hour."),
        ("first_hour=9999-12-31T23:00&last_hour=9999-12-31T23:00", "25 Nov 2026, 14:00 to 14:15"),
    ],
)
def test_an_address_that_is_wrong_says_so_and_shows_something(client, query, says):
    answer = client.get(f"/usage/?{query}")
    assert answer.status_code == 200
    assert says in answer.content.decode()


def test_hours_that_were_chosen_are_told_in_the_readers_time_zone(client, place):
    place[2].time_zone = "Asia/Kolkata"
    place[2].save(update_fields=["time_zone"])
    asked = "first_hour=2026-11-24T23:00&last_hour=2026-11-25T00:00&group=key"
    html = client.get(f"/usage/?{asked}&measure=requests").content.decode()
    assert "25 Nov 2026, 04:30 to 06:30, times in Asia/Kolkata." in html
    table = html.split("Show as table")[1].split("</table>")[0]
    assert re.findall(r'<th scope="row">([^<]+)</th><td>([^<]+)<', table) == [("04:30", "1"), ("05:30", "1")]
    assert 'name="first_hour" value="2026-11-24T23:00"' in html
    sheet = client.get(f"/usage/export.csv?{asked}").content.decode().splitlines()
    assert [line.split(",")[0] for line in sheet[1:]] == ["2026-11-24T23:00", "2026-11-25T00:00"]
    week = client.get("/usage/?range=7d&bars=hour").content.decode()
    assert "Highest hour 25 Nov 04:30" in week


def plotted(html: str) -> dict:
    [told] = re.findall(r'<script id="plot" type="application/json">(.*?)</script>', html)
    return json.loads(told)


def moments(plot: dict) -> list[str]:
    """Where each bar begins, as an address and the CSV say it."""
    form = "%Y-%m-%d" if plot["ends"][0] == "start" else "%Y-%m-%dT%H:00"
    bars = range(len(plot["axis"]))
    return [f"{datetime.fromtimestamp((plot['at'] + n * plot['step']) / 1000, UTC):{form}}" for n in bars]


def test_the_browser_gets_the_lengths_of_the_bars_and_each_axis(client):
    html = client.get("/usage/?range=7d&measure=requests").content.decode()
    plot = plotted(html)
    assert (plot["ends"], moments(plot)) == (["start", "end"], [f"2026-11-{day}" for day in range(19, 26)])
    assert {tuple(part["values"]) for part in plot["series"]} == {(0, 0, 0, 1, 0, 0, 2), (0, 0, 0, 0, 0, 1, 0)}
    nothing, some = {"top": EMPTY, "marks": ["", "0"]}, {"top": 2, "marks": ["2", "1", "0"]}
    assert plot["axes"] == [nothing, some]
    assert plot["axis"] == [0, 0, 0, 1, 0, 1, 1]
    assert "uPlot.iife.min" in html
    assert "uPlot" not in client.get("/dashboard/").content.decode()
    assert 'id="plot"' not in client.get("/usage/?measure=carbon&start=2026-11-24&end=2026-11-24").content.decode()


def test_the_csv_is_exact_and_runs_nothing(client):
    answer = client.get("/usage/export.csv?group=key")
    assert answer["content-type"] == "text/csv; charset=utf-8"
    assert answer["content-disposition"] == 'attachment; filename="usage-2026-10-27-2026-11-25.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.content.decode().removeprefix("\ufeff"))))
    assert [(row["day"], row["key_name"], row["charge_microusd"], row["energy_wh"]) for row in rows] == [
        ("2026-11-22", "'=sync", "0", ""),
        ("2026-11-24", "'=sync", "7", ""),
        ("2026-11-25", "'=sync", "5", "0.5"),
        ("2026-11-25", "sent from a page", "3", "0.25"),
    ]
    hours = client.get("/usage/export.csv?range=7d&bars=hour&group=day").content.decode().splitlines()
    assert [line.split(",")[0] for line in hours[1:]] == [
        "2026-11-22T14:00",
        "2026-11-24T23:00",
        "2026-11-25T00:00",
        "2026-11-25T13:00",
    ]
    assert lines([["=1+1", -1]]) == "'=1+1,-1\r\n"


@pytest.mark.parametrize(
    ("asked", "ids"),
    [
        ("first_hour=2026-11-24T23:00&last_hour=2026-11-25T00:00", ["2026-11-24T23:00", "2026-11-25T00:00"]),
        ("first_hour=2026-11-24T23:00&last_hour=2026-11-25T00:00&bars=day", ["2026-11-24", "2026-11-25"]),
        ("range=today", ["2026-11-25T00:00", "2026-11-25T13:00"]),
        ("range=365d", ["2026-10-12", "2026-11-16", "2026-11-23"]),
    ],
)
def test_the_csv_has_the_bars_of_the_page(client, asked, ids):
    sheet = client.get(f"/usage/export.csv?{asked}&group=day").content.decode().splitlines()
    assert [line.split(",")[0] for line in sheet[1:]] == ids
    html = client.get(f"/usage/?{asked}&group=day").content.decode()
    assert set(ids) <= set(moments(plotted(html)))


def test_a_day_that_is_in_a_span_twice_has_its_year_once(place):
    asked = {"start": "2025-11-30", "end": "2026-11-30"}
    page = UsagePage(place[0], UsageForm(asked, date(2026, 12, 24)), NOW + timedelta(days=30))
    assert [page.moment_words(page.moments[n]) for n in (0, 1, 5, -2, -1)] == [
        "30 Nov 2025 (1 of 7 days)",
        "1 Dec to 7 Dec 2025",
        "29 Dec 2025 to 4 Jan",
        "23 Nov to 29 Nov",
        "30 Nov (1 of 7 days)",
    ]
    assert page.times == ["30 Nov 2025", "1 Jun", "30 Nov"]


def test_a_year_has_a_bar_for_each_week(client, place, summed):
    """The first week is a part, and so is the last; the sums are those of the days, to the micro-dollar."""
    organization, owner, _ = place
    for day, charge in ((365, 20_000_000), (364, 3_000_000), (359, 4_000_000)):  # 25, 26 November 2025, 1 December
        ended(organization, Job.objects.first().model, NOW - timedelta(days=day), charge, user=owner)
    if summed != "jobs":
        database.run(rollup.again(NOW - timedelta(days=366)))
        while database.run(rollup.fill()):
            pass
    html = client.get("/usage/?range=365d").content.decode()
    assert "26 Nov 2025 to 25 Nov 2026" in html
    assert "Spend by week and model. Highest week 1 Dec to 7 Dec 2025 with $4.00. Total $8.00." in html
    assert "weeks of UTC, from Monday" in html
    table = html.split("Show as table")[1].split("</table>")[0]
    weeks = re.findall(r'<th scope="row">([^<]+)</th><td>([^<]+)<', table)
    assert len(weeks) == 53
    assert weeks[:2] == [("26 Nov to 30 Nov 2025 (5 of 7 days)", "$3.00"), ("1 Dec to 7 Dec 2025", "$4.00")]
    assert weeks[5][0] == "29 Dec 2025 to 4 Jan"
    assert weeks[-1][0] == "23 Nov to 25 Nov (3 of 7 days)"
    assert [text for text, spend in weeks if spend != "$0.00"][2:] == ["12 Oct to 18 Oct", weeks[-1][0]]
    [axis] = re.findall(r'<div class="chart-x"[^>]*>(.*?)</div>', html)
    assert re.findall(r"<span>(.*?)</span>", axis) == ["26 Nov 2025", "25 May", "25 Nov"]
    plot = plotted(html)
    first, last = (f"{datetime.fromtimestamp(plot[name] / 1000, UTC):%Y-%m-%d}" for name in ("first", "last"))
    assert (first, last, moments(plot)[0]) == ("2025-11-26", "2026-11-25", "2025-11-24")
    assert plot["days"][0] == ["26 Nov 2025", "30 Nov 2025"]
    assert plot["days"][-1] == ["23 Nov", "25 Nov"]

    by_week = sheet(client, "range=365d&group=day")
    spans = [(row["week"], row["first_day"], row["last_day"], row["charge_microusd"]) for row in by_week]
    assert spans[0] == ("2025-11-24", "2025-11-26", "2025-11-30", "3000000")
    assert spans[-1] == ("2026-11-23", "2026-11-23", "2026-11-25", "15")
    by_day = sheet(client, "range=365d&group=day&bars=day")
    assert (by_day[0]["day"], by_day[-1]["day"]) == ("2025-11-26", "2026-11-25")
    for week in by_week:
        days = [row for row in by_day if week["first_day"] <= row["day"] <= week["last_day"]]
        for name in ("requests", "charge_microusd", "prompt_tokens", "energy_wh"):
            assert sum(float(row[name] or 0) for row in days) == float(week[name] or 0)
    assert sum(int(row["charge_microusd"]) for row in by_week) == 8_000_015


def sheet(client, query: str) -> list[dict[str, str]]:
    text = client.get(f"/usage/export.csv?{query}").content.decode().removeprefix("\ufeff")
    return list(csv.DictReader(io.StringIO(text)))


def test_what_bars_stand_for_goes_by_the_span(client):
    for asked, title in (
        ("range=7d", "Spend by day"),
        ("range=90d", "Spend by day"),
        ("start=2026-08-26&end=2026-11-25", "Spend by day"),
        ("start=2026-08-25&end=2026-11-25", "Spend by week"),
        ("range=365d&bars=day", "Spend by week"),
        ("range=30d&bars=week", "Spend by week"),
        ("range=today", "Spend by hour"),
    ):
        assert f'<h2 id="chart-h">{title}</h2>' in client.get(f"/usage/?{asked}").content.decode(), asked
    html = client.get("/usage/?range=365d&bars=day").content.decode()
    assert "At most 92 days can be shown by day. The CSV has every day." in html
    assert 'href="/usage/export.csv?range=365d&amp;bars=day"' in html
    assert "day" in sheet(client, "range=365d&bars=day")[0]
    assert "CSV by day" not in client.get("/usage/?range=90d").content.decode()


def test_days_are_listed_up_to_a_month_and_weeks_beyond(client):
    for asked, head, listed_ones in (("30d", "Day", 3), ("90d", "Week", 3), ("365d", "Week", 3)):
        html = client.get(f"/usage/?range={asked}&group=day").content.decode()
        [listed] = re.findall(r'id="groups-h">By (\w+)<', html)
        assert (listed, html.count('role="rowheader"')) == (head.lower(), listed_ones)
        assert f'<th scope="col" role="columnheader">{head}</th>' in html


def test_of_many_groups_the_largest_have_lines_and_the_rest_one(client, place):
    organization, owner, _ = place
    model = Job.objects.first().model
    for number in range(1, 31):
        key, _ = keys.issue(organization=organization, name=f"key {number}", user=owner)
        ended(organization, model, NOW - timedelta(hours=2), number * 100_000, api_key=key)
    html = client.get("/usage/?group=key").content.decode()
    assert ">By API key</h2>" in html
    assert "Usage by API key" in html
    names = re.findall(r'role="rowheader" class="wide address">(?:<span[^>]*></span> )?([^<]+)<', html)
    assert names == [*(f"key {number}" for number in range(30, 10, -1)), "12 others, each in the CSV"]
    others = html.split("12 others, each in the CSV")[1]
    assert re.findall(r'data-label="(?:Requests|Spend|Share)">([^<]+)<', others) == ["14", "$5.5000", "12%"]
    assert html.count("Other</th>") == 1  # the fifth part of a bar: all but the four largest


def test_so_many_bars_are_drawn_whole(client):
    parts = [len(plotted(client.get(f"/usage/?start=2026-11-{day}&end=2026-11-25&bars=hour").content.decode())["series"])
             for day in (22, 21)]  # fmt: skip
    assert parts == [2, 1]
    html = client.get("/usage/?start=2026-11-21&end=2026-11-25&bars=hour").content.decode()
    assert "more than 96 bars are drawn whole" in html
    assert "Spend by hour. Highest hour 25 Nov 13:00" not in html
    assert "Spend by hour. Highest hour 24 Nov 23:00" in html


def test_strangers_and_visitors_see_nothing(used, client):
    assert Client().get("/usage/")["location"].startswith("/login/")
    assert Client().get("/usage/export.csv")["location"].startswith("/login/")
    stranger = make.user()
    make.organization(owner=stranger)
    other = Client()
    other.force_login(stranger)
    html = other.get("/usage/").content.decode()
    assert "Acme chat" not in html
    assert "Nothing used in this time" in html


def axis(page: str) -> list[str]:
    [marks] = re.findall(r'<div class="chart-y"[^>]*>(.*?)</div>', page)
    return re.findall(r"<span>(.*?)</span>", marks)


@time_machine.travel(NOW, tick=False)
@pytest.mark.parametrize(
    ("charge", "marks", "height"),
    [
        (1, ["$0.000002", "$0.000001", "0"], "50.00"),
        (5, ["$0.000006", "$0.000004", "$0.000002", "0"], "83.33"),
        (9, ["$0.000010", "$0.000005", "0"], "90.00"),
        (9_000, ["$0.010", "$0.005", "0"], "90.00"),
        (120_000, ["$0.15", "$0.10", "$0.05", "0"], "80.00"),
    ],
)
def test_marks_of_the_axis_are_exact_however_little_was_spent(place, charge, marks, height):
    organization, owner, _ = place
    ended(organization, make.model(), NOW - timedelta(hours=1), charge)
    client = Client()
    client.force_login(owner)
    page = client.get("/usage/").content.decode()
    assert axis(page) == marks
    [drawn] = re.findall(r'class="s1" d="M1 100(?:h10)*V([\d.]+)h8V100h2(?:h10)*"', page)
    assert f"{100 - float(drawn):.2f}" == height
    steps = len(marks) - 1
    lines = [f"{100 * step / steps:.2f}" for step in range(steps)]
    assert re.findall(r'class="grid-line" x1="0" x2="\d+" y1="([\d.]+)"', page) == lines
