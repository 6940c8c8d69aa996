"""What the script of live pages does with what the socket says, in a browser."""

import contextlib
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.staticfiles import finders
from django.test import Client
from playwright.sync_api import Page, WebSocketRoute, expect, sync_playwright

from apps.jobs.models import Job
from cango_portal.launcher import chromium
from tests import make

pytestmark = [pytest.mark.browser]

PART = """<section id="clock" data-part data-topic="job.a" data-at="{at}">
<b data-clock="{since}">{shown}</b><button data-copy="text" id="copy">Copy output</button></section>"""
OUTPUT = """<div class="stream" aria-busy="true"><p style="white-space: pre-wrap"><span id="text" data-topic="job.a.out.1" data-at="0"></span></p></div>
<label><input type="checkbox" data-follow checked>Follow the text</label><div style="height: 3000px"></div>"""
# A link within a sentence is excepted.
LOW = """() => [...document.querySelectorAll('main a')]
    .filter(link => link.checkVisibility() && !link.closest('p:not(.actions)') && link.getBoundingClientRect().height < 24)
    .map(link => `${link.textContent.trim()}: ${link.getBoundingClientRect().height}`)"""


@contextlib.contextmanager
def browser_tab() -> Iterator[Page]:
    path = chromium.find()
    if path is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser.new_page(viewport={"width": 390, "height": 844})
        browser.close()


@pytest.fixture
def tab() -> Iterator[Page]:
    with browser_tab() as page:
        yield page


def opened(page: Page, html: str) -> WebSocketRoute:
    """A live page of that content, and its socket's other end."""
    sockets: list[WebSocketRoute] = []
    script = Path(str(finders.find("portal/live.js"))).read_text()
    body = f'<main data-live="/ws/jobs/a/">{html}</main><script>htmx = {{ process() {{}} }}</script><script src="/live.js" type="module"></script>'
    page.route_web_socket("**/ws/**", lambda socket: sockets.append(socket))  # noqa: PLW0108 - it marks what it calls
    page.route("**/live.js", lambda route: route.fulfill(body=script, content_type="text/javascript"))
    page.route("**/page/", lambda route: route.fulfill(body=f"<!doctype html>{body}", content_type="text/html"))
    page.goto("http://portal.test/page/")
    page.wait_for_function("document.readyState === 'complete'")
    deadline = time.monotonic() + 5
    while not sockets and time.monotonic() < deadline:
        page.wait_for_timeout(20)
    return sockets[-1]


def say(socket: WebSocketRoute, **message: object) -> None:
    socket.send(json.dumps(message))


def test_followed_text_scrolls_its_own_box_and_never_the_page(tab: Page) -> None:
    socket = opened(tab, PART.format(at=1, since=int(time.time()), shown="0 s") + OUTPUT)
    expect(tab.locator("#copy")).to_be_hidden()
    say(socket, k="add", t="job.a.out.1", off=0, d="line\n" * 400)
    expect(tab.locator("#copy")).to_be_visible()
    tab.wait_for_function("document.querySelector('.stream').scrollTop > 100")
    box = "(box => box.scrollTop + box.clientHeight - box.scrollHeight)(document.querySelector('.stream'))"
    assert abs(tab.evaluate(box)) <= 1
    assert tab.evaluate("scrollY") == 0
    tab.get_by_label("Follow the text").uncheck()
    before = tab.evaluate("document.querySelector('.stream').scrollTop")
    say(socket, k="add", t="job.a.out.1", off=2000, d="more\n" * 100)
    tab.wait_for_function("document.getElementById('text').textContent.length === 2500")
    assert tab.evaluate("document.querySelector('.stream').scrollTop") == before


NEWEST = """<section id="live" data-part data-newest data-topic="batch.a.live" data-at="{at}"><div class="stream" aria-busy="true">
<p style="white-space: pre-wrap"><span id="text" data-topic="batch.a.row.{row}.1" data-at="2">ab</span><span class="caret"></span></p></div>
<label><input type="checkbox" id="follow" data-follow checked>Follow newest</label><i data-f="batch.a.live.speed.{row}">{row} tokens</i></section>"""


