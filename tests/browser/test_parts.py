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
    signed_in(visitor, portal)
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


def signed_in(visitor, portal) -> str:
    email = person(portal)
    visitor.go("/login/")
    sign_in(visitor.page, email)
    visitor.page.wait_for_url("**/dashboard/")
    return email


def sign_in(page, email: str) -> None:
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


@pytest.mark.parametrize("visitor", [1440], indirect=True)
def test_tried_again_after_the_session_ended_it_leads_to_the_sign_in_and_back(portal, visitor, without):
    page = visitor.page
    email = signed_in(visitor, portal)
    with without("billing_invoice"):
        visitor.go("/billing/")
    page.context.clear_cookies(name="session")
    page.get_by_role("link", name="Try again Invoices").click()
    page.wait_for_url("**/login/?next=/billing/")
    sign_in(page, email)
    page.wait_for_url("**/billing/")
    expect(page.locator("#invoices")).to_contain_text("No invoices yet")
    visitor.check()


@pytest.mark.parametrize("visitor", [1440], indirect=True)
def test_a_part_that_another_role_does_not_see_is_not_tried_again_into_nothing(portal, visitor, without):
    page = visitor.page
    email = signed_in(visitor, portal)
    with without("billing_invoice"):
        visitor.go("/billing/")
    portal.sql(
        "UPDATE accounts_membership SET role = 'viewer' FROM accounts_user person WHERE person.id = user_id AND email = %s",
        email,
    )
    page.get_by_role("link", name="Try again Invoices").click()
    expect(page.get_by_role("heading", name="Who pays")).to_be_visible()  # the page as it is for them
    assert page.locator("#payments").count() == 0
    visitor.check()


@pytest.mark.parametrize("visitor", [1440], indirect=True)
def test_a_live_part_that_did_not_load_comes_by_itself(portal, visitor, without):
    page = visitor.page
    signed_in(visitor, portal)
    with without("batches_batch"):
        visitor.go("/dashboard/")
        page.evaluate("window.loadedOnce = true")
        expect(page.locator("#running")).to_contain_text("This part did not load")
    expect(page.locator("#running")).to_contain_text("Nothing runs now.", timeout=20_000)
    assert page.evaluate("window.loadedOnce") is True
