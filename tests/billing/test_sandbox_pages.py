"""The pages of the double: plain about what they are, and enough to play every story without a script."""

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.http import HttpResponse
from django.test import Client

from apps.billing.client import client as api
from tests import make
from tests.billing import till
from tests.house.style import inline
from tests.stripe import Double

PLAIN = "No card is charged and no real money moves."
FORM = {"name": "Meridian Foods GmbH", "country": "US", "tax_id": "", "card": "pays", "step": "pay"}


def path(url: str) -> str:
    return urlsplit(url).path


def text(answer: HttpResponse) -> str:
    """The page's words; every page says what it is and needs neither inline script nor style."""
    html = answer.content.decode()
    assert PLAIN in html
    assert inline(html) == []
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", html))


def pay(client: Client, session: Any, **fields: str) -> HttpResponse:
    answer: HttpResponse = client.post(path(session.url), {**FORM, "shown_cents": "2500", **fields})
    return answer


def test_the_checkout_page(stripe: Double, client: Client) -> None:
    session = till.session()
    page = client.get(path(session.url))
    words = text(page)
    assert page.status_code == 200
    assert "no-store" in page["Cache-Control"]
    for expected in ("Pay $25.00", "Prepaid credit", "Meridian Foods", "Pays (…4242)", "Tax ID"):
        assert expected in page.content.decode() if expected == "Meridian Foods" else expected in words
    assert 'href="http://testserver/cancel/"' in page.content.decode()


def test_paying_there_returns_to_the_portal(stripe: Double, client: Client) -> None:
    buyer = till.customer()
    session = till.session(buyer)
    answer = pay(client, session, country="DE", tax_id="DE123456789")
    assert (answer.status_code, answer["Location"]) == (302, f"http://testserver/back/?session={session.id}")
    customer = api().v1.customers.retrieve(buyer, {"expand": ["tax_ids"]})
    assert customer.name == "Meridian Foods GmbH"
    assert customer.tax_ids.data[0].value == "DE123456789"  # type: ignore[union-attr]
    assert stripe.balance_cents() == 2397
    assert "This payment is done" in text(client.get(path(session.url)))
    assert "This payment is done" in text(pay(client, session))
    assert stripe.balance_cents() == 2397


def test_a_declined_card_says_so(stripe: Double, client: Client) -> None:
    session = till.session()
    answer = pay(client, session, card="declined")
    assert answer.status_code == 422
    assert "The card was declined, nothing was charged. Try another card." in text(answer)
    assert "<title>Error:" in answer.content.decode()
    assert stripe.balance_cents() == 0
    assert pay(client, session).status_code == 302


def test_the_bank_asks(stripe: Double, client: Client) -> None:
    session = till.session()
    question = pay(client, session, card="authentication_required")
    assert "The bank asks: is this payment of $25.00 yours?" in text(question)
    assert stripe.every("payment_intent") == []
    refused = pay(client, session, card="authentication_required", step="refuse")
    assert "You did not confirm. Nothing was charged." in text(refused)
    assert stripe.every("payment_intent") == []
    assert pay(client, session, card="authentication_required", step="confirm").status_code == 302
    assert stripe.balance_cents() == 2397


def test_tax_is_shown_before_it_is_charged(stripe: Double, client: Client) -> None:
    session = till.session(automatic_tax={"enabled": True})
    assert "depends on the country" in text(client.get(path(session.url)))
    answer = pay(client, session, country="DE")
    assert "The total has changed with the tax. Nothing was charged yet." in text(answer)
    assert "Pay $30.00" in text(answer)
    assert 'value="3000"' in answer.content.decode()
    assert stripe.every("payment_intent") == []
    assert pay(client, session, country="DE", shown_cents="3000").status_code == 302
    assert stripe.get(session.id)["amount_total"] == 3000


@pytest.mark.parametrize(
    "wrong", [{"name": ""}, {"country": ""}, {"country": "XX"}, {"card": "4111111111111111"}, {"shown_cents": "x"}]
)
def test_a_wrong_form_pays_nothing(stripe: Double, client: Client, wrong: dict[str, str]) -> None:
    session = till.session()
    answer = pay(client, session, **wrong)
    assert answer.status_code == 422
    assert "The payment was not made." in text(answer)
    assert stripe.every("payment_intent") == []


