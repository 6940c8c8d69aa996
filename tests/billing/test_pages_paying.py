"""Paying on pages: from the amount to the credit, back to the card, by itself, and at Stripe. The double stands for Stripe."""

import re

import pytest
from asgiref.sync import sync_to_async
from django.test import Client

from apps.accounts import tickets
from apps.billing import top_ups
from apps.billing.models import AutomaticTopUp, Refund, TopUp
from apps.billing.topics import TopUpTopic
from apps.ledger import services as ledger
from apps.ledger.models import Transfer
from apps.live.topics import Viewer
from cango_portal import database
from tests import make
from tests.billing.stories import buy, colleague, credit_cents, nothing_written, proved, shop, spend, start
from tests.billing.test_pages import browser
from tests.portal.test_pages import assert_clean
from tests.threads import run_in_threads

pytestmark = pytest.mark.django_db(transaction=True)


def ticket_in(page) -> str:
    return re.search(r'name="ticket" value="([^"]+)"', page.content.decode())[1]


def test_from_the_amount_to_the_credit(stripe):
    organization, owner = shop()
    client = browser(owner)
    page = client.get("/billing/add/")
    answer = client.post("/billing/add/", {"choice": "5000", "ticket": ticket_in(page), "save_card": "on"})
    row = TopUp.objects.get()
    assert row.checkout_url.endswith(answer["location"])
    assert (row.amount_cents, row.created_by, row.state) == (5000, owner, "open")
    session = stripe.get(row.checkout_session_id)
    assert session["success_url"] == f"http://testserver/billing/return/{row.public_id}/"
    assert session["cancel_url"] == f"http://testserver/billing/add/?left={row.public_id}"

    waiting = client.get(f"/billing/return/{row.public_id}/")
    assert_clean(waiting)
    assert b"Waiting for the payment of $50.00" in waiting.content
    assert b"is in your balance</h1>" not in waiting.content
    left = client.get(f"/billing/add/?left={row.public_id}").content
    assert b"You left the payment page." in left
    assert client.get(f"/billing/payments/{row.public_id}/pay/")["location"] == answer["location"]

    stripe.pay(row.checkout_session_id)
    assert (
        b"Waiting for the payment" in client.get(f"/billing/return/{row.public_id}/").content
    )  # paid is not confirmed
    stripe.deliver()
    done = client.get(f"/billing/return/{row.public_id}/")
    assert_clean(done)
    assert b"$50.00 of credit is in your balance" in done.content
    assert client.get(f"/billing/payments/{row.public_id}/pay/")["location"] == f"/billing/return/{row.public_id}/"
    assert credit_cents(organization) == 5000
    assert b"Receipt" in client.get("/billing/").content
    proved()


@pytest.mark.parametrize(
    ("typed", "cents"), [("25", 2500), ("25.50", 2550), ("$1,000", 100_000), (" $ 7.5 ", 750), ("0010", 1000)]
)
def test_amounts_as_people_write_them(stripe, typed, cents):
    _, owner = shop()
    assert browser(owner).post("/billing/add/", {"choice": "other", "amount": typed}).status_code == 302
    assert TopUp.objects.get().amount_cents == cents


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("-5", "The amount is negative."),
        ("$-5", "The amount is negative."),
        ("−5", "The amount is negative."),
        ("0", "The amount is zero."),
        ("0.00", "The amount is zero."),
        ("25.005", "fraction of a cent"),
        ("4.99", "The smallest amount is $5.00."),
        ("10000.01", "The largest amount is $10,000.00."),
        ("9" * 400, "too large"),
        ("abc", "not an amount in USD"),
        ("1e3", "not an amount in USD"),
        ("1,00", "not an amount in USD"),
        ("€25", "not an amount in USD"),
        ("NaN", "not an amount in USD"),
        ("٢٥", "not an amount in USD"),
        ("25\x00", "not an amount in USD"),
        ("", "Choose an amount"),
    ],
)
def test_what_is_no_amount_starts_no_payment(stripe, typed, says):
    _, owner = shop()
    answer = browser(owner).post("/billing/add/", {"choice": "other", "amount": typed})
    assert answer.status_code == 422
    html = answer.content.decode()
    assert "<title>Error: Add credit" in html
    assert says in html
    assert '<a href="#id_amount">' in html
    assert not TopUp.objects.exists()
    assert not stripe.requests
    nothing_written()


