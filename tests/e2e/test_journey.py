"""A customer's whole way in a real browser: from the front page to a revoked key, with the web process killed twice on the way."""

import json
import threading
import time
from functools import partial
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests import engine as words
from tests.browser.visitor import WIDTHS, Visitor

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.timeout(500)]

MODEL = "engine/mock-chat"
TOKENS = 800
ROWS = 40
MIXED = ["Brot", "🥐", "und", "面包", ",", "a", "👨\u200d👩\u200d👧", "&", "<b>bold</b>", "🇩🇪", "end", "."]


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


@pytest.fixture(autouse=True)
def _words(monkeypatch, engine):
    monkeypatch.setattr(words, "WORDS", MIXED)
    engine.control(tokens_per_second=25)
    yield
    engine.control(tokens_per_second=0)


@pytest.mark.parametrize("visitor", WIDTHS, indirect=True)
def test_the_whole_way(portal, engine, visitor, tmp_path):
    sign_up(visitor)
    top_up(visitor)
    key = make_key(visitor)
    play(engine, visitor)
    live_through_two_restarts(portal, engine, visitor, key, tmp_path)
    engine.control(tokens_per_second=25)
    look_around(visitor)
    cancel(portal, visitor, key)
    invoice(visitor)
    invite(visitor)
    revoke(portal, visitor, key)
    assert visitor.faults == []


def sign_up(visitor: Visitor) -> None:
    """From the front page to an organization with its starter credit."""
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
    page.get_by_label("Country").select_option(label="United States")
    page.get_by_label("Tax ID").fill("12 3456789")
    visitor.check()
    page.get_by_role("button", name="Create organization").click()
    page.wait_for_url("**/dashboard/")
    expect(page.locator(".bar .live")).to_have_text("Live")
    visitor.check()


def top_up(visitor: Visitor) -> None:
    """$25 through the sandbox's payment page: in the balance when the event has come, without a reload."""
    page = visitor.page
    visitor.go("/billing/")
    page.get_by_role("link", name="Add credit").first.click()
    page.get_by_label("Another amount, in USD").fill("25")
    visitor.check()
    page.get_by_role("button", name="Go to payment").click()
    page.wait_for_url("**/sandbox/**")
    page.get_by_label("Company name").fill("Meridian Foods")
    page.get_by_label("Country").select_option("US")
    visitor.check()
    page.get_by_role("button", name="Pay $25.00").click()
    page.wait_for_url("**/billing/return/**")
    expect(page.get_by_role("heading", level=1)).to_have_text("$25.00 of credit is in your balance", timeout=40_000)
    visitor.check()


def make_key(visitor: Visitor) -> str:
    """A key, in the clipboard."""
    page = visitor.page
    visitor.go("/keys/new/")
    page.get_by_label("Name").fill("catalog-sync")
    visitor.check()
    page.get_by_role("button", name="Create key").click()
    secret = page.locator("#secret").inner_text()
    page.locator("[data-copy=secret]").click()
    assert page.evaluate("navigator.clipboard.readText()") == secret
    visitor.check()
    return secret


def play(engine, visitor: Visitor) -> None:
    """A prompt answered in the playground."""
    page = visitor.page
    engine.control(tokens_per_second=50)
    visitor.go(f"/playground/?model={MODEL}&max_tokens=30")
    page.get_by_label("Prompt", exact=True).fill("Say the words.")
    page.get_by_role("button", name="Run the prompt").click()
    expect(page.locator("#play-runs .state")).to_have_text("Done", timeout=40_000)
    expect(page.locator("#play-runs [id^=text-]")).to_have_text(words.text(30))
    visitor.check()


