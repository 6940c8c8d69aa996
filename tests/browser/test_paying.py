"""Credit bought in a real browser: amount, the sandbox's payment page, back, confirmed; with script and without."""

import os
import re

import pytest
from django.conf import settings as configured
from django.test import Client
from playwright.sync_api import expect, sync_playwright

from apps.billing.models import TopUp
from cango_portal.launcher import chromium
from tests.billing.stories import credit_cents, proved, shop

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True), pytest.mark.timeout(120)]


@pytest.fixture
def _threads(monkeypatch):
    """Playwright runs an event loop in this thread, where Django would refuse to work."""
    monkeypatch.setitem(os.environ, "DJANGO_ALLOW_ASYNC_UNSAFE", "1")


@pytest.fixture(params=[True, False], ids=["script", "no script"])
def page(request, stripe, _threads):
    path = chromium.find()
    if path is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        context = browser.new_context(java_script_enabled=request.param, reduced_motion="reduce")
        context.set_default_timeout(20_000)
        yield context.new_page()
        browser.close()


def test_credit_is_bought(stripe, page, settings):
    settings.BASE_URL = stripe.url
    organization, owner = shop()
    client = Client()
    client.force_login(owner)
    session = client.cookies[configured.SESSION_COOKIE_NAME].value
    page.context.add_cookies([{"name": configured.SESSION_COOKIE_NAME, "value": session, "url": stripe.url}])

    page.goto(f"{stripe.url}/billing/")
    page.get_by_role("link", name="Add credit").first.click()
    page.get_by_label("Another amount, in USD").fill("$1,234.50")
    page.get_by_role("button", name="Go to payment").click()
    page.wait_for_url(re.compile("/sandbox/"))
    row = TopUp.objects.get()
    assert (row.amount_cents, row.state) == (123_450, "open")

    stripe.pay(row.checkout_session_id)
    page.goto(f"{stripe.url}/billing/return/{row.public_id}/")
    expect(page.get_by_role("heading", level=1)).to_have_text("Waiting for the payment of $1,234.50")
    assert credit_cents(organization) == 0
    stripe.deliver()
    page.get_by_role("link", name="Look again").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("$1,234.50 of credit is in your balance")
    page.get_by_role("link", name="Go to billing").click()
    expect(page.get_by_text("Credit bought")).to_be_visible()
    proved()