def test_a_reader_stays_with_a_row_and_follows_the_newest_again(tab: Page) -> None:
    socket = opened(tab, NEWEST.format(at=1, row=1))
    said: list[dict[str, Any]] = []
    socket.on_message(lambda message: said.append(json.loads(message)))
    follow, text = tab.get_by_label("Follow newest"), tab.locator("#text")
    follow.uncheck()
    say(socket, k="html", t="batch.a.live", v=2, html=NEWEST.format(at=2, row=2))
    say(socket, k="add", t="batch.a.row.2.1", off=2, d="newer")
    say(socket, k="set", t="batch.a.live", v=3, set={"speed.2": "99 tokens"})
    say(socket, k="add", t="batch.a.row.1.1", off=2, d="c🥐", end=1)
    expect(text).to_have_text("abc🥐")
    expect(tab.locator(".caret")).to_have_count(0)
    expect(tab.locator("i")).to_have_text("1 tokens")
    assert {"sub": {"batch.a.live": 2, "batch.a.row.1.1": 2}} in said
    follow.check()
    tab.wait_for_timeout(50)
    assert said[-1] == {"sub": {"batch.a.live": 0, "batch.a.row.1.1": 5}}
    say(socket, k="html", t="batch.a.live", v=4, html=NEWEST.format(at=4, row=2))
    expect(tab.locator("i")).to_have_text("2 tokens")
    expect(follow).to_be_checked()
    follow.uncheck()
    say(socket, k="html", t="batch.a.live", v=5, html='<section id="live" data-part data-newest hidden></section>')
    expect(tab.locator("#live")).to_be_hidden()  # nothing is in progress any more


def test_what_is_swapped_in_stands_where_it_was_read(tab: Page) -> None:
    row = '<p id="row" data-topic="job.a" data-at="{at}">{word}</p><p id="text" data-topic="job.a.out.1" data-at="2">ab</p>'
    socket = opened(tab, '<div id="list">' + row.format(at=1, word="running") + "</div>")
    said: list[dict[str, Any]] = []
    socket.on_message(lambda message: said.append(json.loads(message)))
    tab.add_script_tag(path=str(finders.find("django_htmx/htmx-2.min.js")))
    tab.wait_for_timeout(100)  # it says once that the page has loaded
    say(socket, k="html", t="job.a", v=2, html='<p id="row" data-topic="job.a" data-at="2">done</p>')
    say(socket, k="add", t="job.a.out.1", off=2, d="cd")
    expect(tab.locator("#text")).to_have_text("abcd")
    late = json.dumps(row.format(at=1, word="running"))  # it was read just before the end
    tab.evaluate(f"htmx.swap('#list', {late}, {{ swapStyle: 'innerHTML' }})")
    tab.wait_for_timeout(200)
    assert said[-1] == {"sub": {"job.a": 1, "job.a.out.1": 2}}
    say(socket, k="html", t="job.a", v=2, html='<p id="row" data-topic="job.a" data-at="2">done</p>')
    say(socket, k="add", t="job.a.out.1", off=2, d="cd")
    expect(tab.locator("#row")).to_have_text("done")
    expect(tab.locator("#text")).to_have_text("abcd")


def test_a_clock_never_goes_back(tab: Page) -> None:
    since = int(time.time()) - 20
    socket = opened(tab, PART.format(at=1, since=since, shown="20 s"))
    say(socket, k="ping", now=(since + 30) * 1000)
    expect(tab.locator("#clock b")).to_have_text("30\u00a0s", timeout=2000)
    say(socket, k="ping", now=(since + 25) * 1000)
    say(socket, k="html", t="job.a", v=2, html=PART.format(at=2, since=since, shown="12 s"))
    tab.wait_for_function("document.getElementById('clock').dataset.at === '2'")
    assert int(tab.locator("#clock b").inner_text().split()[0]) >= 30


