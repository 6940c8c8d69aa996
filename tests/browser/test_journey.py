"""A customer's whole way in a real browser: from the front page to a settled job, with the web process killed on the way."""

import json
import threading
import time
from functools import partial
from urllib.parse import urlsplit

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect, sync_playwright

from cango_portal.launcher import chromium
from tests import engine as words

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.timeout(500)]

MODEL = "engine/mock-chat"
TOKENS = 800
MIXED = ["Brot", "🥐", "und", "面包", ",", "a", "👨\u200d👩\u200d👧", "&", "<b>bold</b>", "🇩🇪", "end", "."]
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


class Stream:
    """A streamed chat as a program sends it; `text` is what came."""

    def __init__(self, base_url: str, key: str, tokens: int) -> None:
        self.text = ""
        self.job = ""
        self.began = threading.Event()
        self.thread = threading.Thread(target=self.read, args=(base_url, key, tokens))
        self.thread.start()
        assert self.began.wait(20)

    def read(self, base_url: str, key: str, tokens: int) -> None:
        body = {
            "model": MODEL,
            "messages": [{"role": "user", "content": "Say the words."}],
            "max_tokens": tokens,
            "stream": True,
        }
        headers = {"authorization": f"Bearer {key}"}
        try:
            with httpx.stream(
                "POST", f"{base_url}/v1/chat/completions", json=body, headers=headers, timeout=60
            ) as answer:
                self.job = answer.headers["x-job-id"]
                for line in answer.iter_lines():
                    if line.startswith("data: {"):
                        for choice in json.loads(line.removeprefix("data: ")).get("choices", []):
                            self.text += choice["delta"].get("content") or ""
                    if self.text:
                        self.began.set()
        except httpx.HTTPError:
            pass
        finally:
            self.began.set()


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


@pytest.fixture(autouse=True)
def _words(monkeypatch, engine):
    monkeypatch.setattr(words, "WORDS", MIXED)
    engine.control(tokens_per_second=25)
    yield
    engine.control(tokens_per_second=0)


@pytest.mark.parametrize("visitor", WIDTHS, indirect=True)
def test_the_whole_way(portal, engine, visitor):
    key = sign_up(visitor)
    live_through_two_restarts(portal, engine, visitor, key)
    engine.control(tokens_per_second=25)
    look_around(visitor)
    cancel(portal, visitor, key)
    assert visitor.faults == []


def sign_up(visitor: Visitor) -> str:
    """From the front page to a key in the clipboard."""
    page = visitor.page
    email = f"lena{time.time_ns()}@meridian.example"
    visitor.go("/")
    visitor.check()
    visitor.go("/signup/")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill("correct horse battery staple")
    visitor.check()
    page.get_by_role("button", name="Create account").click()
    page.wait_for_url("**/verify/**")
    visitor.check()
    visitor.go("/mail/")
    letter = page.locator("article", has_text=email)
    visitor.check()
    letter.first.get_by_role("link").first.click()
    page.get_by_role("button", name="Confirm address").click()
    page.wait_for_load_state()
    if "/login/" in page.url:
        page.get_by_label("E-mail").fill(email)
        page.get_by_label("Password").fill("correct horse battery staple")
        page.get_by_role("button", name="Sign in").click()
    if "/welcome/" not in page.url:
        visitor.go("/welcome/")
    page.get_by_label("Organization").fill("Meridian Foods")
    visitor.check()
    page.get_by_role("button", name="Create organization").click()
    page.wait_for_url("**/dashboard/")
    expect(page.locator(".bar .live")).to_have_text("Live")
    visitor.check()
    visitor.go("/keys/new/")
    page.get_by_label("Name").fill("catalog-sync")
    visitor.check()
    page.get_by_role("button", name="Create key").click()
    secret = page.locator("#secret").inner_text()
    page.locator("[data-copy=secret]").click()
    assert page.evaluate("navigator.clipboard.readText()") == secret
    visitor.check()
    return secret


