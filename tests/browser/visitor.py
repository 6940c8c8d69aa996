"""A person at a browser, for whom every page is accessible, silent, and no wider than the screen."""

from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, sync_playwright

from cango_portal.launcher import chromium

WIDTHS = [1440, 390]
SETTLED = """async () => {
  await new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))
  await Promise.allSettled(document.getAnimations().map(animation => animation.finished))
}"""  # colors of the other scheme have arrived


class Visitor:
    """A browser that notes everything it should not see."""

    def __init__(self, page: Page, base_url: str) -> None:
        self.page = page
        self.base_url = base_url
        self.faults: list[str] = []
        self.away = False  # the server is being killed: refused connections are no fault of the page
        page.context.on("request", lambda request: self.request(request.url))
        self.watch(page)

    def watch(self, page: Page) -> None:
        """Another tab's faults count too."""
        page.on("websocket", lambda socket: self.request(socket.url.replace("ws", "http", 1)))
        page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        page.on("console", lambda message: self.console(message.type, message.text))

    def request(self, url: str) -> None:
        if urlsplit(url).scheme in ("http", "https") and urlsplit(url).netloc != urlsplit(self.base_url).netloc:
            self.faults.append(f"request to another host: {url}")

    def console(self, kind: str, text: str) -> None:
        if kind in ("error", "warning") and not (
            self.away and ("WebSocket connection" in text or "ERR_CONNECTION" in text)
        ):
            self.faults.append(f"{kind}: {text}")

    def go(self, path: str) -> None:
        self.page.goto(f"{self.base_url}{path}")

    def check(self) -> None:
        """The page at hand: no violation of accessibility in light or dark, nothing wider than the screen."""
        path = urlsplit(self.page.url).path
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            self.page.evaluate(SETTLED)
            found = Axe().run(self.page)
            assert found.violations_count == 0, f"{path} {scheme}\n{found.generate_report()}"
        self.page.emulate_media(color_scheme="light", reduced_motion="reduce")
        width = self.page.viewport_size["width"]
        assert self.page.evaluate("document.documentElement.scrollWidth") <= width, f"{path} scrolls sideways"
        assert self.faults == [], path


@pytest.fixture
def visitor(portal, request):
    path = chromium.find()
    if path is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": request.param, "height": 900}, reduced_motion="reduce")
        context.grant_permissions(["clipboard-read", "clipboard-write"], origin=portal.base_url)
        context.set_default_timeout(20_000)
        yield Visitor(context.new_page(), portal.base_url)
        browser.close()
