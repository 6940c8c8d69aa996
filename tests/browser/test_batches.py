"""A batch in a real browser: it runs under the reader's eyes, is cancelled, and its rest is run again."""

import json
import re

import pytest
from playwright.sync_api import expect

import tests.engine
from tests.browser.test_live import MODEL, sign_in, start

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.timeout(300)]


SAID = "Brot 🥐 und 面包 , the family 👩‍🍳 bakes 𠜎 ."


def line(number: int, *, tokens: int = 20, **changes) -> bytes:
    body = {"model": MODEL, "messages": [{"role": "user", "content": f"Say {number}."}], "max_tokens": tokens}
    row = {"custom_id": f"row-{number}", "method": "POST", "url": "/v1/chat/completions", "body": body, **changes}
    return json.dumps(row).encode() + b"\n"


def send(portal, count: int, **changes) -> str:
    content = b"".join(line(number, **changes) for number in range(1, count + 1))
    with portal.client() as client:
        form = {"file": ("descriptions.jsonl", content)}
        file = client.post("/v1/files", data={"purpose": "batch"}, files=form).json()["id"]
        asked = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        batch: str = client.post("/v1/batches", json=asked).json()["id"]
        return batch


@pytest.mark.parametrize("visitor", [1440, 390], indirect=True)
def test_a_batch_runs_under_the_readers_eyes(portal, engine, visitor):
    page = visitor.page
    sign_in(visitor, portal)
    engine.control(tokens_per_second=4)
    batch = send(portal, 120)
    visitor.go(f"/batches/{batch}/")
    page.evaluate("window.loadedOnce = true")
    expect(page.locator("#batch-state")).to_have_text("Running", timeout=20_000)
    expect(page.locator(".run-count")).not_to_have_text("0 of 120 rows", timeout=20_000)
    expect(page.locator(".bar .live")).to_have_text("Live")
    visitor.check()
    visitor.go("/batches/")
    expect(page.locator(f"#row-{batch} progress")).to_have_count(1)
    visitor.check()
    visitor.go("/dashboard/")
    row = page.locator("#running tr", has=page.locator(f"#running-{batch}"))
    shown = row.locator("output").inner_text()
    expect(row.locator("output")).not_to_have_text(shown, timeout=20_000)
    expect(page.locator("#running .aside")).to_contain_text("1 running")
    visitor.check()
    visitor.go(f"/batches/{batch}/")
    page.evaluate("window.loadedOnce = true")
    engine.control(tokens_per_second=0)
    expect(page.locator("#batch-state")).to_have_text("Done", timeout=60_000)
    expect(page.locator(".run-count")).to_have_text("120 of 120 rows")
    assert page.evaluate("window.loadedOnce") is True
    visitor.check()
    with page.expect_download() as download:
        page.locator("#file-output").click()
    with open(download.value.path(), "rb") as content:
        assert len({json.loads(line)["custom_id"] for line in content}) == 120
    assert visitor.faults == []


@pytest.mark.parametrize("visitor", [1440, 390], indirect=True)
def test_a_row_is_read_as_it_is_written(portal, engine, visitor):
    page = visitor.page
    sign_in(visitor, portal)
    engine.control(tokens_per_second=8, sentence=SAID)
    batch = send(portal, 60, tokens=40)
    visitor.go(f"/batches/{batch}/")
    page.evaluate("window.loadedOnce = true")
    box, text = page.locator("#batch-live"), page.locator("#row-text")
    expect(box.locator(".stream-head b")).to_have_text(re.compile(r"Row \d+"), timeout=30_000)
    expect(box.locator(".card-foot")).to_contain_text(re.compile(r"Showing 1 of \d rows in progress"))
    expect(box.locator(".push")).to_have_text(re.compile(r"\d+ tokens, \d+\stok/s"), timeout=20_000)
    visitor.check()
    page.get_by_label("Follow newest").uncheck()
    row = box.locator(".stream-head b").inner_text()
    expect(box.locator(".caret")).to_have_count(0, timeout=30_000)  # to its last word, and no further
    assert text.evaluate("element => element.textContent") == tests.engine.text(40, SAID)
    expect(box.locator(".stream")).to_have_attribute("aria-busy", "false")
    page.wait_for_timeout(1500)
    assert box.locator(".stream-head b").inner_text() == row
    page.get_by_label("Follow newest").check()
    expect(box.locator(".stream-head b")).not_to_have_text(row)
    href = page.locator("#open-row").get_attribute("href")
    visitor.check()
    engine.control(tokens_per_second=0, sentence=tests.engine.SENTENCE)
    expect(page.locator("#batch-state")).to_have_text("Done", timeout=60_000)
    expect(box).to_be_hidden()
    assert page.evaluate("window.loadedOnce") is True
    visitor.go(href)
    visitor.check()
    assert visitor.faults == []


