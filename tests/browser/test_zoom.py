"""The usage explorer's chart in a browser: zoomed into by mouse, keys, buttons and fingers, down to the hours; an SVG without script."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pytest
from playwright.sync_api import Locator, expect

from apps.core import numbers
from tests.browser.people import PASSWORD, person
from tests.browser.visitor import Visitor
from tests.started import Portal

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.timeout(300)]
BARS = 30
# Every day one job more than the day before, at noon: $1.50, $2.50 … $30.50.
HISTORY = """
INSERT INTO jobs_usagehour (organization_id, hour, model_id, requests, failed, prompt_tokens, cached_prompt_tokens, completion_tokens, pages, charge_microusd, estimated)
SELECT o.organization_id, (%s::date + n)::timestamp AT TIME ZONE 'UTC' + interval '12 hours', m.id, n + 1, 0, 900, 0, 100, 0,
    CASE WHEN m.place = 1 THEN (n + 1) * 1000000 ELSE 500000 END, false
FROM generate_series(0, 29) n,
    (SELECT organization_id FROM accounts_membership o JOIN accounts_user u ON u.id = o.user_id WHERE u.email = %s) o,
    (SELECT id, row_number() OVER (ORDER BY id) AS place FROM catalog_model ORDER BY id LIMIT 2) m
