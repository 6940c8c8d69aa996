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
from tests.browser.test_zoom import SUMMED
from tests.started import ROOT, Portal

pytestmark = [pytest.mark.browser, pytest.mark.whole, pytest.mark.timeout(300, func_only=True)]

MOST = 250_000
DAYS = 366  # the longest span
KEYS = 40
NAME = "Żółta Łódź"  # needs the font of Latin Extended
EXTENDED, MONO, CHART = "inter-latin-ext", "geist-mono", "uPlot"
# Keys with names as long as they may be, each with work every day of the year, and every hour of its last nine days.
NAMED = """
INSERT INTO keys_apikey (id, organization_id, created_by_id, name, prefix, sha256, created_at)
SELECT gen_random_uuid(), o.organization_id, o.user_id, rpad(n || ' ', 80, %s), 'cango_0000000', md5(o.id::text || n) || md5(n::text), now()
FROM accounts_membership o JOIN accounts_user u ON u.id = o.user_id, generate_series(1, %s) n WHERE u.email = %s
"""
WORKED = """
INSERT INTO jobs_usagehour (organization_id, hour, model_id, api_key_id, requests, failed, prompt_tokens, cached_prompt_tokens, completion_tokens,
    pages, charge_microusd, energy_wh, carbon_gco2e, estimated)
SELECT k.organization_id, at, m.id, k.id, 98765, 21, 7654321, 0, 654321, 4321, 12345678 + 7919 * n, 4321.9876 + n, 1234.5678 + n, true
FROM (SELECT k.*, row_number() OVER (ORDER BY k.id) AS n FROM keys_apikey k JOIN accounts_user u ON u.id = k.created_by_id WHERE u.email = %s) k,
    (SELECT id FROM catalog_model ORDER BY id LIMIT 1) m,
    generate_series(date_trunc('day', now(), 'UTC') - %s * interval '1 day', date_trunc('day', now(), 'UTC') - interval '1 hour', interval '1 hour') at
WHERE extract(hour FROM at AT TIME ZONE 'UTC') = 12 OR at >= date_trunc('day', now(), 'UTC') - interval '9 days'
"""


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
    """The session of somebody whose organization has worked for a year with many keys."""
    email = person(portal)
    portal.sql("UPDATE accounts_user SET name = %s WHERE email = %s", NAME, email)
    portal.sql(
        "UPDATE accounts_organization SET name = %s WHERE id IN (SELECT m.organization_id FROM accounts_membership m "
        "JOIN accounts_user u ON u.id = m.user_id WHERE u.email = %s)",
        NAME, email,
    )  # fmt: skip
    portal.sql(SUMMED)
    portal.sql(NAMED, NAME, KEYS, email)
    portal.sql(WORKED, email, DAYS)
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
        ("/usage/?group=key", True, {EXTENDED, CHART}),
        ("/usage/?group=key&range=90d", True, {EXTENDED, CHART}),
        ("/usage/?group=key&range=365d", True, {EXTENDED, CHART}),
        ("/usage/?group=key&measure=tokens&start={first}&end={last}", True, {EXTENDED, CHART}),
        ("/usage/?group=day&range=365d", True, {EXTENDED, CHART}),
        ("/usage/?group=day&range=90d", True, {EXTENDED, CHART}),
        ("/usage/?group=key&start={four}&end={last}&bars=hour", True, {EXTENDED, CHART}),
        ("/usage/?group=key&measure=energy&start={four}&end={last}&bars=hour", True, {EXTENDED, CHART}),
        ("/usage/?group=key&start={eight}&end={last}&bars=hour", True, {EXTENDED, CHART}),
    ],
)
def test_a_first_load_is_light(portal, browser, served, signed_in, path, member, needs):
    [days] = portal.sql(
        "SELECT today - %s AS first, today - 4 AS four, today - 8 AS eight, today - 1 AS last FROM (SELECT (now() AT TIME ZONE 'UTC')::date AS today) now",
        DAYS,
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
