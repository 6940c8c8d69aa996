"""/api/v1/transfers, /usage and /invoices: what a program reads of money."""

import csv
import io
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client
from django.utils import timezone

from apps.accounts.models import Membership
from apps.core.ids import uuid7
from apps.ledger import services as ledger
from apps.ledger.models import Transfer
from tests import make
from tests.api.conftest import KeyClient
from tests.api.test_management import error
from tests.billing.test_pages import invoice
from tests.jobs.test_usage import ended

URLS = ["/api/v1/transfers", "/api/v1/usage", "/api/v1/invoices"]


def member(organization, role) -> Client:
    user = make.user()
    Membership.objects.create(organization=organization, user=user, role=role)
    client = Client()
    client.force_login(user)
    return client


def every(client, url) -> list[dict]:
    found, after = [], ""
    while True:
        page = client.get(f"{url}{'&' if '?' in url else '?'}limit=2{after}").json()
        found += page["data"]
        if not page["has_more"]:
            return found
        after = f"&after={page['data'][-1]['id']}"


def test_the_balance_counts_what_is_owed_and_not_what_has_expired(shop):
    ledger.claw_back(organization=shop.organization, microusd=1_500_000, key="test:back", reason="", actor="")
    ledger.grant(organization=shop.organization, microusd=7, key="test:old", reason="", actor="",
                 expires_at=timezone.now() - timedelta(seconds=1))  # fmt: skip
    assert shop.client.get("/api/v1/balance").json() == {
        "object": "balance",
        "credit_microusd": 0,
        "promotional_microusd": 0,
        "held_microusd": 0,
        "receivable_microusd": 500_000,
        "available_microusd": 0,
    }


def test_transfers_are_all_of_ours_newest_first(shop):
    key = uuid7()
    ledger.reserve(organization=shop.organization, microusd=100, key=f"job:{key}")
    ledger.settle(key=f"job:{key}", cost_microusd=30)
    ledger.post(
        organization=shop.organization,
        debit="fees",
        credit="stripe_clearing",
        microusd=9,
        key="fee:1",
        reason="",
        actor="",
    )
    ledger.deposit(
        organization=shop.organization, microusd=5_000_000, key="topup:pi_1", reason="staff's words", actor="stripe"
    )
    make.organization(credit_microusd=77)
    found = every(shop.client, "/api/v1/transfers")
    assert {(row["debit"], row["credit"], row["amount_microusd"], row["description"]) for row in found} == {
        ("stripe_clearing", "credit", 5_000_000, "Credit bought"),
        ("held", "credit", 70, "Not used, returned"),
        ("held", "revenue", 30, "Work"),
        ("credit", "held", 100, "Held for work"),
        ("credits_granted", "credit", 1_000_000, "Credit given"),
    }
    assert [row["created_at"] for row in found] == sorted((row["created_at"] for row in found), reverse=True)
    assert len({row["id"] for row in found}) == 5
    assert found[0]["id"].startswith("tr_")
    assert found[0]["job"] is None
    assert all(row["job"].startswith("job_") for row in found if "held" in (row["debit"], row["credit"]))
    assert not {"reason", "actor", "key"} & set(found[0])
    assert [
        row["amount_microusd"] for row in shop.client.get("/api/v1/transfers?account=held&limit=100").json()["data"]
    ].count(100) == 1
    assert len(shop.client.get("/api/v1/transfers?account=promotional").json()["data"]) == 0


def test_transfers_of_the_same_moment_are_listed_once(shop):
    for n in range(9):
        ledger.deposit(organization=shop.organization, microusd=n + 1, key=f"topup:pi_{n}", reason="", actor="")
    Transfer.objects.update(at=datetime(2026, 11, 25, tzinfo=UTC))
    found = every(shop.client, "/api/v1/transfers")
    assert sorted(row["amount_microusd"] for row in found) == [*range(1, 10), 1_000_000]


