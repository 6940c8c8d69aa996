"""The Billing page and its lists: who sees what, in whose words, exactly."""

import csv
import io
import re
from datetime import UTC, datetime, timedelta

import pytest
from asgiref.sync import async_to_sync
from django.test import Client

from apps.accounts.models import Membership
from apps.billing.models import AutomaticTopUp, Invoice, Plan, Refund, Subscription, TopUp
from apps.billing.pages.overview import exported
from apps.billing.selectors import invoice_key
from apps.core.ids import uuid7
from apps.ledger import services as ledger
from apps.ledger.models import Transfer
from tests.billing.stories import colleague, shop, spend
from tests.portal.test_pages import assert_clean

pytestmark = pytest.mark.django_db

MEMBERS = ["/billing/", "/billing/limits/"]
PAYERS = [
    "/billing/movements/",
    "/billing/movements/?show=payments",
    "/billing/payments/",
    "/billing/invoices/",
    "/billing/add/",
    "/billing/automatic/",
    "/billing/portal/",
    "/billing/plan/",
    "/billing/plan/pro/",
    "/billing/limits/organization/",
    "/billing/limits/warnings/",
]
POSTED = [
    "/billing/add/",
    "/billing/automatic/",
    "/billing/automatic/stop/",
    "/billing/portal/",
    "/billing/plan/pro/",
    "/billing/plan/cancel/",
    "/billing/plan/resume/",
    "/billing/limits/organization/",
    "/billing/limits/warnings/",
]


def browser(user) -> Client:
    client = Client()
    client.force_login(user)
    return client


def top_up(organization, **fields) -> TopUp:
    return TopUp.objects.create(
        **{
            "organization": organization,
            "source": "checkout",
            "state": "paid",
            "amount_cents": 2500,
            "tax_cents": 475,
            "ended_at": datetime.now(UTC),
            "payment_intent_id": f"pi_{uuid7()}",
            **fields,
        }
    )


def invoice(organization, n=1, **fields) -> Invoice:
    return Invoice.objects.create(
        **{
            "organization": organization,
            "stripe_id": f"in_{uuid7()}",
            "number": f"MF-{n:04}",
            "state": "paid",
            "subtotal_cents": 2500,
            "tax_cents": 475,
            "total_cents": 2975,
            "hosted_url": "https://invoice.stripe.com/i/1",
            "pdf_url": "https://invoice.stripe.com/i/1.pdf",
            "issued_at": datetime.now(UTC) - timedelta(days=n),
            **fields,
        }
    )


def plan(**fields) -> Plan:
    return Plan.objects.create(
        **{
            "code": "pro",
            "title": "Pro",
            "price_cents": 9900,
            "included_microusd": 50_000_000,
            "max_open_jobs": 5000,
            **fields,
        }
    )


@pytest.fixture
def full():
    """An organization with one of everything."""
    organization, owner = shop(credit_microusd=40_000_000, promotional_microusd=5_000_000)
    plan()
    paid = top_up(organization, receipt_url="https://pay.stripe.com/receipts/1", created_by=owner)
    Refund.objects.create(organization=organization, top_up=paid, amount_cents=500, tax_cents=95, state="succeeded")
    top_up(organization, state="failed", failure="The card was declined.")
    top_up(organization, state="open", checkout_url="https://checkout.stripe.com/c/1", checkout_session_id="cs_1")
    top_up(organization, state="expired")
    invoice(organization)
    AutomaticTopUp.objects.create(
        organization=organization,
        enabled=True,
        threshold_microusd=10_000_000,
        amount_cents=5000,
        monthly_ceiling_cents=20_000,
    )
    spend(organization, 300, "test:work")
    return organization, owner


@pytest.mark.parametrize("url", [*MEMBERS, *PAYERS])
def test_pages_of_owner_and_billing_member(full, url):
    organization, owner = full
    for user in (owner, colleague(organization, "billing")):
        answer = browser(user).get(url)
        assert answer.status_code == 200
        assert_clean(answer)
        ids = re.findall(r'\sid="([^"]+)"', answer.content.decode())
        assert len(ids) == len(set(ids))


@pytest.mark.parametrize("url", MEMBERS)
def test_a_developer_sees_balance_and_limits_and_no_payments(full, url):
    answer = browser(colleague(full[0], "developer")).get(url)
    assert_clean(answer)
    html = answer.content.decode()
    assert "owners" in html.lower()
    for word in ("Receipt", "MF-0001", "The card was declined", "Add credit</a>", "Save", "Change<"):
        assert word not in html


@pytest.mark.parametrize("url", PAYERS)
def test_a_developer_is_told_who_may(full, url):
    answer = browser(colleague(full[0], "developer")).get(url)
    assert answer.status_code == 403
    assert b"the owners of your organization and its members with the billing role" in answer.content


