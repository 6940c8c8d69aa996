"""A part of a page that cannot be read says so, with the reference of one line of the log; all others are whole and exact."""

from __future__ import annotations

import logging
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import psycopg
import pytest
from django.db import DataError, OperationalError, connection
from django.test import Client

from apps.accounts.models import Membership, Organization
from apps.batches.models import Batch
from apps.billing import selectors as billing
from apps.billing.models import TopUp
from apps.core.ids import uuid7
from apps.core.logging import request_id
from apps.portal import output, parts, selectors
from cango_portal import database
from tests import make

REFERENCE = "req_0123456789abcdef0123456789abcdef"
VOID = {"path", "use", "line", "rect", "input", "img", "meta", "link", "br"}
OVERVIEW = [
    "figure-balance", "figure-spend", "figure-requests", "figure-output", "figure-energy", "running", "spend", "where",
    "latency", "latest",
]  # fmt: skip


class Parts(HTMLParser):
    """The markup of each element that has one of those ids."""

    def __init__(self, html: str, ids: list[str]) -> None:
        super().__init__()
        self.ids, self.found, self.html = ids, {}, html
        self.open: list[tuple[str, int]] = []
        self.lines = [0]
        for line in html.splitlines(keepends=True):
            self.lines.append(self.lines[-1] + len(line))
        self.feed(html)

    def at(self) -> int:
        line, column = self.getpos()
        return self.lines[line - 1] + column

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append((dict(attrs).get("id") or "", self.at()))

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        if tag not in VOID:
            id, start = self.open.pop()
            if id in self.ids:
                self.found[id] = self.html[start : self.at()]


def shown(answer, ids=OVERVIEW) -> dict[str, str]:
    """Each part, without what changes from one second to the next."""
    found = Parts(answer.content.decode(), ids).found
    return {id: re.sub(r'data-at="\d+"', "", html) for id, html in found.items()}


@pytest.fixture
def shop(db):
    """An organization with a day behind it: what ended, what runs, what was refused and what it may spend."""
    owner = make.user()
    organization = make.organization(owner=owner, credit_microusd=400_000_000)
    model = make.model(name="acme/first")
    pool = make.pool(model=model)
    now = datetime.now(UTC)
    for n in range(3):
        at = max(now - timedelta(seconds=20 + n), now.replace(hour=0, minute=0, second=0, microsecond=1))
        make.job(
            organization=organization, model=model, pool=pool, state="succeeded", prompt_tokens=40, completion_tokens=60,
            energy_wh=0.3, energy_quality="counter", hold_microusd=20_000, charge_microusd=12_345, created_at=at, started_at=at,
            first_token_at=at + timedelta(seconds=1), finished_at=at + timedelta(seconds=2), streaming=True,
        )  # fmt: skip
    make.job(organization=organization, model=model, pool=pool, state="running")
    client = Client()
    client.force_login(owner)
    return organization, client


@pytest.fixture
def forgiving(settings):
    """As in production; requests have that id."""
    settings.FAILED_PARTS_RAISE = False
    token = request_id.set(REFERENCE)
    yield
    request_id.reset(token)


def broken(name: str, monkeypatch) -> None:
    """One reading of the overview, in the database itself."""
    statements = {
        "figures": "ALTER TABLE ledger_budget RENAME TO gone",
        "running": "ALTER TABLE batches_batch RENAME TO gone",
        "latest": "ALTER TABLE jobs_refusal RENAME TO gone",
        "balance": "ALTER TABLE ledger_account RENAME TO gone",
        "usage": "ALTER TABLE jobs_usageuntil RENAME TO gone",
    }
    if name in statements:
        with connection.cursor() as cursor:
            cursor.execute(statements[name])
    elif name == "latency":
        monkeypatch.setattr(selectors, "LATENCY", "SELECT 1 / 0")
    else:
        monkeypatch.setattr(output, "SPREAD", "SELECT 1 / 0")


FIGURES = ["figure-spend", "figure-requests", "figure-energy"]
READINGS = {
    "figures": (FIGURES, ["figures"]),
    "running": (["running"], ["batches", "running"]),  # the figure beside the navigation too
    "latest": (["latest"], ["latest"]),
    "latency": (["latency"], ["latency"]),
    "output": (["figure-output"], ["output"]),
    "usage": ([*FIGURES, "spend", "where"], ["figures", "spend", "where"]),
}