def test_a_page_that_expired(stripe: Double, client: Client) -> None:
    session = till.session()
    stripe.expire(session.id)
    assert "This page has expired Sandbox" in text(client.get(path(session.url)))
    assert "Nothing was charged." in text(pay(client, session))
    assert client.get("/sandbox/checkout/cs_test_nothing/").status_code == 404


def test_forms_are_guarded_against_other_sites(stripe: Double) -> None:
    session = till.session()
    strict = Client(enforce_csrf_checks=True)
    assert pay(strict, session).status_code == 403
    assert stripe.every("payment_intent") == []


def test_invoice_and_receipt(stripe: Double, client: Client) -> None:
    session = till.session()
    pay(client, session, country="DE", tax_id="DE123456789")
    invoice = api().v1.invoices.retrieve(stripe.get(session.id)["invoice"])
    words = text(client.get(path(str(invoice.hosted_invoice_url))))
    for expected in (f"Invoice {invoice.number}", "Meridian Foods GmbH", "DE123456789", "$25.00", "Paid"):
        assert expected in words
    paper = client.get(path(str(invoice.invoice_pdf)))
    assert paper["Content-Type"] == "application/pdf"
    assert paper.content.startswith(b"%PDF-1.4")
    assert b"Tax ID DE123456789" in paper.content
    charge = stripe.every("charge")[0]
    words = text(client.get(path(charge["receipt_url"])))
    assert "Receipt for $25.00" in words
    assert "ending in 4242" in words
    for missing in ("invoices/in_1/", "invoices/in_1/pdf/", "receipts/ch_1/", "portal/bps_1/"):
        assert client.get(f"/sandbox/{missing}").status_code == 404


def test_the_pdf_opens(stripe: Double, client: Client) -> None:
    import pypdfium2

    session = till.session()
    pay(client, session, name="Bäcker (Söhne) \\ 株式会社")
    paper = client.get(path(str(api().v1.invoices.list().data[0].invoice_pdf))).content
    document = pypdfium2.PdfDocument(paper)
    found = document[0].get_textpage().get_text_range()
    assert "To Bäcker (Söhne) \\ ????" in found
    assert "$25.00" in found


# The customer's own page ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def subscribed(stripe: Double, client: Client) -> tuple[str, str, str]:
    """Customer, subscription, and the path of the page."""
    buyer = till.customer()
    bought = till.subscription_session(buyer, till.plan(4900, key="team"))
    words = text(client.get(path(bought.url)))
    assert "$49.00 a month" in words
    assert pay(client, bought, shown_cents="4900").status_code == 302
    page = api().v1.billing_portal.sessions.create({"customer": buyer, "return_url": "http://testserver/billing/"})
    return buyer, stripe.get(bought.id)["subscription"], path(page.url)


def test_the_portal_page(stripe: Double, client: Client, subscribed: tuple[str, str, str]) -> None:
    _, _, url = subscribed
    page = client.get(url)
    words = text(page)
    for expected in ("Card and invoices", "Plan team", "$49.00 a month", "ending in 4242", "Active", "Paid"):
        assert expected in words
    assert 'href="http://testserver/billing/"' in page.content.decode()


def test_cards_are_added_chosen_and_removed(stripe: Double, client: Client, subscribed: tuple[str, str, str]) -> None:
    buyer, subscription, url = subscribed
    assert client.post(url, {"act": "add", "card": "pays_once"}).status_code == 302
    newest, oldest = [card.id for card in api().v1.customers.payment_methods.list(buyer).data]
    assert stripe.get(subscription)["default_payment_method"] == newest
    assert client.post(url, {"act": "default", "method": oldest}).status_code == 302
    assert stripe.get(buyer)["invoice_settings"]["default_payment_method"] == oldest
    assert client.post(url, {"act": "remove", "method": oldest}).status_code == 302
    assert [card.id for card in api().v1.customers.payment_methods.list(buyer).data] == [newest]
    strange = stripe.save_card(till.customer())
    assert client.post(url, {"act": "remove", "method": strange}).status_code == 422
    assert client.post(url, {"act": "default", "method": strange}).status_code == 422
    assert client.post(url, {"act": "add", "card": "4111"}).status_code == 422
    assert client.post(url, {"act": "dance"}).status_code == 422
    assert stripe.get(strange)["customer"] is not None