def test_an_amount_off_the_list_is_refused(stripe):
    _, owner = shop()
    assert browser(owner).post("/billing/add/", {"choice": "1"}).status_code == 422
    assert not TopUp.objects.exists()


def test_the_form_sent_twice_opens_one_payment(stripe):
    _, owner = shop()
    client = browser(owner)
    form = {"amount": "25", "ticket": ticket_in(client.get("/billing/add/"))}
    first, second = client.post("/billing/add/", form), client.post("/billing/add/", form)
    assert first["location"] == second["location"]
    assert TopUp.objects.count() == 1
    assert len(stripe.asked("POST", "/v1/checkout/sessions")) == 1


def test_the_form_sent_twice_at_once_opens_one_payment(stripe):
    _, owner = shop()
    form = {"amount": "25", "ticket": ticket_in(browser(owner).get("/billing/add/"))}
    cookies = browser(owner).cookies

    def send(n):
        client = Client()
        client.cookies = cookies
        return client.post("/billing/add/", form).status_code

    assert run_in_threads(4, send) == [302] * 4
    assert TopUp.objects.count() == 1


def test_a_payment_service_that_is_away_takes_nothing(stripe):
    _, owner = shop()
    stripe.fail_next("POST", "/v1/", 500, times=10)
    answer = browser(owner).post("/billing/add/", {"amount": "25"})
    assert answer.status_code == 422
    assert b"No payment was started." in answer.content
    assert b"Nothing was charged" in answer.content
    assert not Transfer.objects.exists()


@pytest.mark.parametrize("role", ["owner", "billing"])
def test_unused_credit_goes_back_to_the_card(stripe, role):
    organization, owner = shop()
    client = browser(owner if role == "owner" else colleague(organization, "billing"))
    row = buy(stripe, organization, owner, "50.00")
    spend(organization, 1250, "test:work")
    url = f"/billing/payments/{row.public_id}/refund/"
    page = client.get(url)
    assert_clean(page)
    assert b"$37.50 is unused" in page.content
    form = {"amount": "20", "ticket": ticket_in(page)}
    assert client.post(url, form)["location"] == "/billing/"
    assert client.post(url, form)["location"] == "/billing/"  # sent twice
    assert Refund.objects.count() == 1
    stripe.deliver()
    assert credit_cents(organization) == 1750
    assert b"$20.00 refunded" in client.get("/billing/").content
    proved()


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ("50.01", b"At most $50.00"),
        ("-1", b"negative"),
        ("0", b"zero"),
        ("", b"Enter an amount"),
        ("1.001", b"fraction of a cent"),
    ],
)
def test_what_cannot_be_refunded_moves_nothing(stripe, typed, says):
    organization, owner = shop()
    row = buy(stripe, organization, owner, "50.00")
    transfers = Transfer.objects.count()
    answer = browser(owner).post(f"/billing/payments/{row.public_id}/refund/", {"amount": typed})
    assert answer.status_code == 422
    assert says in answer.content
    assert b'<a href="#id_amount">' in answer.content
    assert not Refund.objects.exists()
    assert Transfer.objects.count() == transfers


def test_what_is_spent_cannot_be_refunded(stripe):
    organization, owner = shop()
    row = buy(stripe, organization, owner, "50.00")
    spend(organization, 5000, "test:work")
    client = browser(owner)
    assert (
        b"Nothing of this payment can be refunded" in client.get(f"/billing/payments/{row.public_id}/refund/").content
    )
    assert client.post(f"/billing/payments/{row.public_id}/refund/", {"amount": "1"}).status_code == 422
    assert not Refund.objects.exists()
    assert b"Refund unused credit" not in client.get("/billing/").content


