"""Search engines find the pages that are for everybody, and nothing that is somebody's own; a page leaves compressed."""

import gzip
import re
from urllib.robotparser import RobotFileParser

import pytest
from django.conf import settings

from apps.portal.docs import pages
from tests import make

PRIVATE = [
    "/dashboard/", "/jobs/", "/billing/", "/settings/members/", "/invite/some-token/", "/mails/stop/some-token/",
    "/password/reset/", "/admin/", "/mail/", "/v1/models",
]  # fmt: skip


def test_robots_asks_no_database_and_names_nothing_private(client):
    """Without the fixture `db` a question to the database fails the test."""
    answer = client.get("/robots.txt")
    assert (answer.status_code, answer["Content-Type"]) == (200, "text/plain; charset=utf-8")
    assert answer.content.decode() == (
        "User-agent: *\nAllow: /$\nAllow: /models/\nAllow: /pricing/\nAllow: /docs/\nAllow: /status/\nAllow: /terms/\n"
        "Allow: /privacy/\nAllow: /data/\nAllow: /signup/\nAllow: /login/\nAllow: /static/\nDisallow: /\n\n"
        f"Sitemap: {settings.BASE_URL}/sitemap.xml\n"
    )


@pytest.mark.story
def test_the_sitemap_has_each_public_page_and_no_other(client, db):
    make.model(name="acme/first")
    make.model(name="acme/unlisted", listed=False)
    answer = client.get("/sitemap.xml")
    assert (answer.status_code, answer["Content-Type"]) == (200, "application/xml; charset=utf-8")
    found = re.findall(r"<loc>(.*?)</loc>", answer.content.decode())
    front, *others = (address.removeprefix(settings.BASE_URL) for address in found)
    assert front == "/"
    assert len(others) == len(set(others))
    assert [path for path in others if path.startswith("/models/")] == ["/models/", "/models/acme/first/"]
    assert {page.url for page in pages.every()} | {"/docs/reference/inference/", "/pricing/"} <= set(others)
    rules = RobotFileParser()
    rules.parse(client.get("/robots.txt").content.decode().splitlines())
    assert [path for path in others if not rules.can_fetch("any", path)] == []
    assert [path for path in PRIVATE if rules.can_fetch("any", path)] == []
    assert client.get("/docs/reference/inference/").status_code == client.get("/models/acme/first/").status_code == 200


def test_pages_leave_compressed_for_who_takes_that(client, db):
    plain = client.get("/terms/")
    packed = client.get("/terms/", headers={"accept-encoding": "gzip, br"})
    assert "Content-Encoding" not in plain
    assert packed["Content-Encoding"] == "gzip"
    assert "Accept-Encoding" in packed["Vary"]
    assert "Accept-Encoding" in plain["Vary"]
    assert b"<h1" in gzip.decompress(packed.content)
    assert len(packed.content) == int(packed["Content-Length"]) < len(plain.content) / 2


@pytest.mark.parametrize(
    "path", ["/settings/security/", "/keys/new/", "/settings/webhooks/new/", "/dashboard/", "/terms/?guess"]
)
def test_what_a_session_gets_is_not_compressed(client, db, path):
    """Its length would tell which guess in the query string is in the page too."""
    owner = make.user()
    make.organization(owner=owner)
    client.force_login(owner)
    answer = client.get(path, headers={"accept-encoding": "gzip"})
    assert (answer.status_code, len(answer.content) > 2_000) == (200, True)
    assert "Content-Encoding" not in answer


def test_what_leaves_in_parts_is_not_compressed(client, db):
    owner = make.user()
    make.organization(owner=owner)
    client.force_login(owner)
    answer = client.get("/settings/audit.csv", headers={"accept-encoding": "gzip"})
    assert (answer.status_code, answer.streaming) == (200, True)
    assert "Content-Encoding" not in answer