def begin_batch(visitor: Visitor, folder: Path) -> Page:
    """A file of rows is checked and started in a tab of its own, which then shows it live."""
    rows = [
        {
            "custom_id": f"row-{number}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": MODEL, "messages": [{"role": "user", "content": f"Say {number}."}], "max_tokens": 10},
        }
        for number in range(ROWS)
    ]
    file = folder / "descriptions.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    tab = visitor.page.context.new_page()
    visitor.watch(tab)
    tab.goto(f"{visitor.base_url}/batches/new/")
    tab.locator("input[type=file]").set_input_files(file)
    tab.get_by_label("Name").fill("Descriptions")
    tab.get_by_role("button", name="Check the file").click()
    begin = tab.get_by_role("button", name="Start")
    on = tab.get_by_role("link", name="Go on to its start")  # where the check ended after the page was there
    expect(begin.or_(on)).to_be_visible(timeout=40_000)
    if on.is_visible():
        on.click()
    begin.click()
    expect(tab.locator("h1")).to_have_text("Descriptions")
    tab.evaluate("window.loadedOnce = true")
    return tab


def end_batch(visitor: Visitor, tab: Page) -> None:
    """It ended under the reader's eyes; each row has its answer in the file."""
    expect(tab.locator("#batch-state")).to_have_text("Done", timeout=90_000)
    expect(tab.locator(".run-count")).to_have_text(f"{ROWS} of {ROWS} rows")
    assert tab.evaluate("window.loadedOnce") is True
    with tab.expect_download() as download:
        tab.locator("#file-output").click()
    answers = [json.loads(line) for line in Path(download.value.path()).read_text().splitlines()]
    said = {answer["custom_id"]: answer["response"]["body"]["choices"][0]["message"]["content"] for answer in answers}
    assert said == {f"row-{number}": words.text(10) for number in range(ROWS)}
    tab.close()


def live_through_two_restarts(portal, engine, visitor: Visitor, key: str, folder: Path) -> None:
    """The text is complete and exact, the state final, and neither the job's page nor the batch's was loaded again.

    The engine speaks slowly until both are over: on a busy machine a page may need half a minute to come back.
    """
    page = visitor.page
    engine.control(tokens_per_second=6)
    stream = Stream(visitor.base_url, key, TOKENS)
    tab = begin_batch(visitor, folder)
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
    end_batch(visitor, tab)
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
    expect(page.locator("#job-history tbody tr").first).to_be_visible()
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


def invoice(visitor: Visitor) -> None:
    """The payment's invoice, with the company's name and what it paid."""
    page = visitor.page
    visitor.go("/billing/invoices/")
    row = page.locator("main tbody tr").first
    expect(row).to_contain_text("$25.00")
    expect(row).to_contain_text("Paid")
    visitor.check()
    row.get_by_role("link", name="Open").click()
    page.wait_for_url("**/sandbox/**")
    expect(page.locator("main")).to_contain_text("Meridian Foods")
    visitor.check()


def invite(visitor: Visitor) -> None:
    """A colleague is invited, and the mail with the link is sent."""
    page = visitor.page
    email = f"omar{time.time_ns()}@meridian.example"
    visitor.go("/settings/members/")
    page.get_by_role("link", name="Invite a member").click()
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Viewer").check()
    visitor.check()
    page.get_by_role("button", name="Send invitation").click()
    expect(page.locator("main")).to_contain_text(email)
    visitor.check()
    visitor.go("/mail/")
    expect(page.locator("article", has_text=email).first).to_contain_text("Meridian Foods")


def revoke(portal, visitor: Visitor, key: str) -> None:
    """The key is refused with the next request."""
    page = visitor.page
    models = f"{portal.base_url}/v1/models"
    headers = {"authorization": f"Bearer {key}"}
    assert httpx.get(models, headers=headers).status_code == httpx.codes.OK
    visitor.go("/keys/")
    page.get_by_role("link", name="catalog-sync").first.click()
    page.get_by_role("link", name="Revoke key").click()
    visitor.check()
    page.get_by_role("button", name="Revoke key").click()
    expect(page.locator("main")).to_contain_text("Revoked")
    refused = httpx.get(models, headers=headers)
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "invalid_api_key")