def test_automatic_top_up_is_set_changed_and_stopped(stripe):
    organization, owner = shop()
    client = browser(owner)
    rule = {"threshold": "10", "amount": "$50", "monthly_ceiling": "1,000"}
    refused = client.post("/billing/automatic/", rule)
    assert refused.status_code == 422
    assert b"There is no saved card" in refused.content
    assert not AutomaticTopUp.objects.exists()

    buy(stripe, organization, owner, save_card=True)
    assert client.post("/billing/automatic/", rule)["location"] == "/billing/"
    row = AutomaticTopUp.objects.get()
    assert (row.enabled, row.threshold_microusd, row.amount_cents, row.monthly_ceiling_cents) == (
        True,
        10_000_000,
        5000,
        100_000,
    )
    html = client.get("/billing/").content.decode()
    assert "Automatic top-up is on: $50.00 whenever less than $10.00 is free, at most $1,000.00 a month." in html
    assert_clean(client.get("/billing/automatic/"))
    assert client.post("/billing/automatic/stop/")["location"] == "/billing/"
    assert not AutomaticTopUp.objects.get().enabled
    assert client.get("/billing/automatic/stop/").status_code == 405


@pytest.mark.parametrize(
    ("field", "typed", "says"),
    [
        ("threshold", "-1", "negative"),
        ("threshold", "", "Enter an amount"),
        ("amount", "1", "smallest amount"),
        ("amount", "20000", "largest amount"),
        ("monthly_ceiling", "20", "below the amount"),
        ("monthly_ceiling", "0.001", "fraction of a cent"),
    ],
)
def test_a_wrong_rule_names_its_field(stripe, field, typed, says):
    organization, owner = shop()
    buy(stripe, organization, owner, save_card=True)
    rule = {"threshold": "10", "amount": "50", "monthly_ceiling": "200", field: typed}
    answer = browser(owner).post("/billing/automatic/", rule)
    assert answer.status_code == 422
    assert re.search(rf'<a href="#id_{field}">[^<]*{says}', answer.content.decode())
    assert not AutomaticTopUp.objects.exists()


def test_the_portal_is_left_by_post_only(stripe):
    organization, owner = shop()
    client = browser(owner)
    assert_clean(client.get("/billing/portal/"))
    assert not stripe.requests
    answer = client.post("/billing/portal/")
    assert answer.status_code == 302
    sent = stripe.asked("POST", "/v1/billing_portal/sessions")[0].params
    assert sent["return_url"] == "http://testserver/billing/"
    assert answer["location"].startswith("/sandbox/portal/")
    stripe.fail_next("POST", "/v1/billing_portal", 500, times=10)
    away = client.post("/billing/portal/")
    assert away.status_code == 503
    assert b"The page was not opened." in away.content
    assert organization.customer.stripe_id == sent["customer"]


@pytest.fixture
async def _closed():
    yield
    await database.close()


@pytest.mark.usefixtures("_closed")
async def test_the_return_page_is_told_when_the_payment_is_confirmed(stripe):
    organization, owner = await sync_to_async(shop)()
    row = await sync_to_async(started)(organization, owner)
    topic = topic_of(row, owner, organization)
    assert await topic.allowed()
    (first,) = await topic.news(0)
    assert (first["k"], first["t"]) == ("html", f"topup.{row.public_id}")
    assert "Waiting for the payment" in first["html"]
    assert f'data-at="{first["v"]}"' in first["html"]
    assert await topic.news(first["v"]) == []
    assert not topic.finished

    def pay():
        stripe.pay(row.checkout_session_id)
        stripe.deliver()

    await sync_to_async(pay)()
    (second,) = await topic.news(first["v"])
    assert "$25.00 of credit is in your balance" in second["html"]
    assert topic.finished
    for user in (await sync_to_async(colleague)(organization, "developer"), (await sync_to_async(shop)())[1]):
        assert not await topic_of(row, user, organization).allowed()
    assert not await topic_of(TopUp(pk="00000000-0000-7000-8000-000000000000"), owner, organization).allowed()