def live_through_two_restarts(portal, engine, visitor: Visitor, key: str) -> None:
    """The text is complete and exact, the state final, and the page was never loaded again.

    The engine speaks slowly until both are over: on a busy machine a page may need half a minute to come back.
    """
    page = visitor.page
    engine.control(tokens_per_second=6)
    stream = Stream(visitor.base_url, key, TOKENS)
    visitor.go(f"/jobs/{stream.job}/")
    page.evaluate("window.loadedOnce = true")
    text = page.locator("#job-text")
    expect(page.locator("#job-state")).to_have_text("Running")
    expect(page.locator("[aria-busy=true]")).to_be_visible()
    visitor.check()
    visitor.away = True
    for _ in range(2):
        expect(page.locator("#job-state")).to_have_text("Running")
        before = len(text.text_content())
        gone = portal.kill("web")
        portal.wait_restarted("web", gone)
        portal.wait_until(partial(longer, text, before), seconds=45)
    engine.control(tokens_per_second=50)
    expect(page.locator("#job-state")).to_have_text("Done", timeout=60_000)
    expect(page.locator("[data-says=job-text]")).to_have_text(f"Output finished, {TOKENS} words", timeout=20_000)
    assert text.text_content() == words.text(TOKENS)
    assert page.evaluate("window.loadedOnce") is True
    expect(page.locator(".bar .live")).to_have_text("Live")
    visitor.away = False
    expect(page.locator(".run-count")).to_have_text(f"{TOKENS} tokens written")
    expect(page.locator("#job-facts")).to_contain_text("Returned")
    assert page.locator("#job-stop").count() == 0
    visitor.check()
    visitor.go(f"/jobs/{stream.job}/")
    assert text.text_content() == words.text(TOKENS)
    stream.thread.join(20)


def longer(text, than: int) -> bool:
    return len(text.text_content()) > than


def look_around(visitor: Visitor) -> None:
    """Every view of the job, the history with a filter, the pages beside it."""
    page = visitor.page
    for view in ("Request", "Attempts", "Events", "Code", "Output"):
        page.get_by_role("navigation", name="Views").get_by_role("link", name=view).click()
        visitor.check()
    visitor.go("/jobs/")
    visitor.check()
    page.get_by_label("State").select_option("failed")
    expect(page.get_by_role("heading", name="No job matches “Failed”")).to_be_visible()
    assert "state=failed" in page.url
    visitor.check()
    page.get_by_role("link", name="Clear filters").click()
    expect(page.locator("#job-history tbody tr")).to_have_count(1)
    for path in ("/dashboard/", "/usage/", "/models/", f"/models/{MODEL}/", "/keys/", "/settings/organization/"):
        visitor.go(path)
        visitor.check()


def cancel(portal, visitor: Visitor, key: str) -> None:
    """A job that runs appears in the history, is reloaded in the middle, and is stopped: what was written is charged."""
    page = visitor.page
    visitor.go("/dashboard/")
    expect(page.locator("#running")).to_contain_text("Nothing runs now.")
    stream = Stream(visitor.base_url, key, 1000)
    expect(page.locator("#running")).to_contain_text("Running")
    visitor.go("/jobs/")
    row = page.locator(f"#row-{stream.job}")
    expect(row).to_contain_text("Running")
    row.get_by_role("link").click()
    text = page.locator("#job-text")
    portal.wait_until(partial(longer, text, 100))
    page.reload()
    assert len(text.text_content()) > 100
    assert words.text(1000).startswith(text.text_content())
    page.get_by_role("link", name="Stop").click()
    visitor.check()
    page.get_by_role("button", name="Stop job").click()
    page.wait_for_url(f"**/jobs/{stream.job}/")
    page.evaluate("window.loadedOnce = true")
    expect(page.locator("#job-state")).to_have_text("Cancelled")
    expect(page.locator("#job-progress")).to_contain_text("What was finished is kept.")
    expect(page.locator("[aria-busy=false]")).to_be_visible()
    written = text.text_content()
    assert written
    assert words.text(1000).startswith(written)
    visitor.check()
    stream.thread.join(20)
    [job] = portal.sql(
        "SELECT j.charge_microusd FROM jobs_job j "
        "JOIN keys_apikey k ON k.id = j.api_key_id WHERE j.state = 'cancelled' AND k.prefix = %s",
        key[: len(portal.sql("SELECT prefix FROM keys_apikey ORDER BY created_at DESC LIMIT 1")[0]["prefix"])],
    )
    assert job["charge_microusd"] > 0
    kept = httpx.get(f"{portal.base_url}/api/v1/jobs/{stream.job}", headers={"authorization": f"Bearer {key}"}).json()
    assert kept["text"] == written
