"""Links of the shell are large enough for a finger: WCAG 2.2, 2.5.8 Target Size (Minimum)."""

import pytest
from django.contrib.staticfiles import finders
from django.test import Client
from playwright.sync_api import sync_playwright

from cango_portal.launcher import chromium
from tests import make

pytestmark = [pytest.mark.browser]

LOW = """() => [...document.querySelectorAll('header a, footer a, .card-head a')]
    .filter(link => link.checkVisibility() && link.getBoundingClientRect().height < 24)
    .map(link => `${link.textContent.trim()}: ${link.getBoundingClientRect().height}`)"""


def test_links_of_the_shell_are_24_pixels_high(db):
    user = make.user()
    make.job(organization=make.organization(owner=user), model=make.model(), state="succeeded")
    member = Client()
    member.force_login(user)
    pages = {
        f"{url} {name}": client.get(url).content.decode()
        for name, client in (("visitor", Client()), ("member", member))
        for url in ("/", "/models/", "/pricing/", "/dashboard/", "/keys/", "/nothing/")
    }
    low = {}
    path = chromium.find()
    if path is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 390, "height": 844})
        for name, html in pages.items():
            page.set_content(html)
            for sheet in ("tokens.css", "portal.css"):
                page.add_style_tag(path=finders.find(f"portal/{sheet}"))
            low[name] = page.evaluate(LOW)
        browser.close()
    assert {name: found for name, found in low.items() if found} == {}