@pytest.mark.parametrize("name", READINGS)
def test_one_reading_that_fails_takes_its_own_parts_and_no_other(name, shop, forgiving, monkeypatch, caplog):
    _, client = shop
    now = datetime.now(UTC)
    monkeypatch.setattr("django.utils.timezone.now", lambda: now)  # nothing moves by itself between the two pages
    whole = shown(client.get("/dashboard/"))
    assert sorted(whole) == sorted(OVERVIEW)
    assert "did not load" not in "".join(whole.values())
    broken(name, monkeypatch)
    answer = client.get("/dashboard/")
    assert answer.status_code == 200
    failed, readings = READINGS[name]
    found = shown(answer)
    assert {id: html for id, html in found.items() if id not in failed} == {
        id: html for id, html in whole.items() if id not in failed
    }
    lines = [record for record in caplog.records if record.getMessage() == "part failed"]
    assert [record.part for record in lines] == readings  # each once, whatever shows it
    assert {record.levelno for record in lines} == {logging.ERROR}
    assert all(record.exc_info and record.path == "/dashboard/" for record in lines)
    assert {record.request for record in lines} == {REFERENCE}
    for id in failed:
        assert f'<code class="reference">{REFERENCE}</code>' in found[id]
        assert 'href="/dashboard/"' in found[id]
        assert "Try again" in found[id]
        assert "$0" not in found[id]


def test_a_balance_that_cannot_be_read_says_so_and_is_never_zero(shop, forgiving, monkeypatch, caplog):
    _, client = shop
    assert "$400.00" in client.get("/dashboard/").content.decode()
    broken("balance", monkeypatch)
    for page in ("/dashboard/", "/jobs/", "/billing/"):
        caplog.clear()
        answer = client.get(page)
        html = answer.content.decode()
        assert answer.status_code == 200
        boxes = re.findall(r'<div class="balance".*?</div>', html, re.DOTALL)
        assert len(boxes) == 2  # in the sidebar, and in the menu of small screens
        for box in boxes:
            assert '<b data-f="organization.balance">–</b>' in box
            assert "could not be read; your credit is not affected" in box
            assert REFERENCE in box
        assert "$0.00" not in "".join(boxes)
        lines = [record.part for record in caplog.records if record.getMessage() == "part failed"]
        assert lines.count("balance") == 1
        assert html.count('<dd class="value" data-f="organization.balance">') == 0
    figure = shown(client.get("/dashboard/"))["figure-balance"]
    assert '<dd class="value">–</dd>' in figure
    assert "could not be read" in figure


def test_a_new_customer_whose_first_steps_cannot_be_read_has_the_overview(db, forgiving, monkeypatch):
    owner = make.user()
    make.organization(owner=owner)
    client = Client()
    client.force_login(owner)
    assert 'id="first"' in client.get("/dashboard/").content.decode()
    broken("latest", monkeypatch)
    answer = client.get("/dashboard/")
    assert answer.status_code == 200
    assert "This part did not load" in shown(answer)["latest"]
    assert "Nothing runs now." in shown(answer)["running"]


@pytest.mark.django_db(transaction=True)
def test_a_statement_that_waits_for_a_lock_is_given_up(forgiving, monkeypatch, caplog):
    """As in production: no transaction around the page, and another process that holds a table."""
    owner = make.user()
    organization = make.organization(owner=owner, credit_microusd=400_000_000)
    make.job(organization=organization, model=make.model(), state="succeeded")
    client = Client()
    client.force_login(owner)
    monkeypatch.setattr(parts, "SECONDS", 0.3)
    with psycopg.connect(database.conninfo()) as other:
        other.execute("LOCK TABLE jobs_refusal IN ACCESS EXCLUSIVE MODE")
        answer = client.get("/dashboard/")
        other.rollback()
    assert answer.status_code == 200
    assert [id for id, html in shown(answer).items() if "This part did not load" in html] == ["latest"]
    lines = [record for record in caplog.records if record.getMessage() == "part failed"]
    assert "canceling statement due to statement timeout" in str(lines[0].exc_info[1])
    assert limit() == "0"
    assert "This part did not load" not in client.get("/dashboard/").content.decode()


