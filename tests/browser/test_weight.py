"""The first load of a page, with fonts, is at most 250 kB on the wire: as production serves it, to a browser that has nothing yet.

Pages come from the portal; static files are weighed as WhiteNoise sends the collected ones, by the `Accept-Encoding` of the browser.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Request, sync_playwright
from whitenoise import WhiteNoise

from cango_portal.launcher import chromium
from tests.browser.people import PASSWORD, person
from tests.browser.test_zoom import HISTORY, SUMMED
from tests.started import ROOT, Portal

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.timeout(300, func_only=True)]

MOST = 250_000
DAYS = 92  # a quarter, a bar each day
NAME = "Żółta Łódź"  # needs the font of Latin Extended
EXTENDED, MONO, CHART = "inter-latin-ext", "geist-mono", "uPlot"


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> WhiteNoise:
    var = tmp_path_factory.mktemp("served")
    subprocess.run(
        [sys.executable, "manage.py", "collectstatic", "--no-input", "--verbosity=0"],
        cwd=ROOT, env={**os.environ, "STATIC_MANIFEST": "1", "PORTAL_VAR": str(var)}, check=True,
    )  # fmt: skip
    return WhiteNoise(None, root=var / "static", prefix="static/")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium.find()
    if path is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def signed_in(portal: Portal, browser: Browser) -> dict:
    """The session of somebody whose organization has worked for a quarter."""
    email = person(portal)
    portal.sql("UPDATE accounts_user SET name = %s WHERE email = %s", NAME, email)
    portal.sql(
        "UPDATE accounts_organization SET name = %s WHERE id IN (SELECT m.organization_id FROM accounts_membership m "
        "JOIN accounts_user u ON u.id = m.user_id WHERE u.email = %s)",
        NAME, email,
    )  # fmt: skip
    portal.sql(SUMMED)
    [row] = portal.sql("SELECT (now() AT TIME ZONE 'UTC')::date - %s AS day", DAYS)
    portal.sql(HISTORY.replace("generate_series(0, 29)", f"generate_series(0, {DAYS - 1})"), row["day"], email)
    page = browser.new_page()
    page.goto(f"{portal.base_url}/login/")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.wait_for_url("**/dashboard/")
    return page.context.storage_state()


def weight(request: Request, served: WhiteNoise) -> int:
    path = urlsplit(request.url).path
    if not path.startswith("/static/"):
        sizes = request.sizes()
        return sizes["responseBodySize"] + sizes["responseHeadersSize"]
    accepted = request.all_headers()["accept-encoding"]
    answer = served.files[path].get_response("GET", {"HTTP_ACCEPT_ENCODING": accepted})
    headers = dict(answer.headers)
    return int(headers["Content-Length"]) + sum(len(f"{name}: {value}\r\n") for name, value in answer.headers)


@pytest.mark.parametrize(
    ("path", "member", "needs"),
    [
        ("/", False, set()),
        ("/docs/reference/inference/", False, {MONO}),
        ("/dashboard/", True, {EXTENDED}),
        ("/keys/", True, {EXTENDED}),
        ("/playground/", True, {EXTENDED, MONO}),
        ("/usage/", True, {EXTENDED, CHART}),
        ("/usage/?start={first}&end={last}", True, {EXTENDED, CHART}),
    ],
)
def test_a_first_load_is_light(portal, browser, served, signed_in, path, member, needs):
    [days] = portal.sql(
        "SELECT (now() AT TIME ZONE 'UTC')::date - %s AS first, (now() AT TIME ZONE 'UTC')::date - 1 AS last", DAYS
    )
    context = browser.new_context(storage_state=signed_in if member else None)
    page, requests = context.new_page(), []
    page.on("requestfinished", lambda request: requests.append(request))  # noqa: PLW0108 - it marks what it calls
    page.goto(f"{portal.base_url}{path.format(**days)}")
    page.evaluate("document.fonts.ready")
    page.wait_for_load_state("networkidle")
    weights = {urlsplit(each.url).path: weight(each, served) for each in requests}
    context.close()
    told = "\n".join(f"{kB:>8,} {name}" for name, kB in sorted(weights.items(), key=lambda each: -each[1]))
    print(f"{path}: {sum(weights.values()):,}\n{told}")
    assert {need for need in needs if not any(need in name for name in weights)} == set()
    assert sum(weights.values()) <= MOST, told