def test_the_company_is_changed(stripe: Double, client: Client, subscribed: tuple[str, str, str]) -> None:
    buyer, _, url = subscribed
    company = {"act": "company", "name": "Meridian SARL", "country": "FR", "tax_id": "FR12345678901"}
    assert client.post(url, company).status_code == 302
    customer = api().v1.customers.retrieve(buyer, {"expand": ["tax_ids"]})
    assert (customer.name, customer.address.country) == ("Meridian SARL", "FR")  # type: ignore[union-attr]
    assert [each.value for each in customer.tax_ids.data] == ["FR12345678901"]  # type: ignore[union-attr]
    assert stripe.events()[-1]["type"] == "customer.updated"
    client.post(url, {**company, "tax_id": ""})
    assert api().v1.customers.retrieve(buyer, {"expand": ["tax_ids"]}).tax_ids.data == []  # type: ignore[union-attr]
    assert client.post(url, {**company, "name": ""}).status_code == 422


def test_the_plan_is_changed_and_ended(stripe: Double, client: Client, subscribed: tuple[str, str, str]) -> None:
    _, subscription, url = subscribed
    larger = till.plan(19900, key="company")
    assert client.post(url, {"act": "plan", "price": larger}).status_code == 302
    assert stripe.get(subscription)["items"]["data"][0]["price"]["id"] == larger
    assert client.post(url, {"act": "end"}).status_code == 302
    assert stripe.get(subscription)["cancel_at_period_end"] is True
    assert "Keep the plan" in text(client.get(url))
    assert client.post(url, {"act": "keep"}).status_code == 302
    assert stripe.get(subscription)["cancel_at_period_end"] is False
    assert client.post(url, {"act": "plan", "price": "price_no"}).status_code == 422


def test_an_overdue_invoice_is_paid_on_its_page(stripe: Double, client: Client) -> None:
    bought = till.subscription_session(till.customer(), till.plan(4900, key="team"))
    stripe.pay(bought.id, card="pays_once")
    subscription = stripe.get(bought.id)["subscription"]
    stripe.advance(subscription)
    url = path(stripe.get(stripe.get(subscription)["latest_invoice"])["hosted_invoice_url"])
    assert "Pay $49.00" in text(client.get(url))
    declined = client.post(url, {"card": "declined"})
    assert (declined.status_code, "nothing was charged" in text(declined)) == (422, True)
    assert client.post(url, {"card": "pays"}).status_code == 302
    assert "Pay $49.00" not in text(client.get(url))
    assert stripe.get(subscription)["status"] == "active"


# Staff ------------------------------------------------------------------------------------------------------------------------------


def test_staff_play_the_bank_with_a_reason(stripe: Double, client: Client) -> None:
    from apps.accounts.models import AuditEvent

    staff = make.user(is_staff=True, is_superuser=True)
    client.force_login(staff)
    stripe.pay(till.session().id)
    charge = stripe.every("charge")[0]["id"]
    url = "/admin/billing/sandboxobject/"

    def act(action: str, row: str) -> HttpResponse:
        sent = {"action": action, "_selected_action": row, "confirm": "1", "reason": "To see what happens"}
        return client.post(url, sent)  # type: ignore[return-value]

    assert client.get(url).status_code == 200
    assert "Dispute this payment" in client.get(f"{url}{charge}/change/").content.decode()
    act("dispute", charge)
    dispute = stripe.every("dispute")[0]["id"]
    act("win", dispute)
    assert stripe.get(dispute)["status"] == "won"
    assert "is closed" in act("lose", dispute).content.decode()
    trail = AuditEvent.objects.order_by("pk").values_list("action", "target", "reason")
    assert list(trail) == [
        ("sandbox_charge.disputed", charge, "To see what happens"),
        ("sandbox_dispute.won", dispute, "To see what happens"),
    ]
    assert stripe.balance_cents() == 2397
