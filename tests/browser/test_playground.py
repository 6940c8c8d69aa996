"""The playground in a browser: two models answer side by side without a reload, one is stopped, the code follows the form."""

import re

import pytest
from playwright.sync_api import expect

from tests import engine as words
from tests.browser.test_live import sign_in
from tests.browser.visitor import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.timeout(300)]
MODEL = "engine/mock-chat"


@pytest.mark.parametrize("visitor", [1440, 390], indirect=True)
def test_a_prompt_is_answered_live(portal, engine, visitor: Visitor):
    page = visitor.page
    sign_in(visitor, portal)
    engine.control(tokens_per_second=20)
    try:
        visitor.go(f"/playground/?model={MODEL}&max_tokens=60")
        expect(page.locator(".bar .live")).to_have_text("Live")
        visitor.check()
        page.evaluate("window.loadedOnce = true")
        page.get_by_label("Prompt", exact=True).fill("Say the words.")
        page.get_by_label("Temperature").fill("0.5")
        page.get_by_label("Temperature").press("Tab")
        expect(page.locator("#code-curl")).to_contain_text('"temperature": 0.5')
        assert "temperature=0.5" in page.url
        page.get_by_role("button", name="Run the prompt").click()
        expect(page.locator("#play-runs [aria-busy=true]")).to_be_visible()
        assert "run=job_" in page.url
        assert page.get_by_label("Prompt", exact=True).input_value() == "Say the words."
        expect(page.locator("#play-runs .state")).to_have_text("Running")
        visitor.check()
        expect(page.locator("#play-runs .state")).to_have_text("Done", timeout=30_000)
        expect(page.locator("#play-runs")).to_contain_text(re.compile(r"\d\stok/s"))
        expect(page.locator("#play-runs [id^=text-]")).to_have_text(words.text(60))
        expect(page.locator("#play-runs [data-says^=text-]")).to_have_text("Output finished, 60 words")
        visitor.check()
        engine.control(tokens_per_second=5)
        page.get_by_label("Most output tokens").fill("500")
        page.get_by_role("button", name="Run the prompt").click()
        expect(page.locator("#play-runs .state")).to_have_text("Running")
        page.get_by_role("link", name="Stop").click()
        expect(page.locator("#play-runs .state")).to_have_text("Cancelled", timeout=30_000)
        expect(page.get_by_role("link", name="Stop")).to_have_count(0)
        assert page.evaluate("window.loadedOnce") is True
        page.set_viewport_size({"width": 320, "height": 800})
        visitor.check()
    finally:
        engine.control(tokens_per_second=0)
