"""What the page says when its socket fails, and when there is none at all."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.visitor import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.timeout(300)]
MODEL = "engine/mock-chat"


class Wire:
    """Between the page's sockets and the server: `cut` ends what is open and refuses what comes."""

    def __init__(self, visitor: Visitor) -> None:
        self.cut_off = False
        self.open = []
        visitor.away = True
        visitor.page.route_web_socket(re.compile("/ws/"), self.connect)

    def connect(self, socket) -> None:
        if self.cut_off:
            socket.close(code=1011)
            return
        server = socket.connect_to_server()
        socket.on_message(server.send)
        server.on_message(socket.send)
        self.open.append(socket)

    def cut(self) -> None:
        self.cut_off = True
        for socket in self.open:
            socket.close(code=1012)
        self.open = []


def sign_in(visitor, portal) -> None:
    visitor.go("/login/")
    visitor.page.get_by_label("E-mail").fill(portal.demo["email"])
    visitor.page.get_by_label("Password").fill(portal.demo["password"])
    visitor.page.get_by_role("button", name="Sign in").click()
    visitor.page.wait_for_url("**/dashboard/")


def start(portal, engine, tokens: int, *, per_second: float) -> str:
    engine.control(tokens_per_second=per_second)
    body = {
        "model": MODEL,
        "input": {"messages": [{"role": "user", "content": "Say the words."}], "max_tokens": tokens},
    }
    with portal.client() as client:
        job: str = client.post("/api/v1/jobs", json=body).json()["id"]
        return job


def state(portal, job: str) -> str:
    with portal.client() as client:
        found: str = client.get(f"/api/v1/jobs/{job}").json()["state"]
        return found


@pytest.mark.parametrize("visitor", [1440], indirect=True)
def test_a_lost_connection_is_named_and_caught_up_with(portal, engine, visitor):
    page = visitor.page
    wire = Wire(visitor)
    sign_in(visitor, portal)
    job = start(portal, engine, 150, per_second=15)
    visitor.go(f"/jobs/{job}/")
    bar = page.locator(".bar .live")
    expect(page.locator("#job-state")).to_have_text("Running")
    expect(bar).to_have_text("Live")
    wire.cut()
    page.wait_for_timeout(1200)
    expect(bar).to_have_text("Live")
    expect(bar).to_have_text("Reconnecting", timeout=4_000)
    expect(bar).to_have_text(re.compile(r"Offline since \d\d:\d\d"), timeout=20_000)
    expect(page.locator("#live-offline")).to_contain_text("Your work keeps running.")
    assert page.locator("html").get_attribute("data-live-state") == "off"
    visitor.check()
    portal.wait_until(lambda: state(portal, job) == "succeeded", seconds=40)
    wire.cut_off = False
    expect(bar).to_have_text("Live", timeout=40_000)
    expect(page.locator("#live-offline")).to_have_count(0)
    expect(page.locator("#live-caught-up")).to_contain_text("Caught up.")
    expect(page.locator("#job-state")).to_have_text("Done")
    expect(page.locator(".run-count")).to_have_text("150 tokens written")
    visitor.check()
    engine.control(tokens_per_second=0)


@pytest.mark.parametrize("visitor", [1440], indirect=True)
def test_without_sockets_the_parts_are_fetched(portal, engine, visitor):
    page = visitor.page
    wire = Wire(visitor)
    wire.cut_off = True
    sign_in(visitor, portal)
    job = start(portal, engine, 100, per_second=10)
    visitor.go(f"/jobs/{job}/")
    page.evaluate("window.loadedOnce = true")
    asked: list[str | None] = []  # a person need not be there
    page.on(
        "request", lambda asks: asks.url.endswith(f"/jobs/{job}/") and asked.append(asks.headers.get("x-unattended"))
    )
    expect(page.locator(".bar .live")).to_have_text("Updates every 15 s", timeout=10_000)
    expect(page.locator("#job-state")).to_have_text("Done", timeout=40_000)
    expect(page.locator("#job-text")).to_contain_text("the site sells its spare power")
    assert page.locator("#job-text").evaluate("element => element.textContent.split(' ').length") == 100
    assert set(asked) == {"1"}
    assert page.evaluate("window.loadedOnce") is True
    engine.control(tokens_per_second=0)