def test_transfers_of_a_span(shop):
    Transfer.objects.update(at=datetime(2026, 11, 20, tzinfo=UTC))
    ledger.deposit(organization=shop.organization, microusd=5, key="topup:pi_1", reason="", actor="")
    Transfer.objects.filter(key="topup:pi_1").update(at=datetime(2026, 11, 22, tzinfo=UTC))
    amounts = [
        row["amount_microusd"] for row in shop.client.get("/api/v1/transfers?since=2026-11-21T00:00:00Z").json()["data"]
    ]
    assert amounts == [5]
    amounts = [
        row["amount_microusd"] for row in shop.client.get("/api/v1/transfers?until=2026-11-22T00:00:00Z").json()["data"]
    ]
    assert amounts == [1_000_000]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=x", "limit"),
        ("account=revenue", "account"),
        ("since=yesterday", "since"),
        ("since=2026-11-21T00:00:00Z&until=2026-11-20T00:00:00Z", "until"),
        ("after=tr_0", "after"),
        ("after=tr_00000000000000000000000000", "after"),
        ("colour=red", "colour"),
    ],
)
@pytest.mark.parametrize("url", ["/api/v1/transfers", "/api/v1/invoices"])
def test_wrong_filters_are_named(shop, url, query, param):
    assert error(shop.client.get(f"{url}?{query}"))[1] == param


def test_a_key_reads_payments_only_where_its_maker_may(shop):
    """A developer's key is no way round the role: what they may not see, it may not."""
    row = Membership.objects.create(organization=shop.organization, user=make.user(), role="developer")
    client = KeyClient(make.api_key(shop.organization, user=row.user, scopes=["usage"])[1])
    expected = {"developer": 403, "billing": 200, "viewer": 403, "": 403}
    for role, status in expected.items():
        Membership.objects.filter(pk=row.pk).update(role=role) if role else row.delete()
        for url in ("/api/v1/transfers", "/api/v1/invoices"):
            answer = client.get(url)
            assert (role, answer.status_code) == (role, status)
            assert status == 200 or error(answer, 403)[0] == "permission_denied"
        assert client.get("/api/v1/usage").status_code == client.get("/api/v1/balance").status_code == 200


def test_a_strangers_transfer_is_no_cursor(shop):
    other = make.organization(credit_microusd=77)
    _, secret = make.api_key(other)
    (theirs,) = KeyClient(secret).get("/api/v1/transfers").json()["data"]
    assert error(shop.client.get(f"/api/v1/transfers?after={theirs['id']}")) == ("invalid_value", "after")


def test_invoices(shop):
    for n in range(1, 6):
        invoice(shop.organization, n)
    invoice(shop.organization, 9, state="draft")
    invoice(make.organization(), 8)
    found = every(shop.client, "/api/v1/invoices")
    assert [row["number"] for row in found] == ["MF-0001", "MF-0002", "MF-0003", "MF-0004", "MF-0005"]
    first = found[0]
    assert (first["object"], first["state"], first["subtotal_cents"], first["tax_cents"], first["total_cents"]) == (
        "invoice",
        "paid",
        2500,
        475,
        2975,
    )
    assert first["id"].startswith("inv_")
    assert first["hosted_url"] == "https://invoice.stripe.com/i/1"


@pytest.mark.parametrize("url", URLS)
def test_who_reads_money(shop, url):
    assert shop.client.get(url).status_code == 200
    assert error(KeyClient().get(url), 401)[0] == "invalid_api_key"
    assert error(KeyClient("cango_wrong").get(url), 401)[0] == "invalid_api_key"
    assert member(shop.organization, "billing").get(url).status_code == 200
    developer = member(shop.organization, "developer").get(url)
    if url == "/api/v1/usage":
        assert developer.status_code == 200
    else:
        code, _ = error(developer, 403)
        assert code == "permission_denied"
        assert "billing role" in developer.json()["error"]["message"]
    for method in ("post", "put", "patch", "delete"):
        assert getattr(shop.client, method)(url).status_code == 405


