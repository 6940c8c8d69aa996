"""Passkeys with Chromium's own authenticator: added, signed in with, asked for after the password, and removed."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from tests.browser.people import PASSWORD, Device, person
from tests.browser.visitor import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.timeout(300)]


def enter(visitor: Visitor, email: str) -> None:
    visitor.go("/login/")
    visitor.page.get_by_label("E-mail").fill(email)
    visitor.page.get_by_label("Password").fill(PASSWORD)
    visitor.page.get_by_role("button", name="Sign in", exact=True).click()


def sign_out(visitor: Visitor) -> None:
    visitor.page.locator("details.account summary").click()
    visitor.page.get_by_role("button", name="Sign out", exact=True).last.click()
    visitor.page.wait_for_url("**/login/")


@pytest.mark.parametrize("visitor", [390], indirect=True)
def test_a_passkey_s_life(portal, visitor):
    page, email = visitor.page, person(portal)
    device = Device(page)
    enter(visitor, email)
    page.wait_for_url("**/dashboard/")
    visitor.go("/settings/security/passkeys/add/")
    expect(page.get_by_role("heading", name="Confirm it is you")).to_be_visible()
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_label("Name")).to_have_value("Passkey")
    visitor.check()
    device.knows_the_finger(False)
    page.get_by_role("button", name="Add passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("No passkey was used")
    visitor.check()
    assert device.passkeys == []
    device.knows_the_finger(True)
    page.get_by_label("Name").fill("Lena's phone")
    page.get_by_role("button", name="Add passkey").click()
    page.wait_for_url("**/recovery-codes/")
    code = page.get_by_label("Codes left").input_value().splitlines()[0]
    [passkey] = device.passkeys
    assert (passkey["rpId"], passkey["isResidentCredential"]) == ("localhost", True)
    visitor.go("/settings/security/passkeys/add/")
    page.get_by_role("button", name="Add passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("This device already has a passkey")
    visitor.go("/settings/security/")
    row = page.get_by_role("row", name="Lena's phone")
    expect(row).to_contain_text("Not yet")
    visitor.check()
    row.get_by_role("link", name="Rename").click()
    page.get_by_label("Name").fill("Phone")
    visitor.check()
    page.get_by_role("button", name="Save name").click()

    sign_out(visitor)
    visitor.go("/keys/new/")
    expect(page.get_by_role("button", name="Use a passkey")).to_be_visible()
    visitor.check()
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url("**/keys/new/")  # where the reader was going

    sign_out(visitor)
    enter(visitor, email)
    page.wait_for_url("**/login/code/**")
    expect(page.get_by_role("button", name="Use a passkey")).to_be_visible()
    visitor.check()
    device.knows_the_finger(False)  # whoever holds the device is not enough, here neither
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("alert")).to_contain_text("No passkey was used")
    device.knows_the_finger(True)
    page.get_by_role("button", name="Use a passkey").click()
    page.wait_for_url("**/dashboard/")

    sign_out(visitor)
    enter(visitor, email)
    page.get_by_label("Code").fill(code)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/dashboard/")
    visitor.go("/settings/security/")
    page.get_by_role("row", name="Phone").get_by_role("link", name="Remove").click()
    expect(page.get_by_role("heading", name="Confirm it is you")).to_be_visible()
    page.get_by_role("link", name="Use a passkey").click()
    visitor.check()
    page.get_by_role("button", name="Use a passkey").click()
    expect(page.get_by_role("heading", name="Remove Phone?")).to_be_visible()
    visitor.check()
    page.get_by_role("button", name="Remove passkey").click()
    expect(page.get_by_text("The passkey was removed.")).to_be_visible()
    expect(page.get_by_role("link", name="Add a passkey")).to_be_visible()

    sign_out(visitor)
    visitor.go("/login/")
    page.get_by_role("button", name="Use a passkey").click()  # the device still has it
    expect(page.get_by_role("alert")).to_contain_text("This passkey was not accepted.")
    enter(visitor, email)
    page.wait_for_url("**/dashboard/")
    visitor.go("/settings/audit/")
    for words in ("Passkey added", "Recovery codes added", "Passkey renamed", "Passkey removed"):
        expect(page.get_by_text(words).first).to_be_visible()
    assert visitor.faults == []