@pytest.mark.parametrize("url", POSTED)
def test_a_developer_changes_nothing(full, url):
    rows = counts()
    before = AutomaticTopUp.objects.values().get()
    answer = browser(colleague(full[0], "developer")).post(
        url, {"amount": "25", "threshold": "5", "monthly_ceiling": "100", "daily": "1", "low_balance": "1"}
    )
    assert answer.status_code == 403
    assert counts() == rows
    assert AutomaticTopUp.objects.values().get() == before


def counts() -> list[int]:
    return [model.objects.count() for model in (TopUp, Refund, Transfer, Subscription, AutomaticTopUp)]


@pytest.mark.parametrize("url", [*MEMBERS, *PAYERS, "/usage/", "/billing/movements.csv"])
def test_visitors_sign_in_first(full, url):
    answer = Client().get(url)
    assert answer.status_code == 302
    assert answer["location"].startswith("/login/?next=")
    if "csv" not in url:
        assert Client().post(url).status_code in (302, 405)


def test_another_organizations_things_do_not_exist(full):
    organization, _ = full
    stranger, other = shop()
    client = browser(other)
    theirs = TopUp.objects.get(organization=organization, state="paid")
    document = Invoice.objects.get()
    for url in (
        f"/billing/return/{theirs.public_id}/",
        f"/billing/payments/{theirs.public_id}/refund/",
        f"/billing/payments/{theirs.public_id}/receipt/",
        f"/billing/payments/{theirs.public_id}/pay/",
        f"/billing/invoices/{invoice_key(document)}/",
        f"/billing/invoices/{invoice_key(document)}/pdf/",
        f"/billing/limits/members/{full[1].pk}/",
        "/billing/return/nothing/",
        "/billing/invoices/nothing/",
    ):
        assert client.get(url).status_code == 404, url
    assert client.post(f"/billing/payments/{theirs.public_id}/refund/", {"amount": "5"}).status_code == 404
    assert Refund.objects.count() == 1
    html = client.get("/billing/").content.decode()
    assert "MF-0001" not in html
    assert "No payments yet" in html
    assert stranger.name in html


def test_the_page_answers_what_is_there_and_how_long_it_lasts(full):
    organization, owner = full
    ledger.reserve(organization=organization, microusd=2_000_000, key="test:open")
    html = browser(owner).get("/billing/").content.decode()
    assert "$42.00" in html  # 40 + 5 − 3
    assert "$40.00" in html  # free
    assert "$2.00 of it held for running jobs" in html
    assert "13<small>days</small>" in html  # $40 at $3 a day
    assert "at $3.00 a day, as lately" in html
    assert "Sandbox money." in html
    for words in (
        "MF-0001",
        "$29.75",
        "The card was declined.",
        "$5.95 refunded",
        "Waiting for payment",
        "$0.00 of $200.00",
    ):
        assert words in html
    assert "Not paid in time" not in html


def test_without_spending_nothing_is_foretold(db):
    _, owner = shop(credit_microusd=10_000_000)
    html = browser(owner).get("/billing/").content.decode()
    assert "nothing was spent in the last 7 days" in html


def test_banners_say_what_is_wrong_and_what_to_do(full):
    organization, owner = full
    AutomaticTopUp.objects.update(
        enabled=False, needs_authentication=True, stopped_reason="3 payments in a row failed."
    )
    row = plan(code="team", title="Team")
    Subscription.objects.create(
        organization=organization, plan=row, stripe_id="sub_1", state="past_due", past_due_since=datetime(2026, 11, 20, tzinfo=UTC),
        period_start_at=datetime(2026, 11, 1, tzinfo=UTC), period_end_at=datetime(2026, 12, 1, tzinfo=UTC),
    )  # fmt: skip
    ledger.claw_back(organization=organization, microusd=50_000_000, key="test:dispute", reason="test", actor="test")
    html = browser(owner).get("/billing/").content.decode()
    assert "Your bank wants you there." in html
    assert "3 payments in a row failed." in html
    assert "The payment for your Team plan is overdue." in html
    assert "27 Nov 2026" in html
    assert re.search(r"<strong>\$\d+\.00 is owed\.</strong>", html)
    developer = browser(colleague(organization, "developer")).get("/billing/").content.decode()
    assert "is owed" in developer
    assert "overdue" not in developer


def test_movements_are_in_customers_words_and_leave_holds_out(full):
    organization, owner = full
    key = uuid7()
    ledger.reserve(organization=organization, microusd=1_000_000, key=f"job:{key}")
    ledger.settle(key=f"job:{key}", cost_microusd=218)
    ledger.deposit(
        organization=organization, microusd=25_000_000, key="topup:pi_9", reason="for staff only", actor="stripe"
    )
    html = browser(owner).get("/billing/movements/").content.decode()
    assert "Credit bought" in html
    assert "+$25.0000" in html
    assert "−$0.0002" in html
    ledger.reserve(organization=organization, microusd=1_000, key="test:small")
    ledger.settle(key="test:small", cost_microusd=21)
    html = browser(owner).get("/billing/movements/").content.decode()
    assert "−$0.00002<" in html  # one number of decimals in a column: what its smallest amount needs
    assert "−$0.00022<" in html
    assert "+$25.00000<" in html
    assert "Credit given" in html
    assert "/jobs/job_" in html
    assert "for staff only" not in html
    assert "Held for work" not in html
    assert "returned" not in html
    only = browser(owner).get("/billing/movements/?show=payments").content.decode()
    assert "Credit bought" in only
    assert "/jobs/job_" not in only