@pytest.fixture
def used(shop):
    now = timezone.now()
    ended(
        shop.organization,
        shop.chat,
        now - timedelta(minutes=5),
        1234,
        api_key=shop.key,
        prompt_tokens=10,
        energy_wh=0.5,
        energy_quality="counter",
    )
    ended(shop.organization, shop.ocr, now - timedelta(days=2), 766, user=shop.owner, pages=2)
    ended(shop.organization, shop.chat, now - timedelta(days=45), 5, api_key=shop.key)
    ended(make.organization(credit_microusd=1_000), shop.chat, now - timedelta(minutes=5), 99)
    return now


def test_usage_in_groups(shop, used):
    body = shop.client.get("/api/v1/usage?group_by=model,key,member").json()
    assert (body["object"], body["group_by"]) == ("usage", ["model", "key", "member"])
    chat, ocr = body["data"]
    assert (chat["model"], chat["key"], chat["key_name"], chat["member"], chat["member_name"]) == (
        "acme/chat", str(shop.key.pk), "test", None, "the portal",
    )  # fmt: skip
    assert (chat["charge_microusd"], chat["prompt_tokens"], chat["energy_wh"], chat["energy_estimated"]) == (
        1234,
        10,
        0.5,
        False,
    )
    assert (ocr["key"], ocr["member"], ocr["member_name"], ocr["pages"]) == (
        None,
        str(shop.owner.pk),
        shop.owner.email,
        2,
    )
    assert (body["total"]["charge_microusd"], body["total"]["requests"]) == (2000, 2)
    everything = shop.client.get(f"/api/v1/usage?start={used - timedelta(days=60):%Y-%m-%dT%H:%M:%SZ}").json()
    charged = sum(
        row["amount_microusd"] for row in every(shop.client, "/api/v1/transfers") if row["credit"] == "revenue"
    )
    assert everything["data"][0]["charge_microusd"] == everything["total"]["charge_microusd"] == charged == 2005


def test_usage_by_day_and_site(shop, used):
    body = shop.client.get("/api/v1/usage?group_by=day, site").json()
    assert [(row["day"], row["site"], row["site_name"], row["charge_microusd"]) for row in body["data"]] == [
        (f"{used - timedelta(days=2):%Y-%m-%d}", None, "not placed", 766),
        (f"{used - timedelta(minutes=5):%Y-%m-%d}", None, "not placed", 1234),
    ]
    assert body["end"] >= body["start"]


@pytest.mark.parametrize(
    "ask", [{"path": "?group_by=model&format=csv"}, {"path": "?group_by=model", "headers": {"accept": "text/csv"}}]
)
def test_usage_as_csv(shop, used, ask):
    answer = shop.client.get(f"/api/v1/usage{ask['path']}", headers=ask.get("headers"))
    assert answer["content-type"] == "text/csv; charset=utf-8"
    rows = list(csv.DictReader(io.StringIO(answer.content.decode())))
    assert [(row["model"], row["charge_microusd"]) for row in rows] == [("acme/chat", "1234"), ("acme/ocr", "766")]


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("group_by=colour", "group_by"),
        ("group_by=hour", "group_by"),
        ("group_by=model,model", "group_by"),
        ("start=x", "start"),
        ("end=x", "end"),
        ("start=2026-01-02T00:00:00Z&end=2026-01-01T00:00:00Z", "end"),
        ("start=2999-01-01T00:00:00Z", "start"),
        ("start=2020-01-01T00:00:00Z", "start"),
        ("start=0001-01-01T00:00:00Z&end=0001-01-02T00:00:00Z", None),
        ("format=xml", "format"),
        ("page=2", "page"),
        ("group_by=model%00", "group_by"),
    ],
)
def test_wrong_questions_are_named(shop, query, param):
    answer = shop.client.get(f"/api/v1/usage?{query}")
    if param is None:
        assert answer.json()["total"]["requests"] == 0
    else:
        assert error(answer)[1] == param


def test_a_refusal_is_json_whatever_was_asked_for(shop):
    assert error(shop.client.get("/api/v1/usage?group_by=x&format=csv"))[1] == "group_by"
    assert error(KeyClient().get("/api/v1/usage", headers={"accept": "text/csv"}), 401)[0] == "invalid_api_key"
