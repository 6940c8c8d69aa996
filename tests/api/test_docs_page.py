"""Swagger UI in a real browser, under the portal's own content security policy."""

import pytest
from playwright.sync_api import sync_playwright

from cango_portal.launcher import chromium
from tests.gateway.portal import serving


@pytest.mark.browser
@pytest.mark.skipif(chromium.find() is None, reason="Chromium is not installed")
def test_the_page_works_and_the_console_stays_silent(transactional_db):
    with serving() as portal, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium.find(), args=["--no-sandbox"])
        page = browser.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("requestfailed", lambda request: said.append(request.url))
        page.on(
            "request",
            lambda request: (
                said.append(request.url) if not request.url.startswith((portal.url, "data:", "blob:")) else None
            ),
        )
        page.goto(f"{portal.url}/api/docs/")
        page.locator("#operations-inference-chat_completions").click()
        page.get_by_text("Try it out").wait_for()
        assert page.locator(".opblock").count() >= 11
        assert said == []
        browser.close()
