"""Pages as a browser without script gets them."""

import json
import logging
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.accounts.models import Membership
from apps.core.ids import uuid7
from apps.core.logging import JSONFormatter, request_id
from apps.jobs.models import Refusal
from apps.ledger import limits
from apps.ledger import services as ledger
from apps.ledger.budgets import budget_of_organization
from apps.portal import failures, output, selectors
from apps.portal.selectors import catalog
from apps.portal.span import Span
from apps.portal.topics import parts
from tests import make

DAY = datetime(2026, 11, 20, 12, tzinfo=UTC)
TODAY = Span("today")


@pytest.fixture
def shop(db):
    """A chat, an embeddings and an OCR model with a ready pool each, and an organization with credit."""
    user = make.user()
    organization = make.organization(owner=user, credit_microusd=400_000_000, promotional_microusd=12_800_000)
    models = {
        "chat": make.model(kind="chat", name="cango/demo-chat", title="Demo chat"),
        "embeddings": make.model(kind="embeddings", name="acme/vectors", output=0),
        "ocr": make.model(kind="ocr", name="acme/reader", input=0, output=0, page=1500),
    }
    for model in models.values():
        make.pool(model=model)
    client = Client()
    client.force_login(user)
    return {"user": user, "organization": organization, "client": client, **models}