"""
SUMMED = """
INSERT INTO jobs_usageuntil (id, at) SELECT 1, date_trunc('hour', coalesce(min(created_at), now())) FROM jobs_job
ON CONFLICT (id) DO NOTHING
"""
# The foot of the last bar as it is drawn, and the color the style sheet gives it.
PAINTED = """() => {
    const drawn = document.querySelector('.zoom canvas')
    const pixel = paint => {
        const one = document.createElement('canvas').getContext('2d', { willReadFrequently: true })
        paint(one)
        return [...one.getImageData(0, 0, 1, 1).data]
    }
    return [
        pixel(one => one.drawImage(drawn, drawn.width - Math.round(drawn.width / 60), drawn.height - 5, 1, 1, 0, 0, 1, 1)),
        pixel(one => { one.fillStyle = getComputedStyle(document.querySelector('svg.plot .s1')).fill; one.fillRect(0, 0, 1, 1) }),
    ]
}"""


def words(day: date) -> str:
    return f"{day.day} {day:%b}"


@dataclass
class History:
    email: str
    first: date


@pytest.fixture(scope="module")
def history(portal: Portal) -> History:
    """Of somebody new: thirty days, all before today."""
    made = History(person(portal), datetime.now(UTC).date() - timedelta(days=BARS + 1))
    portal.sql(SUMMED)
    portal.sql(HISTORY, made.first, made.email)
    return made


class Explorer:
    """Their usage, and a member who looks at it."""

    def __init__(self, history: History, visitor: Visitor) -> None:
        self.page, self.first = visitor.page, history.first
        self.path = f"/usage/?start={self.day(0)}&end={self.day(BARS - 1)}"
        visitor.go("/login/")
        self.page.get_by_label("E-mail").fill(history.email)
        self.page.get_by_label("Password").fill(PASSWORD)
        self.page.get_by_role("button", name="Sign in", exact=True).click()
        self.page.wait_for_url("**/dashboard/")
        visitor.go(self.path)

    def day(self, number: int) -> date:
        return self.first + timedelta(days=number)

    def words(self, number: int) -> str:
        return words(self.day(number))

    @property
    def chart(self) -> Locator:
        return self.page.get_by_role("slider", name="Spend by day")

    def shows(self, first: int, last: int) -> None:
        """These days, and the axis is that of the last of them, which is the highest."""
        marks = numbers.money_ticks(numbers.ticks((last + 1) * 1_000_000 + 500_000, least=1))
        expect(self.page.locator(".chart-tools output")).to_have_text(f"{self.words(first)} to {self.words(last)}")
        expect(self.page.locator(".chart-y span")).to_have_text(marks)
        expect(self.page.locator(".chart-x span").first).to_have_text(self.words(first))
        expect(self.page.get_by_role("link", name="Show this range")).to_be_visible(
            visible=(first, last) != (0, BARS - 1)
        )

    def middle(self, number: int) -> tuple[float, float]:
        """Of a bar, while all are shown."""
        box = self.chart.bounding_box()
        assert box is not None
        return box["x"] + box["width"] * (number + 0.5) / BARS, box["y"] + box["height"] / 2


@pytest.mark.parametrize("visitor", [1440], indirect=True)
def test_a_reader_zooms_into_days_and_sees_their_hours(history: History, visitor: Visitor):
    explorer, page = Explorer(history, visitor), visitor.page
    explorer.shows(0, BARS - 1)
    expect(page.locator("svg.plot")).to_be_hidden()
    visitor.check()

    page.mouse.move(*explorer.middle(10))
    tip = page.locator(".chart-tip")
    expect(tip.locator("p").first).to_have_text(f"{explorer.words(10)}$11.50")
    expect(tip.locator(".n")).to_have_text(["$11.50", "$11.00", "$0.50"])
    page.mouse.down()
    page.mouse.move(*explorer.middle(14), steps=4)
    page.mouse.up()
    explorer.shows(10, 14)
    page.mouse.dblclick(*explorer.middle(14))
    explorer.shows(0, BARS - 1)

    page.mouse.move(0, 0)
    expect(tip).to_be_hidden()
    explorer.chart.focus()
    page.keyboard.press("End")
    expect(explorer.chart).to_have_attribute(
        "aria-valuetext", re.compile(rf"^{explorer.words(29)}: \$30\.50, .+ \$30\.00, ")
    )
    page.keyboard.press("+")
    explorer.shows(15, 29)
    page.keyboard.press("-")
    explorer.shows(0, 29)
    page.keyboard.press("Home")
    for _ in range(2):
        page.keyboard.press("Shift+ArrowRight")
    expect(tip).to_be_visible()
    page.keyboard.press("Enter")
    explorer.shows(0, 2)
    page.keyboard.press("ArrowRight")  # what is shown moves along
    explorer.shows(1, 3)
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()
    page.keyboard.press("0")
    explorer.shows(0, 29)

    page.get_by_role("button", name="Zoom in").click()
    explorer.shows(2, 16)
    page.get_by_role("button", name="Zoom out").click()
    explorer.shows(0, 29)
    page.get_by_role("button", name="Zoom in").click()
    page.get_by_role("button", name="Show all").click()
    explorer.shows(0, 29)
    visitor.check()


@pytest.mark.parametrize("visitor", [1440], indirect=True)
def test_the_range_zoomed_to_has_its_own_address(history: History, visitor: Visitor):
    explorer, page = Explorer(history, visitor), visitor.page
    explorer.shows(0, 29)
    page.mouse.move(*explorer.middle(14))
    page.mouse.down()
    page.mouse.move(*explorer.middle(10), steps=4)
    page.mouse.up()
    explorer.shows(10, 14)
    page.get_by_role("link", name="Show this range").click()
    page.wait_for_url(f"**/usage/?start={explorer.day(10)}&end={explorer.day(14)}&bars=hour")
    expect(page.get_by_role("heading", name="Spend by hour")).to_be_visible()
    shown = page.locator(".chart-tools output")
    expect(shown).to_have_text(f"{explorer.words(10)} 00:00 to {explorer.words(14)} 23:00")
    chart = page.get_by_role("slider", name="Spend by hour")
    chart.focus()
    page.keyboard.press("Home")
    for _ in range(13):
        page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Enter")
    expect(shown).to_have_text(f"{explorer.words(10)} 00:00 to {explorer.words(10)} 13:00")
    page.get_by_role("link", name="Show this range").click()
    day = explorer.day(10)
    page.wait_for_url(f"**/usage/?first_hour={day}T00%3A00&last_hour={day}T13%3A00")
    expect(page.locator("h1 + p")).to_contain_text(f"{day.day} {day:%b} {day:%Y}, 00:00 to 14:00, times in UTC.")
    expect(page.locator(".figure .value").first).to_have_text("$11.50")
    page.get_by_label("Measure").select_option("requests")
    expect(page.get_by_role("slider", name="Requests by hour")).to_have_attribute("aria-valuemax", "14")
    assert f"first_hour={day}T00%3A00" in page.url
    visitor.check()


@pytest.mark.parametrize("visitor", [1440], indirect=True)
def test_a_year_is_zoomed_from_its_weeks_to_days(history: History, visitor: Visitor):
    explorer, page = Explorer(history, visitor), visitor.page
    first, last = explorer.day(-299), explorer.day(29)
    monday, sunday = last - timedelta(days=last.weekday() + 14), first + timedelta(days=6 - first.weekday())
    year = f"/usage/?start={first}&end={last}"
    visitor.go(year)
    chart, shown = page.get_by_role("slider", name="Spend by week"), page.locator(".chart-tools output")
    expect(shown).to_have_text(f"{words(first)} to {words(last)}")
    expect(page.locator(".chart-x span")).to_have_text([words(first), re.compile(r"^\d+ \w+$"), words(last)])
    visitor.check()
    chart.focus()
    page.keyboard.press("End")
    part = last.weekday() + 1
    span = words(last) if part == 1 else f"{words(last - timedelta(days=part - 1))} to {words(last)}"
    expect(chart).to_have_attribute(
        "aria-valuetext", re.compile("^" + re.escape(f"{span}: " if part == 7 else f"{span} ({part} of 7 days): "))
    )
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Enter")
    expect(shown).to_have_text(f"{words(monday)} to {words(last)}")
    expect(page.locator(".chart-x span").first).to_have_text(words(monday))
    expect(page.locator(".chart-x span").last).to_have_text(words(last))
    page.get_by_role("link", name="Show this range").click()
    page.wait_for_url(f"**/usage/?start={monday}&end={last}")
    expect(page.get_by_role("slider", name="Spend by day")).to_have_attribute("aria-valuemax", str(part + 14))

    visitor.go(year)
    chart.focus()
    page.keyboard.press("Home")
    page.keyboard.press("Enter")  # the first week alone, of which there is a part
    expect(page.get_by_role("link", name="Show this range")).to_have_attribute(
        "href", f"?start={first}&end={sunday}&bars=hour"
    )
    expect(shown).to_have_text(re.compile(rf"^{words(first)}"))
    assert visitor.faults == []


@pytest.mark.parametrize("visitor", [1440], indirect=True)
def test_bars_have_the_colors_of_the_theme(history: History, visitor: Visitor):
    explorer, page = Explorer(history, visitor), visitor.page
    explorer.shows(0, 29)
    drawn, asked = page.evaluate(PAINTED)
    assert drawn == asked
    page.locator(".bar").get_by_role("button", name="Dark theme").click()
    page.wait_for_function(f"before => String(({PAINTED})()[0]) !== before", arg=",".join(map(str, drawn)))
    now, asked = page.evaluate(PAINTED)
    assert now == asked
    assert visitor.faults == []


@pytest.mark.parametrize("visitor", [390], indirect=True)
def test_fingers_zoom_and_without_script_the_servers_chart_stands(history: History, visitor: Visitor):
    explorer, page = Explorer(history, visitor), visitor.page
    explorer.shows(0, 29)
    explorer.chart.scroll_into_view_if_needed()
    touch = page.context.new_cdp_session(page)

    def finger(kind: str, *bars: int) -> None:
        points = [dict(zip("xy", explorer.middle(bar), strict=True)) for bar in bars]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

    finger("touchStart", 5)
    expect(page.locator(".chart-tip p").first).to_have_text(f"{explorer.words(5)}$6.50")
    for bar in (7, 10, 14):
        finger("touchMove", bar)
    finger("touchEnd")
    explorer.shows(5, 14)
    visitor.check()
    browser = page.context.browser
    assert browser is not None
    plain = browser.new_context(
        java_script_enabled=False, storage_state=page.context.storage_state(), viewport={"width": 390, "height": 900}
    ).new_page()
    plain.goto(f"{visitor.base_url}{explorer.path}")
    expect(plain.locator("svg.plot")).to_be_visible()
    expect(plain.locator(".chart-y span")).to_have_text(["$40.00", "$20.00", "0"])
    expect(plain.locator(".chart-tools")).to_be_hidden()
    expect(plain.locator(".chart-keys")).to_be_hidden()