@pytest.mark.parametrize("visitor", [1440, 390], indirect=True)
def test_cancel_and_the_rest_again(portal, engine, visitor):
    page = visitor.page
    sign_in(visitor, portal)
    engine.control(tokens_per_second=4)
    batch = send(portal, 60)
    visitor.go(f"/batches/{batch}/")
    page.get_by_role("link", name="Cancel batch").click()
    visitor.check()
    page.get_by_role("button", name="Cancel batch").click()
    expect(page.locator("#batch-state")).to_have_text("Cancelled", timeout=60_000)
    visitor.check()
    engine.control(tokens_per_second=0)
    page.get_by_role("link", name="Run the rest").click()
    visitor.check()
    page.get_by_role("button", name="Start").click()
    expect(page.locator("h1")).to_have_text("again-descriptions.jsonl")
    expect(page.locator("#batch-state")).to_have_text("Done", timeout=60_000)
    bad = send(portal, 60, method="GET")
    visitor.go(f"/batches/{bad}/")
    expect(page.locator("#batch-state")).to_have_text("Failed", timeout=60_000)
    visitor.check()
    assert visitor.faults == []


@pytest.mark.parametrize("visitor", [1440, 390], indirect=True)
def test_a_new_batch_from_its_file_to_its_rows(portal, engine, visitor, tmp_path):
    page = visitor.page
    sign_in(visitor, portal)
    engine.control(tokens_per_second=4)
    file = tmp_path / "new.jsonl"
    file.write_bytes(b"".join(line(number) for number in range(1, 60)) + b"no JSON\n")
    visitor.go("/batches/")
    page.get_by_role("link", name="New batch").click()
    visitor.check()
    page.locator("input[type=file]").set_input_files(file)
    page.get_by_label("Name").fill("Numbers")
    page.get_by_role("button", name="Check the file").click()
    expect(page.locator("#batch-draft")).to_contain_text("1 error in the file.", timeout=20_000)
    visitor.check()
    on = page.get_by_role("link", name="Go on to its start")
    if on.count():
        on.click()
    visitor.check()
    page.get_by_role("button", name="Start 59 rows without 1 line").click()
    expect(page.locator("h1")).to_have_text("Numbers")
    page.evaluate("window.loadedOnce = true")
    expect(page.locator("#batch-rows tbody tr")).to_have_count(10, timeout=40_000)
    expect(page.locator("#batch-rows")).to_contain_text("the newest rows")
    visitor.check()
    engine.control(tokens_per_second=0)
    expect(page.locator("#batch-state")).to_have_text("Done", timeout=60_000)
    expect(page.locator("#batch-rows")).to_contain_text("the first 10 of 59 rows")
    assert page.evaluate("window.loadedOnce") is True
    visitor.check()
    assert visitor.faults == []


@pytest.mark.parametrize("visitor", [1440, 390], indirect=True)
def test_rows_of_lists_change_with_what_they_are_of(portal, engine, visitor):
    """Both lists stay open from the first phase to the last, and each row says it."""
    page = visitor.page
    sign_in(visitor, portal)
    job = start(portal, engine, 400, per_second=5)
    batch = send(portal, 20)
    tab = page.context.new_page()
    visitor.watch(tab)
    tab.goto(f"{visitor.base_url}/batches/")
    visitor.go("/jobs/")
    for each, row in ((page, f"#row-{job}"), (tab, f"#row-{batch}")):
        expect(each.locator(row)).to_contain_text("Running", timeout=40_000)
        each.evaluate("window.loadedOnce = true")
    engine.control(tokens_per_second=0)
    for each, row in ((page, f"#row-{job}"), (tab, f"#row-{batch}")):
        expect(each.locator(row)).to_contain_text("Done", timeout=60_000)
        assert each.evaluate("window.loadedOnce") is True
    visitor.check()
    assert visitor.faults == []