def limit() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        return cursor.fetchone()[0]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("post", "/keys/create/", 403),  # refused by a middleware
        ("get", "/settings/audit/", 403),  # refused by a view
        ("get", "/jobs/nothing/", 404),
        ("post", "/billing/", 405),
        ("get", "/billing/", 200),
        ("get", "/jobs/export.csv", 200),  # a stream
    ],
)
def test_no_limit_stays_on_the_connection(method, path, status, forgiving, monkeypatch):
    member = make.user()
    organization = make.organization(credit_microusd=400_000_000)
    Membership.objects.create(organization=organization, user=member, role=Membership.Role.DEVELOPER)
    Organization.objects.update(closing_at=datetime.now(UTC) + timedelta(days=7))
    client = Client()
    client.force_login(member)
    assert limit() == "0"
    assert getattr(client, method)(path).status_code == status
    assert limit() == "0"


@pytest.mark.django_db(transaction=True)
def test_no_limit_stays_where_a_page_fails(monkeypatch):
    owner = make.user()
    make.job(organization=make.organization(owner=owner), model=make.model(), state="succeeded")
    client = Client(raise_request_exception=False)
    client.force_login(owner)
    monkeypatch.setattr(selectors, "LATENCY", "SELECT 1 / 0")
    assert client.get("/dashboard/").status_code == 500
    assert limit() == "0"


def test_what_is_tried_again_is_read_alone(shop, forgiving, monkeypatch):
    _, client = shop
    broken("running", monkeypatch)
    link = re.search(r'<a [^>]*id="retry-running"[^>]*>', client.get("/dashboard/").content.decode())
    assert link is not None
    assert 'hx-get="/dashboard/" hx-select="#running" hx-target="#running" hx-swap="outerHTML"' in link[0]
    headers = {"HX-Request": "true", "HX-Trigger": "retry-running", "HX-Target": "running"}
    again = client.get("/dashboard/", headers=headers)
    assert list(shown(again)) == ["running"]
    assert 'role="alert"' in shown(again)["running"]
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE gone RENAME TO batches_batch")
    assert "1 running" in shown(client.get("/dashboard/", headers=headers))["running"]


