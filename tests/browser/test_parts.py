"""A part that did not load is tried again alone, and comes by itself where it is live."""

from __future__ import annotations

import re
from contextlib import contextmanager

import pytest
from playwright.sync_api import expect

from tests.browser.people import PASSWORD, person

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.timeout(300)]


@pytest.fixture
def without(portal):
    @contextmanager
    def lacking(table: str):
        portal.sql(f"ALTER TABLE {table} RENAME TO {table}_gone")
        try:
            yield
        finally:
            portal.sql(f"ALTER TABLE {table}_gone RENAME TO {table}")

    return lacking


@pytest.mark.parametrize("visitor", [1440, 390], indirect=True)
def test_a_part_that_did_not_load_is_tried_again_alone(portal, visitor, without):
    page = visitor.page
    visitor.go("/login/")
    page.get_by_label("E-mail").fill(person(portal))
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/dashboard/")
    again = page.get_by_role("link", name="Try again Invoices")
    reference = page.locator("#invoices .reference")
    with without("billing_invoice"):
        visitor.go("/billing/")
        page.evaluate("window.loadedOnce = true")
        first = reference.inner_text()
        assert re.fullmatch("req_[0-9a-f]{32}", first)
        visitor.check()
        again.focus()
        page.keyboard.press("Enter")
        expect(page.get_by_role("alert")).to_contain_text("This part did not load")
        expect(reference).not_to_have_text(first)  # of the request that failed now
        expect(again).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#invoices")).to_contain_text("No invoices yet")
    expect(page.get_by_role("heading", name="Invoices", exact=True)).to_be_focused()
    assert page.evaluate("window.loadedOnce") is True
    assert page.locator("#payments").count() == 1
    visitor.check()


@pytest.mark.parametrize("visitor", [1440], indirect=True)
def test_a_live_part_that_did_not_load_comes_by_itself(portal, visitor, without):
    page = visitor.page
    visitor.go("/login/")
    page.get_by_label("E-mail").fill(person(portal))
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/dashboard/")
    with without("batches_batch"):
        visitor.go("/dashboard/")
        page.evaluate("window.loadedOnce = true")
        expect(page.locator("#running")).to_contain_text("This part did not load")
    expect(page.locator("#running")).to_contain_text("Nothing runs now.", timeout=20_000)
    assert page.evaluate("window.loadedOnce") is True
