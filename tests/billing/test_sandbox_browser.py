"""The double in a running portal: its pages in a real browser, its events through the worker."""

from typing import Any

import pytest
import stripe as library
from playwright.sync_api import sync_playwright

from cango_portal.launcher import chromium
from tests.browser.visitor import WIDTHS, Visitor

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.timeout(180)]

WAITING = """
SELECT count(*) AS n FROM billing_sandboxobject
WHERE kind = 'event' AND (data->>'pending_webhooks')::int > 0
"""


def test_paying_and_the_customers_page(portal: Any) -> None:
    base = portal.base_url.replace("//localhost", "//127.0.0.1") + "/sandbox/stripe"
    api = library.StripeClient("sk_sandbox_portal", stripe_version="2026-10-28.endive", base_addresses={"api": base}).v1
    customer = api.customers.create({"name": "Meridian Foods"}).id
    price_data: Any = {"currency": "usd", "unit_amount": 2500, "product_data": {"name": "Prepaid credit"}}
    session = api.checkout.sessions.create(
        {
            "mode": "payment",
            "customer": customer,
            "customer_update": {"name": "auto", "address": "auto"},
            "automatic_tax": {"enabled": True},
            "tax_id_collection": {"enabled": True},
            "invoice_creation": {"enabled": True},
            "payment_intent_data": {"setup_future_usage": "off_session"},
            "line_items": [{"quantity": 1, "price_data": price_data}],
            "success_url": f"{portal.base_url}/models/?paid={{CHECKOUT_SESSION_ID}}",
            "cancel_url": f"{portal.base_url}/",
        }
    )
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.find(), args=["--no-sandbox"])
        for width in WIDTHS:
            visitor = Visitor(browser.new_page(viewport={"width": width, "height": 900}), portal.base_url)
            visitor.go(str(session.url).removeprefix(portal.base_url))
            visitor.check()
        page = visitor.page
        page.get_by_label("Company name").fill("Meridian Foods GmbH")
        page.get_by_label("Country").select_option("DE")
        page.get_by_label("Tax ID").fill("DE123456789")
        page.get_by_label("Test card").select_option("authentication_required")
        page.get_by_role("button", name="Pay $25.00").click()
        visitor.check()
        page.get_by_role("button", name="Pay $30.00").click()
        visitor.check()
        page.get_by_role("button", name="Confirm the payment").click()
        page.wait_for_url(f"**/models/?paid={session.id}")
        own = api.billing_portal.sessions.create({"customer": customer, "return_url": f"{portal.base_url}/"})
        invoice = api.invoices.list({"customer": customer}).data[0]
        receipt = api.charges.list({"customer": customer}).data[0].receipt_url
        for url in (own.url, invoice.hosted_invoice_url, receipt, f"/sandbox/checkout/{session.id}/"):
            for width in WIDTHS:
                visitor = Visitor(browser.new_page(viewport={"width": width, "height": 900}), portal.base_url)
                visitor.go(str(url).removeprefix(portal.base_url))
                visitor.check()
        browser.close()
    portal.wait_until(lambda: portal.sql(WAITING)[0]["n"] == 0, seconds=60)
    kinds = {row["type"] for row in portal.sql("SELECT type FROM billing_event")}
    assert {"checkout.session.completed", "payment_intent.succeeded", "invoice.paid", "customer.updated"} <= kinds