def renamed(table: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO gone")


def lacking(table: str, column: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO gone")


BILLING = ["figure-balance", "figure-pace", "movements", "automatic", "plan", "payments", "invoices"]


@pytest.mark.parametrize(
    ("table", "failed"),
    [
        ("ledger_account", ["figure-balance", "figure-pace"]),
        ("ledger_chargedhour", ["figure-pace"]),
        ("ledger_chargeduntil", ["figure-pace"]),
        ("billing_automatictopup", ["automatic"]),
        ("billing_subscription", ["plan"]),
        ("billing_topup", ["payments"]),
        ("billing_invoice", ["payments", "invoices"]),
    ],
)
def test_on_the_page_of_money_each_card_fails_alone(table, failed, shop, forgiving):
    _, client = shop
    whole = shown(client.get("/billing/"), BILLING)
    assert sorted(whole) == sorted(BILLING)
    renamed(table)
    answer = client.get("/billing/")
    found = shown(answer, BILLING)
    assert answer.status_code == 200
    assert [id for id in BILLING if found[id] != whole[id]] == failed
    for id in failed:
        assert REFERENCE in found[id]
        assert "$" not in found[id]


def test_what_can_be_refunded_is_asked_once_and_without_it_no_payment_is_shown(shop, forgiving, monkeypatch):
    organization, client = shop
    for n in range(5):
        TopUp.objects.create(
            organization=organization, source="checkout", state="paid", amount_cents=2500, tax_cents=475, ended_at=datetime.now(UTC), payment_intent_id=f"pi_{n}"
        )  # fmt: skip
    assert shown(client.get("/billing/"), BILLING)["payments"].count("Refund unused credit") == 5
    asked = []

    def fails(rows):
        asked.append(len(rows))
        raise OperationalError

    monkeypatch.setattr(billing, "may_refund", fails)
    answer = client.get("/billing/")
    found = shown(answer, BILLING)
    assert (answer.status_code, asked) == (200, [5])
    assert [id for id in BILLING if "data-failed" in found[id]] == ["payments"]


def test_where_the_plans_on_offer_cannot_be_read_the_card_says_so(shop, forgiving, monkeypatch):
    _, client = shop

    def fails():
        raise OperationalError

    monkeypatch.setattr(billing, "plans_on_offer", fails)
    found = shown(client.get("/billing/"), BILLING)
    assert [id for id in BILLING if "data-failed" in found[id]] == ["plan"]


def test_usage_that_cannot_be_read_leaves_the_choice_of_another(shop, forgiving):
    _, client = shop
    renamed("jobs_usageuntil")
    answer = client.get("/usage/?range=7d")
    html = answer.content.decode()
    assert answer.status_code == 200
    assert "This part did not load" in Parts(html, ["used"]).found["used"]
    assert 'hx-get="/usage/?range=7d"' in html
    assert '<option value="7d" selected>' in html
    assert "$0" not in html


def test_a_models_regions_fail_alone(shop, forgiving):
    renamed("operations_availability")
    for client in (shop[1], Client()):
        answer = client.get("/models/acme/first/")
        html = answer.content.decode()
        assert answer.status_code == 200
        assert "This part did not load" in Parts(html, ["day"]).found["day"]
        assert "$0.12" in html


def test_a_jobs_cards_fail_alone(shop, forgiving):
    organization, client = shop
    page = f"/jobs/{organization.jobs.filter(state='succeeded').first().public_id}/"
    ids = ["job-progress", "view", "job-facts"]
    whole = shown(client.get(page), ids)
    renamed("jobs_event")
    answer = client.get(page)
    found = shown(answer, ids)
    assert answer.status_code == 200
    assert "This part did not load" in found["job-progress"]
    assert found["job-facts"] == whole["job-facts"]
    assert "This part did not load" not in found["view"]
    events = shown(client.get(f"{page}?view=events"), ids)
    assert "This part did not load" in events["view"]
    assert events["job-facts"] == whole["job-facts"]


def batch_of(organization, **fields) -> Batch:
    model = organization.jobs.first().model
    at = datetime.now(UTC) - timedelta(minutes=5)
    return Batch.objects.create(
        organization=organization, input_file_id=uuid7(), endpoint="/v1/chat/completions", model=model, price=model.prices.get(), total=2,
        hold_microusd=20, charge_microusd=10, created_at=at, in_progress_at=at, expires_at=at + timedelta(days=1), **fields,
    )  # fmt: skip


def test_a_batchs_cards_fail_alone(shop, forgiving):
    organization, client = shop
    now = datetime.now(UTC)
    batch = batch_of(organization, state="completed", completed=2, finalizing_at=now, completed_at=now)
    page, ids = f"/batches/{batch.public_id}/", ["batch-progress", "batch-files", "batch-events", "batch-facts"]
    whole = shown(client.get(page), ids)
    assert sorted(whole) == sorted(ids)
    lacking("jobs_job", "energy_quality")
    answer = client.get(page)
    found = shown(answer, ids)
    assert answer.status_code == 200
    assert [id for id in ids if found[id] != whole[id]] == ["batch-facts"]
    assert "Nothing was charged or changed by this" in found["batch-facts"]


def test_a_running_batchs_rows_fail_alone(shop, forgiving, caplog):
    organization, client = shop
    batch = batch_of(organization, state="in_progress", completed=1)
    page, ids = f"/batches/{batch.public_id}/", ["batch-progress", "batch-files", "batch-rows", "batch-events", "batch-facts"]  # fmt: skip
    whole = shown(client.get(page), ids)
    assert sorted(whole) == sorted(ids)
    lacking("batches_row", "body")
    answer = client.get(page)
    found = shown(answer, ids)
    assert answer.status_code == 200
    assert [id for id in ids if "data-failed" in found[id]] == ["batch-rows"]
    assert f'data-topic="batch.{batch.public_id}.rows"' in found["batch-rows"]  # it comes by itself
    assert [record.part for record in caplog.records if record.getMessage() == "part failed"] == ["rows"]


def test_in_development_a_part_that_fails_is_the_error_it_is(shop, monkeypatch):
    _, client = shop
    monkeypatch.setattr(selectors, "LATENCY", "SELECT 1 / 0")
    with pytest.raises(DataError, match="division by zero"):
        client.get("/dashboard/")


def test_with_the_database_away_the_page_fails_as_a_whole(shop, forgiving, monkeypatch):
    _, client = shop
    client.raise_request_exception = False
    monkeypatch.setattr(selectors, "LATENCY", "SELECT pg_terminate_backend(pg_backend_pid())")
    assert client.get("/dashboard/").status_code == 500


def test_the_failed_face_in_chinese(shop, forgiving, monkeypatch):
    _, client = shop
    broken("latest", monkeypatch)
    html = client.get("/dashboard/", headers={"accept-language": "zh-CN"}).content.decode()
    part = Parts(html, ["latest"]).found["latest"]
    assert not re.search(r"did not load|could not|Try again|Reference", part)
    assert REFERENCE in part
