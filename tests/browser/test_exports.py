"""An export in a real browser: it is made under the reader's eyes, over a restart of the server."""

import re

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.people import PASSWORD, person

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.timeout(300)]
PAGE = "/settings/organization/export/"
ROWS = 400_000  # some ten seconds of a worker
AUDITED = """
INSERT INTO accounts_auditevent (organization_id, actor_id, action, target, reason, data, at)
SELECT m.organization_id, m.user_id, 'key.created', n::text, '', '{}', now()
FROM accounts_membership m JOIN accounts_user u ON u.id = m.user_id, generate_series(1, %s) n WHERE u.email = %s
"""


def written(bar: Locator) -> int:
    """As the page shows it; everything, where the bar is gone."""
    return int(bar.evaluate_all("bars => bars[0]?.value ?? 1e9"))


@pytest.mark.parametrize("visitor", [1440, 390], indirect=True)
def test_an_export_is_made_under_the_readers_eyes(portal, visitor):
    page = visitor.page
    email = person(portal)
    portal.sql(AUDITED, ROWS, email)
    visitor.go("/login/")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/dashboard/")
    visitor.go(PAGE)
    visitor.check()
    page.get_by_role("button", name="Make an export").click()
    page.evaluate("window.loadedOnce = true")
    bar = page.get_by_role("progressbar", name="Rows written")
    expect(bar).to_be_visible(timeout=20_000)
    expect(page.locator(".bar .live")).to_have_text("Live")
    button = page.get_by_role("button", name="Make an export")
    expect(button).to_have_attribute("aria-disabled", "true")
    button.focus()
    portal.wait_until(lambda: written(bar) > 1000)
    visitor.away = True
    portal.wait_restarted("web", portal.kill("web"))
    before = written(bar)
    assert 1000 < before < ROWS
    portal.wait_until(lambda: written(bar) > before, seconds=40)
    download = page.get_by_role("link", name=re.compile("Download"))
    expect(download).to_be_visible(timeout=120_000)
    expect(button).not_to_have_attribute("aria-disabled", "true")
    expect(button).to_be_focused()
    expect(page.locator("main > p[role=status]")).to_have_text("The export is done. Its file can be downloaded.")
    assert page.evaluate("window.loadedOnce") is True
    visitor.check()
    with page.expect_download() as downloaded:
        download.click()
    with open(downloaded.value.path(), "rb") as file:
        assert file.read(2) == b"PK"
    assert visitor.faults == []