def topic_of(row, user, organization) -> TopUpTopic:
    viewer = Viewer(user=user, organization_id=organization.pk, organization_ids=frozenset({organization.pk}))
    return TopUpTopic(f"topup.{row.public_id}", viewer, top_up=row.public_id)


def started(organization, owner) -> TopUp:
    return top_ups.start(
        organization=organization,
        actor=owner,
        amount="25",
        success_url="http://localhost/",
        cancel_url="http://localhost/",
    )


def test_a_payment_that_failed_or_expired_says_so(stripe):
    organization, owner = shop()
    client = browser(owner)
    row = started(organization, owner)
    stripe.expire(row.checkout_session_id)
    stripe.deliver()
    page = client.get(f"/billing/return/{row.public_id}/")
    assert_clean(page)
    assert b"This payment page has closed" in page.content
    TopUp.objects.filter(pk=row.pk).update(state="failed", failure="The card was declined.")
    page = client.get(f"/billing/return/{row.public_id}/")
    assert_clean(page)
    assert b"The card was declined." in page.content


def test_the_sandboxs_page_is_reached_by_the_host_one_came_by(stripe, client):
    """A form may not lead to another host, and 127.0.0.1 is another than localhost."""
    _, owner = shop()
    client.force_login(owner)
    answer = client.post("/billing/add/", {"choice": "2500"}, headers={"host": "127.0.0.1"})
    assert answer.status_code == 302
    assert answer.headers["location"].startswith("/sandbox/checkout/")


def test_a_form_of_another_organization_opens_nothing(stripe, client):
    organization, owner = shop()
    other = make.organization(owner=owner)
    ticket = tickets.new("top_up")
    client.force_login(owner)
    answers = []
    for mine in (organization, other):
        session = client.session
        session["organization"] = str(mine.pk)
        session.save()
        answers.append(client.post("/billing/add/", {"choice": "2500", "ticket": ticket}))
    assert [answer.status_code for answer in answers] == [302, 422]
    assert b"This form was used already. Nothing was charged." in answers[1].content
    assert TopUp.objects.get().organization == organization


def test_a_form_of_another_payment_refunds_nothing(stripe, client):
    organization, owner = shop()
    first, second = buy(stripe, organization, owner), buy(stripe, organization, owner)
    ticket = tickets.new("refund")
    client.force_login(owner)
    answers = [
        client.post(f"/billing/payments/{row.public_id}/refund/", {"amount": "1", "ticket": ticket})
        for row in (first, second)
    ]
    assert [answer.status_code for answer in answers] == [302, 422]
    assert b"This form was used for another payment. Nothing was moved." in answers[1].content
    assert Refund.objects.get().top_up == first


def test_a_payment_that_pays_a_debt_says_so_and_the_debt_is_named_everywhere(stripe, client):
    organization, owner = shop()
    ledger.claw_back(organization=organization, microusd=45_000_000, key="dispute:1:out", reason="", actor="test")
    client.force_login(owner)
    assert b"$45.00 is owed: nothing new runs" in client.get("/jobs/").content
    assert b"Buy at least that much for new work to run." in client.get("/billing/add/").content
    row = start(organization, owner, "25")
    stripe.pay(row.checkout_session_id)
    stripe.deliver()
    page = client.get(f"/billing/return/{row.public_id}/").content
    assert b"$25.00 of it paid what you owed</h1>" in page
    assert b"$20.00 is still owed, and nothing new runs until it is paid." in page
    assert credit_cents(organization) == 0