FIELDS = """<section id="part" data-part="" data-topic="job.a" data-at="{at}" data-phase="{phase}"><h2>{phase}</h2>
<div class="{phase}"><p>{phase}, before</p><input id="name"><button id="make"{more}>Make</button><p>{phase}, after</p></div>
<details id="menu"><summary id="open">More</summary><a href="/">{phase}</a></details></section>"""


def test_an_element_that_holds_focus_is_not_replaced(tab: Page) -> None:
    socket = opened(tab, FIELDS.format(at=1, phase="one", more=' aria-disabled="true" aria-describedby="why"'))
    for number, held in enumerate(("make", "name", "open"), 2):
        tab.locator(f"#{held}").focus()
        tab.keyboard.type("typed")
        tab.evaluate(
            "() => { window.held = document.activeElement; window.left = 0; held.onblur = () => { left += 1 } }"
        )
        html = FIELDS.format(at=number, phase=f"phase-{number}", more=f' value="{number}"')
        say(socket, k="html", t="job.a", v=number, html=html)
        expect(tab.locator("#part")).to_have_attribute("data-phase", f"phase-{number}")
        assert tab.evaluate("[document.activeElement === held, held.isConnected, left]") == [True, True, 0], held
        assert tab.locator("#part").evaluate("part => part.outerHTML") == html
        assert tab.locator("[id=part]").count() == 1
        if held == "name":
            assert tab.locator("#name").input_value() == "typed"


def test_where_what_held_focus_is_gone_it_goes_to_the_heading(tab: Page) -> None:
    socket = opened(tab, FIELDS.format(at=1, phase="one", more=""))
    tab.locator("#make").focus()
    say(socket, k="html", t="job.a", v=2, html=FIELDS.format(at=2, phase="two", more="").replace('id="make"', ""))
    expect(tab.locator("h2")).to_be_focused()
    assert tab.locator("h2").inner_text() == "two"
    tab.evaluate("document.querySelector('h2').id = 'heading'")
    fresh = FIELDS.format(at=3, phase="three", more="").replace("<h2>", '<h2 id="heading">')
    say(socket, k="html", t="job.a", v=3, html=fresh)
    expect(tab.locator("#part")).to_have_attribute("data-phase", "three")
    expect(tab.locator("#heading")).to_be_focused()
    assert tab.locator("h2").inner_text() == "three"


def test_a_menu_that_was_opened_stays_open_around_what_holds_focus(tab: Page) -> None:
    socket = opened(tab, FIELDS.format(at=1, phase="one", more=""))
    tab.locator("#open").click()
    say(socket, k="html", t="job.a", v=2, html=FIELDS.format(at=2, phase="two", more=""))
    expect(tab.locator("#part")).to_have_attribute("data-phase", "two")
    expect(tab.locator("#open")).to_be_focused()
    expect(tab.locator("#menu a")).to_be_visible()


def test_links_of_the_pages_of_jobs_are_24_pixels_high(client: Client, db: None) -> None:
    user = make.user()
    organization = make.organization(owner=user)
    job: Job = make.job(organization=organization, model=make.model(), state="succeeded")
    client.force_login(user, "allauth.account.auth_backends.AuthenticationBackend")
    urls = ("/jobs/", f"/jobs/{job.public_id}/", "/jobs/?state=failed")
    pages = {url: client.get(url).content.decode() for url in urls}
    low = {}
    with browser_tab() as tab:
        for url, html in pages.items():
            tab.set_content(html)
            for sheet in ("tokens.css", "portal.css"):
                tab.add_style_tag(path=str(finders.find(f"portal/{sheet}")))
            low[url] = tab.evaluate(LOW)
    assert {url: found for url, found in low.items() if found} == {}
