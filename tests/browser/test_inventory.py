"""Every page of the inventory: no violation of accessibility, no fault in the console, nothing from elsewhere, no sideways scroll.

`make test` looks at each page in one theme, in turn light and dark; `make test-browser` at all of the grid. `make screens` writes pictures.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from playwright.sync_api import Page, sync_playwright

from cango_portal.launcher import chromium
from tests.browser.inventory import PLACES, Place, World
from tests.browser.visitor import SETTLED

# The start of the portal is not the first page's time: on a busy machine it takes minutes.
pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.timeout(300, func_only=True)]

THEMES, WIDTHS, NARROWEST = ("light", "dark"), (1440, 390), 320
# What people, models and the demo's data are called stays as it is; so does what stands in code, and the documentation.
CALLED = {"Cango Portal", "Demo chat", "Demo key", "Meridian Foods", "PP-OCRv6 text recognition", "Say the words."}
# English stands there as well: the documentation, mails, and an answer of the model.
ENGLISH_TOO = {"docs-search", "docs-quick-start", "docs-quick-start-visitor", "docs-jobs", "mailbox", "batch"}
ENGLISH = """() => {
    const found = new Set()
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
    for (let node = walk.nextNode(); node; node = walk.nextNode())
        if (!node.parentElement.closest('[lang=en], code, pre, kbd, script, textarea, option, svg, .stream, .sprite') &&
            /[a-z]{2,} [a-z]{2,}/i.test(node.data) && !/[\\u4e00-\\u9fff]/.test(node.data)) found.add(node.data.trim().replace(/\\s+/g, ' '))
    return [...found]
}"""
SCREENS: Path = settings.ROOT / "var" / "screens"
WIDER = """() => [...document.querySelectorAll('main *')].filter(e => e.getBoundingClientRect().right > innerWidth + 1)
    .slice(0, 5).map(e => `${e.tagName}.${e.className}`)"""


@pytest.fixture(scope="module")
def world(portal) -> Iterator[World]:
    path = chromium.find()
    if path is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield World(portal, browser)
        browser.close()


class Seen:
    """What the browser told while a page was open."""

    def __init__(self, page: Page, base_url: str, status: int) -> None:
        self.page, self.host, self.status = page, urlsplit(base_url).netloc, status
        self.faults: list[str] = []

    def __enter__(self) -> Seen:
        for event, listener in self.listeners().items():
            self.page.on(event, listener)  # type: ignore[call-overload]
        return self

    def __exit__(self, *_: object) -> None:
        for event, listener in self.listeners().items():
            self.page.remove_listener(event, listener)

    def listeners(self):
        return {"request": self.request, "pageerror": self.error, "console": self.console}

    def request(self, request) -> None:
        if urlsplit(request.url).scheme in ("http", "https") and urlsplit(request.url).netloc != self.host:
            self.faults.append(f"request to another host: {request.url}")

    def error(self, error) -> None:
        self.faults.append(f"script: {error}")

    def console(self, message) -> None:
        expected = self.status != 200 and f"status of {self.status}" in message.text
        if message.type in ("error", "warning") and not expected:
            self.faults.append(f"{message.type}: {message.text}")


def show(world: World, place: Place, *, theme: str, width: int) -> Page:
    page = world.pages[place.who]
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=theme, reduced_motion="reduce")
    answer = page.goto(f"{world.portal.base_url}{world.path(place)}")
    if "/again/" in page.url and "/again/" not in place.path:
        world.confirm(page)
        answer = page.goto(f"{world.portal.base_url}{world.path(place)}")
    assert answer is not None
    assert answer.status == place.status, place.path
    assert urlsplit(page.url).path == urlsplit(world.path(place)).path, f"{place.path} leads to {page.url}"
    page.evaluate(SETTLED)
    return page


def check(world: World, place: Place, *, theme: str, width: int) -> None:
    with world.lacking(place), Seen(world.pages[place.who], world.portal.base_url, place.status) as seen:
        page = show(world, place, theme=theme, width=width)
        found = Axe().run(page)
        assert found.violations_count == 0, f"{place.path} {theme} {width}\n{found.generate_report()}"
        page.set_viewport_size({"width": NARROWEST, "height": 900})
        page.evaluate(SETTLED)  # in the first frame some parts still have their former width
        scroll = page.evaluate("document.documentElement.scrollWidth")
        assert scroll <= NARROWEST, f"{place.path} is {scroll} wide: {page.evaluate(WIDER)}"
    assert seen.faults == [], place.path


@pytest.mark.parametrize(
    ("place", "theme"),
    [pytest.param(place, THEMES[number % 2], id=place.name) for number, place in enumerate(PLACES)],
)
def test_a_page_in_one_theme(world, place, theme):
    check(world, place, theme=theme, width=1440)


GRID = [
    (place, theme, width)
    for (number, place), theme, width in product(enumerate(PLACES), THEMES, WIDTHS)
    if not (width == 1440 and theme == THEMES[number % 2])  # those above
]


@pytest.mark.grid
@pytest.mark.parametrize(
    ("place", "theme", "width"), [pytest.param(*each, id=f"{each[0].name}-{each[1]}-{each[2]}") for each in GRID]
)
def test_a_page_in_the_rest_of_the_grid(world, place, theme, width):
    check(world, place, theme=theme, width=width)


@pytest.fixture
def chinese(world) -> Iterator[None]:
    for context in world.contexts.values():
        context.add_cookies([{"name": "language", "value": "zh-hans", "url": world.portal.base_url}])
    yield
    for context in world.contexts.values():
        context.clear_cookies(name="language")


@pytest.mark.grid
@pytest.mark.usefixtures("chinese")
@pytest.mark.parametrize("place", [pytest.param(place, id=place.name) for place in PLACES])
def test_a_page_in_chinese(world, place):
    check(world, place, theme="light", width=390)
    page = world.pages[place.who]
    assert page.evaluate("document.documentElement.lang") == "zh-hans", place.path
    if place.name not in ENGLISH_TOO:
        assert set(page.evaluate(ENGLISH)) - CALLED == set()


@pytest.mark.screens
@pytest.mark.timeout(900, func_only=True)  # a reference of the API is 3 MB a picture
@pytest.mark.parametrize("place", [pytest.param(place, id=place.name) for place in PLACES])
def test_pictures(world, place):
    SCREENS.mkdir(parents=True, exist_ok=True)
    for theme, width in product(THEMES, WIDTHS):
        with world.lacking(place):
            page = show(world, place, theme=theme, width=width)
            page.screenshot(path=SCREENS / f"{place.name}-{width}-{theme}.png", full_page=True)