class Inline(HTMLParser):
    """What the content policy forbids: inline style, script, handlers; and whatever leaves this host."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        names = dict(attrs)
        self.found += [f"{tag} {name}" for name in names if name == "style" or name.startswith(("on", "hx-on"))]
        if tag == "style" or (tag == "script" and not names.get("src") and names.get("type") != "application/json"):
            self.found.append(tag)
        for name in ("src", "href", "action"):
            value = names.get(name) or ""
            if re.match(r"(https?:)?//", value) or value.startswith("javascript:"):
                self.found.append(f"{tag} {name}={value}")


PUBLIC = ["/", "/status/", "/terms/", "/privacy/", "/data/", "/models/", "/pricing/", "/models/cango/demo-chat/", "/models/acme/vectors/", "/models/acme/reader/", "/login/", "/signup/",
          "/verify/", "/verify/nothing/", "/password/reset/", "/password/reset/done/", "/password/reset/complete/", "/mail/", "/nothing/"]  # fmt: skip
SIGNED_IN = ["/", "/status/", "/terms/", "/data/", "/models/", "/models/cango/demo-chat/", "/models/acme/vectors/", "/models/acme/reader/", "/dashboard/", "/keys/",
             "/keys/new/", "/usage/", "/billing/", "/billing/add/", "/billing/limits/", "/password/change/", "/settings/security/", "/settings/account/", "/settings/notifications/", "/logout/", "/nothing/"]  # fmt: skip


def assert_clean(answer):
    parser = Inline()
    parser.feed(answer.content.decode())
    assert parser.found == []
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self';" in policy
    assert "style-src 'self';" in policy
    html = answer.content.decode()
    assert html.count("<h1") == 1
    assert re.search(r"<title>[^<]+ · Cango Portal</title>", html)
    assert '<html lang="en"' in html


@pytest.mark.parametrize("url", PUBLIC)
def test_public_pages(shop, url):
    assert_clean(Client().get(url))


@pytest.mark.parametrize("url", SIGNED_IN)
def test_pages_of_a_member(shop, url):
    assert_clean(shop["client"].get(url))


def test_pages_of_one_who_has_no_organization_yet(db):
    client = Client()
    client.force_login(make.user())
    for url in (
        "/welcome/",
        "/",
        "/models/",
        "/password/change/",
        "/settings/account/",
        "/settings/security/",
        "/settings/notifications/",
    ):
        assert_clean(client.get(url))
    assert client.get("/dashboard/").headers["location"] == "/welcome/"


def test_every_id_is_there_once(shop):
    for url in SIGNED_IN:
        ids = re.findall(r'\sid="([^"]+)"', shop["client"].get(url).content.decode())
        assert len(ids) == len(set(ids)), url


def test_front_shows_three_models_with_their_price(shop):
    html = Client().get("/").content.decode()
    assert "Demo chat" in html
    assert "$0.12" in html
    assert "$0.0015" in html
    assert "$5.00 of credit" in html


def test_catalog_is_filtered_by_the_address(shop):
    assert b"acme/vectors" in Client().get("/models/").content
    only = Client().get("/models/?kind=chat").content
    assert b"cango/demo-chat" in only
    assert b"acme/vectors" not in only
    assert b"acme/reader" in Client().get("/models/?q=READ").content
    nothing = Client().get("/models/?q=<70b>").content.decode()
    assert "No model matches “&lt;70b&gt;”" in nothing
    assert "Clear filters" in nothing


def test_an_unlisted_model_does_not_exist(shop):
    make.model(name="acme/hidden", listed=False)
    assert Client().get("/models/acme/hidden/").status_code == 404
    assert Client().get("/models/acme/none/").status_code == 404


def test_catalog_measures_energy_over_recent_jobs(shop):
    now = datetime.now(UTC)
    done = {"state": "succeeded", "finished_at": now, "energy_quality": "counter"}
    make.job(organization=shop["organization"], model=shop["chat"], prompt_tokens=400, completion_tokens=600, energy_wh=0.3,
             created_at=now - timedelta(seconds=4), first_token_at=now - timedelta(seconds=3), streaming=True, **done)  # fmt: skip
    make.job(
        organization=shop["organization"],
        model=shop["chat"],
        prompt_tokens=400,
        completion_tokens=600,
        energy_wh=0.1,
        **done,
    )
    make.job(
        organization=shop["organization"],
        model=shop["ocr"],
        pages=4,
        energy_wh=0.1,
        **{**done, "energy_quality": "modelled"},
    )
    listings = {each.offer.kind: each for each in catalog()}
    chat = listings["chat"].measured
    assert chat.energy_wh == pytest.approx(0.2)
    assert (chat.estimated, chat.tokens_per_second) == (False, pytest.approx(200))
    assert chat.first_token_seconds == pytest.approx(1.0)
    assert listings["ocr"].measured.energy_wh == pytest.approx(0.025)
    assert listings["ocr"].measured.estimated
    assert listings["embeddings"].measured.energy_wh is None
    assert "estimated" in Client().get("/models/acme/reader/").content.decode().lower()


def test_a_site_is_ready_while_its_node_beats(shop):
    silent = make.node(heartbeat_at=datetime.now(UTC) - timedelta(minutes=1))
    make.pool(model=shop["chat"], node=silent)
    listing = next(each for each in catalog() if each.offer.kind == "chat")
    assert (listing.ready, len(listing.places)) == (1, 2)
    assert b"1 of 2 ready" in Client().get("/models/").content


def test_model_page_has_limits_snippets_and_the_way_to_try(shop):
    page = shop["client"].get("/models/cango/demo-chat/").content.decode()
    assert "4,096 tokens" in page
    assert "http://testserver/v1/chat/completions" in page
    assert (
        "OpenAI(base_url=&quot;http://testserver/v1&quot;" in page or 'OpenAI(base_url="http://testserver/v1"' in page
    )
    assert 'href="/playground/?model=cango/demo-chat"' in page
    assert "/playground/" not in Client().get("/models/cango/demo-chat/").content.decode()


def test_first_visit_leads_to_the_first_request(shop):
    html = shop["client"].get("/dashboard/").content.decode()
    assert "1 of 3 done" in html
    assert "Create key" in html
    assert "/v1/chat/completions" in html
    make.api_key(shop["organization"], name="first")
    html = shop["client"].get("/dashboard/").content.decode()
    assert "2 of 3 done" in html
    for state in ("failed", "running"):  # until one succeeds
        make.job(organization=shop["organization"], model=shop["chat"], state=state)
        assert "2 of 3 done" in shop["client"].get("/dashboard/").content.decode()
    make.job(organization=shop["organization"], model=shop["chat"], state="succeeded")
    assert "of 3 done" not in shop["client"].get("/dashboard/").content.decode()


def test_overview_shows_this_organizations_day(shop):
    ledger.reserve(organization=shop["organization"], microusd=18_400_000, key="test:hold")
    make.job(organization=shop["organization"], model=shop["chat"], state="running")
    make.job(
        organization=shop["organization"],
        model=shop["chat"],
        state="succeeded",
        charge_microusd=300,
        hold_microusd=1000,
    )
    html = shop["client"].get("/dashboard/").content.decode()
    assert html.count("$412.80") == 3  # the strip, the sidebar and the menu of small screens
    assert "$18.40 of it held for running jobs" in html
    assert "$0.0003" in html

    other = make.user()
    make.organization(owner=other)
    client = Client()
    client.force_login(other)
    html = client.get("/dashboard/").content.decode()
    assert "$412.80" not in html
    assert "of 3 done" in html


def test_today_begins_at_midnight(shop):
    organization, model = shop["organization"], shop["chat"]
    midnight = DAY.replace(hour=0)

    def ended(at: datetime, **fields):
        milliseconds = int((at - timedelta(minutes=1)).timestamp() * 1000)
        key = type(uuid7())(int=milliseconds << 80 | uuid7().int & (1 << 80) - 1)
        make.job(organization=organization, model=model, id=key, created_at=at - timedelta(minutes=1), finished_at=at,
                 hold_microusd=1000, **fields)  # fmt: skip

    ended(midnight - timedelta(seconds=1), state="succeeded", charge_microusd=700)
    ended(midnight + timedelta(seconds=1), state="succeeded", charge_microusd=20, prompt_tokens=500, completion_tokens=500,
          energy_wh=0.4, energy_quality="counter")  # fmt: skip
    ended(DAY, state="succeeded", charge_microusd=3)
    ended(DAY, state="failed", charge_microusd=0)
    figures = selectors.figures(organization, span=TODAY, now=DAY)
    assert (figures.spend_microusd, figures.requests, figures.failed) == (23, 3, 1)  # a job counts when it ends
    assert figures.energy_wh_per_ktok == pytest.approx(0.4)
    assert not figures.estimated


@pytest.mark.parametrize(
    ("before", "words"),
    [
        (0.5, "20% less than in the week before"),
        (0.32, "25% more than in the week before"),
        (0.401, "as in the week before"),
        (None, None),
    ],
)
def test_the_energy_of_today_stands_against_the_week_before(shop, before, words):
    at = datetime.now(UTC)
    counted = {
        "organization": shop["organization"],
        "model": shop["chat"],
        "state": "succeeded",
        "energy_quality": "counter",
    }
    make.job(finished_at=at, prompt_tokens=1000, energy_wh=0.4, **counted)
    for days, wh in ((3, before), (8, 9)):  # what is older does not count
        key = uuid7()
        ended = at - timedelta(days=days)
        own = type(key)(int=int(ended.timestamp() * 1000) << 80 | key.int & (1 << 80) - 1)
        make.job(id=own, created_at=ended, finished_at=ended, prompt_tokens=1000, energy_wh=wh, **counted)
    html = shop["client"].get("/dashboard/").content.decode()
    assert re.findall(r"<span>([^<]*week before)</span>", html) == ([words] if words else [])


def test_energy_of_pages_is_not_counted_against_tokens(shop):
    now = datetime.now(UTC)
    done = {"organization": shop["organization"], "state": "succeeded", "finished_at": now, "energy_quality": "counter"}
    make.job(model=shop["ocr"], pages=4, energy_wh=30, **done)
    figures = selectors.figures(shop["organization"], span=TODAY, now=now)
    assert (figures.energy_wh, figures.energy_wh_per_ktok) == (pytest.approx(30), None)
    make.job(model=shop["chat"], prompt_tokens=500, completion_tokens=500, energy_wh=0.4, **done)
    make.job(model=shop["embeddings"], prompt_tokens=1000, energy_wh=0.2, **done)
    figures = selectors.figures(shop["organization"], span=TODAY, now=now)
    assert (figures.energy_wh, figures.energy_wh_per_ktok) == (pytest.approx(30.6), pytest.approx(0.3))


def test_the_balance_is_rounded_down(db):
    user = make.user()
    make.organization(owner=user, credit_microusd=4_995_500)
    client = Client()
    client.force_login(user)
    html = client.get("/dashboard/").content.decode()
    assert html.count("$4.99") == 3  # the greeting, the sidebar and the menu of small screens
    assert "$5.00" not in html


def test_spend_stands_against_the_daily_limit(shop):
    def figures() -> str:
        return shop["client"].get("/dashboard/").content.decode().split('id="figures"')[1].split("</section>")[0]

    make.job(organization=shop["organization"], model=shop["chat"], state="succeeded")
    assert "for jobs that ended since midnight" in figures()
    budget = budget_of_organization(shop["organization"])
    limits.change(budget=budget, actor=shop["user"], limits={"daily": 60_000_000, "monthly": None})
    ledger.reserve(organization=shop["organization"], microusd=21_640_000, key="test:day", budgets=[budget.pk])
    assert "36% of the $60.00 daily limit, what is held included" in figures()
    assert '<progress class="thin" max="100" value="36"' in figures()
    ledger.reserve(organization=shop["organization"], microusd=26_360_000, key="test:more", budgets=[budget.pk])
    assert '<progress class="thin hot" max="100" value="80"' in figures()


def test_latest_jobs_say_when_their_first_token_came(shop):
    at = datetime.now(UTC)
    for model in ("chat", "embeddings"):
        make.job(organization=shop["organization"], model=shop[model], state="succeeded", created_at=at,
                 first_token_at=at + timedelta(milliseconds=231))  # fmt: skip
    latest = shop["client"].get("/dashboard/").content.decode().split('id="latest"')[1]
    assert latest.count("231") == 1  # vectors have none


def test_latest_jobs_have_the_requests_that_were_refused_among_them(shop):
    organization = shop["organization"]
    key, _ = make.api_key(organization, name="catalog-sync")
    make.job(
        organization=organization,
        model=shop["chat"],
        state="succeeded",
        created_at=datetime.now(UTC) - timedelta(minutes=1),
    )
    Refusal.objects.create(
        organization=organization, api_key=key, model_name=shop["chat"].name, code="budget_exceeded", message="No."
    )
    make.job(organization=make.organization(owner=make.user()), model=shop["chat"], state="succeeded")
    latest = shop["client"].get("/dashboard/").content.decode().split('id="latest"')[1]
    first, second = re.findall(r"<tr .+?</tr>", latest, re.S)[1:]
    assert "Refused, spending limit" in first
    assert (">catalog-sync</td>" in first, ">$0.0000</td>" in first) == (True, True)
    assert 'href="/jobs/?state=refused"' in first
    assert "Done" in second


def test_the_overview_says_which_share_failed_and_what_a_request_took(shop):
    now = datetime.now(UTC)
    ended = {
        "organization": shop["organization"],
        "model": shop["chat"],
        "finished_at": now,
        "energy_quality": "counter",
    }
    for state in ("succeeded", "succeeded", "succeeded", "failed"):
        make.job(state=state, prompt_tokens=50, energy_wh=0.23, pool=make.pool(model=shop["chat"]), **ended)
    make.job(**ended, state="cancelled")  # before a site had it
    html = shop["client"].get("/dashboard/").content.decode()
    assert "1 failed (20%)" in html
    assert "0.18\N{NO-BREAK SPACE}Wh a request on average" in html
    assert "not placed" not in html.split('id="where-h"')[1].split("</section>")[0]


def test_who_may_not_pay_is_not_asked_to(shop):
    assert b'href="/billing/add/">Add credit</a></div>' in shop["client"].get("/keys/").content
    user = make.user()
    Membership.objects.create(organization=shop["organization"], user=user, role=Membership.Role.DEVELOPER)
    client = Client()
    client.force_login(user)
    page = client.get("/keys/").content
    assert b"/billing/add/" not in page
    assert b'href="/billing/">Billing</a></div>' in page


def test_latest_jobs_say_when_they_were_sent(shop):
    job = make.job(organization=shop["organization"], model=shop["chat"], state="succeeded",
                   created_at=datetime.now(UTC) - timedelta(hours=3))  # fmt: skip
    html = shop["client"].get("/dashboard/").content.decode().split('id="latest"')[1]
    assert ">Sent</th>" in html
    assert "Ended" not in html
    assert f"{job.created_at:%H:%M:%S}</time>" in html


def sent(organization, written=None, span=None):
    """What the topic `overview` sends first, and its version."""
    version, found = parts(
        organization.pk, written or output.read(organization.pk, now=datetime.now(UTC)), span or TODAY
    )
    return version, "".join(found)


def test_the_first_steps_end_with_the_first_job_that_succeeds(shop):
    first = shop["client"].get("/dashboard/").content.decode()
    _, html = sent(shop["organization"])
    assert 'id="first"' not in html
    make.job(organization=shop["organization"], model=shop["chat"], state="running")
    assert 'id="first"' not in sent(shop["organization"])[1]
    make.job(organization=shop["organization"], model=shop["chat"], state="succeeded")
    _, html = sent(shop["organization"])
    assert "3 of 3 done" in html
    for part in ("first", "first-left", "latest"):  # what the page puts in the place of its own
        assert first.count(f'id="{part}"') == html.count(f'id="{part}"') == 1


def test_pages_work_for_developers_too(shop):
    user = make.user()
    Membership.objects.create(organization=shop["organization"], user=user, role=Membership.Role.DEVELOPER)
    client = Client()
    client.force_login(user)
    assert b"Developer" in client.get("/keys/").content
    assert client.get("/models/cango/demo-chat/").status_code == 200


def test_theme_is_a_cookie_the_server_reads(client, db):
    assert b"data-theme=" not in client.get("/").content
    answer = client.post("/theme/", {"theme": "dark", "next": "/models/?q=x"})
    assert answer.headers["location"] == "/models/?q=x"
    assert b'<html lang="en" data-theme="dark">' in client.get("/").content
    assert client.post("/theme/", {"theme": "system", "next": "https://evil.example/"}).headers["location"] == "/"
    assert b"data-theme=" not in client.get("/").content
    client.cookies["theme"] = '"><script>'
    assert b"<script>" not in client.get("/").content
    assert client.get("/theme/").status_code == 405


def test_pages_of_failures(client, db):
    answer = client.get("/nothing/")
    assert answer.status_code == 404
    assert b"This page does not exist" in answer.content
    assert b"Go to the front page" in answer.content


def reference_in(answer) -> str:
    return re.search(r'<code class="reference">(req_[0-9a-f]{32})</code>', answer.content.decode())[1]


def test_a_member_goes_on_from_a_404(shop):
    answer = shop["client"].get("/nothing/")
    assert b'href="/dashboard/">Go to your overview' in answer.content
    assert b"another organization than Meridian Foods" in answer.content


def test_failures_show_the_id_of_the_request(client, db):
    token = request_id.set(f"req_{7:032x}")
    try:
        assert reference_in(client.get("/nothing/")) == f"req_{7:032x}"
    finally:
        request_id.reset(token)


@pytest.mark.parametrize("url", ["/models/%00/x/", "/models/x/%00/"])
def test_a_model_with_a_nul_in_its_name_does_not_exist(shop, url):
    assert Client().get(url).status_code == 404
    assert shop["client"].get(url).status_code == 404
    assert shop["client"].post(f"{url}try/").status_code == 404


def test_head_is_answered_where_get_is(shop):
    for url in ["/", "/models/", "/models/cango/demo-chat/", "/dashboard/", "/mail/", "/healthz", "/readyz"]:
        answer = shop["client"].head(url)
        assert (answer.status_code, answer.content) == (200, b""), url
    newcomer = Client()
    newcomer.force_login(make.user())
    assert newcomer.head("/welcome/").status_code == 200


def test_administration_says_who_may(shop):
    answer = shop["client"].get("/admin/", follow=True)
    assert answer.status_code == 403
    assert b"This page is not for your account" in answer.content
    assert b"Administration is for the staff who operate this portal." in answer.content
    assert b"Owners of your organization can do it" not in answer.content
    staff = Client()
    staff.force_login(make.user(is_staff=True))
    assert b"no permission for this part" in staff.get("/admin/accounts/user/").content


def test_the_500_page_needs_nothing(client, db, monkeypatch):
    client.raise_request_exception = False

    def away(*args, **kwargs):
        raise RuntimeError("the database is away")

    monkeypatch.setattr("apps.portal.selectors.catalog", away)
    monkeypatch.setattr("apps.portal.context.shell", away)
    lines: list[logging.LogRecord] = []
    monkeypatch.setattr(failures.log, "handle", lines.append)
    answer = client.get("/")
    assert answer.status_code == 500
    (line,) = [json.loads(JSONFormatter().format(line)) for line in lines]
    assert line["request"] == reference_in(answer)
    assert "the database is away" in line["exception"]
    assert b"The portal made a mistake" in answer.content
    assert b"the database is away" not in answer.content
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_overview_is_sent_anew_only_when_it_changed(shop):
    organization = shop["organization"]
    make.job(organization=organization, model=shop["chat"], state="succeeded", charge_microusd=300, hold_microusd=1000)
    written = output.read(organization.pk, now=datetime.now(UTC))
    version, html = sent(organization, written)
    assert f'data-at="{version}"' in html
    assert 'id="figures"' in html
    assert 'id="latest"' in html
    again, same = sent(organization, written)
    assert again > version
    assert same.replace(str(again), "") == html.replace(str(version), "")
    assert_same_parts(shop["client"].get("/dashboard/").content.decode(), html)


def assert_same_parts(page: str, html: str) -> None:
    """What the socket sends is what the page has."""
    for part in re.findall(r'<tr role="row"><th.+?</tr>', html, re.S) + re.findall(r'<dd class="value".+?</dd>', html):
        assert part in page


def test_the_overview_shows_where_today_went(shop):
    organization = shop["organization"]
    pool = make.pool(model=shop["chat"], node=make.node(site=make.site(name="Georgia 1")))
    now = datetime.now(UTC)
    for seconds in (1, 3):
        make.job(
            organization=organization,
            model=shop["chat"],
            state="succeeded",
            pool=pool,
            created_at=now - timedelta(seconds=4),
            first_token_at=now - timedelta(seconds=4 - seconds),
            finished_at=now,
            completion_tokens=10,
            charge_microusd=900,
        )
    html = shop["client"].get("/dashboard/").content.decode()
    page = html.replace("\xa0", " ")
    assert '<desc id="plot-desc">Spend by hour and model.' in page
    assert "Georgia 1</span>" in page
    assert "2.0 s" in page
    assert "2.9 s" in page
    assert "5 tok/s" in page
    assert page.count('<line class="now"') == 1
    with CaptureQueriesContext(connection) as few:
        shop["client"].get("/dashboard/")
    for _ in range(5):
        make.job(organization=organization, model=shop["chat"], state="succeeded", pool=pool, completion_tokens=1)
    with CaptureQueriesContext(connection) as more:
        shop["client"].get("/dashboard/")
    assert len(more) == len(few)


def test_the_balance_says_how_long_it_lasts_as_billing_does(shop):
    def said(html: str) -> list[str]:
        return re.findall(r'<span data-f="organization.pace">(.*?)</span>', html)

    assert said(shop["client"].get("/keys/").content.decode()) == ["", ""]
    organization = shop["organization"]
    cache.clear()
    ledger.reserve(organization=organization, microusd=20_000_000, key="job:1")
    ledger.settle(key="job:1", cost_microusd=20_000_000)
    assert said(shop["client"].get("/keys/").content.decode()) == ["about 19 days at this pace"] * 2
    billing = shop["client"].get("/billing/").content.decode()
    assert re.search(r"Lasts for</dt><dd class=\"value\">19<small>days</small>", billing)
    assert said(billing) == ["about 19 days at this pace"] * 2