@pytest.mark.django_db(transaction=True)
def test_movements_add_up_to_the_balance_and_what_is_owed(full):
    organization, owner = full
    ledger.claw_back(organization=organization, microusd=60_000_000, key="test:dispute", reason="", actor="")
    ledger.deposit(organization=organization, microusd=10_000_000, key="topup:pi_1", reason="", actor="")
    rows = list(csv.DictReader(io.StringIO(whole(organization))))
    balance = ledger.balance(organization.pk)
    change = sum(round(float(row["balance_change_usd"]) * 1_000_000) for row in rows)
    owed = sum(round(float(row["owed_change_usd"]) * 1_000_000) for row in rows)
    assert change == balance.available_microusd + balance.held_microusd
    assert owed == balance.receivable_microusd > 0
    assert "Payment taken back by the bank after it was spent" in whole(organization)
    answer = browser(owner).get("/billing/movements.csv")
    assert answer["content-type"] == "text/csv; charset=utf-8"
    assert answer["content-disposition"].startswith('attachment; filename="movements-')


def whole(organization) -> str:
    async def read() -> str:
        return "".join([part async for part in exported(organization, False)])

    return async_to_sync(read)().removeprefix("\ufeff")


def test_movements_are_cut_by_key_and_none_is_lost(db, monkeypatch):
    organization, owner = shop(credit_microusd=100_000_000)
    for n in range(120):
        spend(organization, 1, f"test:{n}")
    Transfer.objects.update(at=datetime(2026, 11, 25, tzinfo=UTC))  # all at once: the id decides
    client, url, seen = browser(owner), "/billing/movements/", []
    while url:
        html = client.get(url).content.decode()
        seen.append(html.count("<tr><td"))
        older = re.search(r'href="(\?before=tr_[0-9A-Z]+)"', html)
        url = f"/billing/movements/{older[1]}" if older else ""
    assert seen == [50, 50, 21]
    assert client.get("/billing/movements/?before=nonsense").status_code == 200


def test_lists_of_payments_and_invoices_are_paged(db):
    organization, owner = shop()
    for n in range(55):
        top_up(organization, amount_cents=1000 + n)
        invoice(organization, n, issued_at=datetime(2026, 11, 1, tzinfo=UTC))
    client = browser(owner)
    for url in ("/billing/payments/", "/billing/invoices/"):
        first = client.get(url).content.decode()
        older = re.search(r'href="(\?after=[a-z]+_[0-9A-Z]+)"', first)[1]
        second = client.get(f"{url}{older}").content.decode()
        assert (first.count('<tr role="row"><td'), second.count('<tr role="row"><td')) == (50, 5)


def test_documents_lead_to_stripe_and_nowhere_else(full):
    client = browser(full[1])
    document = Invoice.objects.get()
    assert client.get(f"/billing/invoices/{invoice_key(document)}/")["location"] == "https://invoice.stripe.com/i/1"
    assert (
        client.get(f"/billing/invoices/{invoice_key(document)}/pdf/")["location"]
        == "https://invoice.stripe.com/i/1.pdf"
    )
    paid = TopUp.objects.get(state="paid")
    assert client.get(f"/billing/payments/{paid.public_id}/receipt/")["location"] == "https://pay.stripe.com/receipts/1"
    for url in ("", "javascript:alert(1)"):
        TopUp.objects.filter(pk=paid.pk).update(receipt_url=url)
        assert client.get(f"/billing/payments/{paid.public_id}/receipt/").status_code == 404


def test_one_who_changed_roles_changes_what_is_seen(full):
    organization, _ = full
    user = colleague(organization, "developer")
    client = browser(user)
    assert client.get("/billing/add/").status_code == 403
    Membership.objects.filter(user=user).update(role="billing")
    assert client.get("/billing/add/").status_code == 200


def test_the_sidebar_leads_here(full):
    html = browser(full[1]).get("/dashboard/").content.decode()
    for url in ("/usage/", "/billing/", "/billing/limits/"):
        assert f'href="{url}"' in html
    limits = browser(full[1]).get("/billing/limits/").content.decode()
    assert len(re.findall(r'<a href="/billing/limits/" aria-current="page"', limits)) == 2  # sidebar and menu
    assert '<a href="/billing/" aria-current="page"' not in limits


def test_sandbox_money_is_not_named_where_money_is_real(full, settings):
    settings.SANDBOX_MONEY = False
    for url in ("/billing/", "/billing/add/", "/billing/portal/"):
        assert b"Sandbox money" not in browser(full[1]).get(url).content
