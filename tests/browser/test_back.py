"""Back out of a view that htmx swapped: the whole page is there again."""

import re

import pytest
from playwright.sync_api import expect

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.timeout(120, func_only=True)]


@pytest.mark.parametrize("visitor", [1440], indirect=True)
def test_back_from_a_filter_is_a_whole_page(visitor):
    page = visitor.page
    visitor.go("/models/")
    page.locator("label.chip", has_text="Embeddings").click()
    expect(page).to_have_url(re.compile("kind=embeddings"))
    page.go_back()
    expect(page).not_to_have_url(re.compile("kind="))
    expect(page.locator("h1")).to_have_text("Models")
    expect(page.get_by_role("search")).to_be_visible()
    expect(page.locator("#model-list")).to_contain_text("Demo chat")
    assert visitor.faults == []
