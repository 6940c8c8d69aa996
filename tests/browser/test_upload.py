"""A file that is too large, chosen by somebody at a browser."""

import re

import pytest
from playwright.sync_api import expect

from tests.browser.test_live import sign_in
from tests.browser.visitor import Visitor

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.timeout(300)]

PAGE = "/playground/?model=rapidocr%2Fpp-ocrv6"


@pytest.mark.parametrize("visitor", [1440], indirect=True)
@pytest.mark.parametrize("megabytes", [30, 60])
def test_a_file_that_is_too_large_is_answered_with_a_page(portal, visitor: Visitor, tmp_path, megabytes) -> None:
    scan = tmp_path / "scan.pdf"
    scan.write_bytes(b"%PDF-1.7\n" + bytes(megabytes * 1_000_000))
    sign_in(visitor, portal)
    visitor.go(PAGE)
    jobs = portal.sql("SELECT count(*) FROM jobs_job")
    visitor.page.locator("input[type=file]").set_input_files(scan)
    visitor.page.get_by_role("button", name="Read the file").click()
    expect(visitor.page.get_by_role("heading", level=1)).to_have_text("The file is too large")
    expect(visitor.page.locator("main")).to_contain_text(
        "The file is larger than 20 MiB. Nothing was started or charged."
    )
    visitor.faults = [fault for fault in visitor.faults if "413" not in fault]  # that the page is an error
    visitor.check()
    visitor.page.get_by_role("link", name="Go back").click()
    visitor.page.wait_for_url(re.compile(r"/playground/\?model=rapidocr(/|%2F)pp-ocrv6"))
    expect(visitor.page.locator("#id_model")).to_have_value("rapidocr/pp-ocrv6")
    assert portal.sql("SELECT count(*) FROM jobs_job") == jobs
