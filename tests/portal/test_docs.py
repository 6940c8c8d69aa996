"""The documentation in the portal: every page, every link, the reader's own words in the examples, search."""

import html
import json
import re

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from drf_spectacular.generators import SchemaGenerator

from apps.portal.docs import finding, markdown, pages, reference
from tests import make
from tests.portal.test_pages import Inline


@pytest.fixture
def reader(db):
    make.model(kind="chat", name="acme/small-chat")
    owner = make.user()
    organization = make.organization(owner=owner)
    _, secret = make.api_key(organization, user=owner)
    client = Client()
    client.force_login(owner)
    return client, secret


def code(client: Client, url: str) -> str:
    found = re.findall(r'<pre class="code"[^>]*>(.*?)</pre>', client.get(url).content.decode(), re.DOTALL)
    return html.unescape("\n".join(found))


@pytest.mark.story
def test_every_page_is_there_and_every_link_leads_somewhere(db):
    client = Client()
    seen: set[str] = set()
    waiting = ["/docs/"]
    while waiting:
        url = waiting.pop()
        answer = client.get(url)
        assert answer.status_code == 200, url
        parser = Inline()
        parser.feed(answer.content.decode())
        assert [each for each in parser.found if not each.startswith("a href=https://")] == [], url
        text = answer.content.decode()
        ids = re.findall(r'\sid="([^"]+)"', text)
        assert len(ids) == len(set(ids)), url
        for target in re.findall(r'href="([^"]*)"', text.partition("<main")[2].partition("</main>")[0]):
            path, _, anchor = target.partition("#")
            if not path:
                assert anchor in ids, f"{url} links to #{anchor}"
            elif path.startswith("/docs/") and "?" not in path and path not in seen:
                waiting.append(path)
                seen.add(path)
    assert {page.url for page in pages.every()} | {each.url for each in reference.chapters().values()} <= seen
    assert client.get("/docs/nothing/").status_code == 404
    assert client.get("/docs/reference/nothing/").status_code == 404


def test_links_to_headings_of_other_pages_hold(db):
    anchors = {page.url: {section.anchor for section in page.document.sections} for page in pages.every()}
    for page in pages.every():
        for part in page.document.parts:
            for target in re.findall(r'href="([^"]*)"', getattr(part, "html", "")):
                path, _, anchor = target.partition("#")
                if anchor and path in anchors:
                    assert anchor in anchors[path], f"{page.slug} links to {target}"


def test_every_chapter_of_the_api_has_a_page():
    chapters = markdown.chapters((settings.ROOT / "docs" / "api.md").read_text())
    assert set(chapters) == {page.chapter for page in pages.every() if page.source == pages.API}


@pytest.mark.story
def test_examples_are_filled_for_their_reader(reader):
    client, secret = reader
    mine = code(client, "/docs/quick-start/")
    assert "http://testserver/v1" in mine
    assert '"model": "acme/small-chat"' in mine
    prefix = re.search(r"Bearer (cango_\w+)…", mine)[1]
    assert secret.startswith(prefix)
    assert len(prefix) <= 20
    visitors = code(Client(), "/docs/quick-start/")
    assert "Bearer cango_…" in visitors
    assert "acme/small-chat" in visitors
    assert "http://testserver/v1/models" in code(client, "/docs/curl/")
    for language in ("curl", "from openai import OpenAI", 'import OpenAI from "openai"'):
        for guide in ("quick-start", "streaming", "tools", "json"):
            assert language in code(client, f"/docs/{guide}/"), guide


def test_no_more_is_asked_of_the_database_for_a_longer_page(reader, django_assert_num_queries):
    client, _ = reader
    client.get("/docs/quick-start/")  # what is kept for a while
    with CaptureQueriesContext(connection) as captured:
        client.get("/docs/quick-start/")
    for _ in range(3):
        make.model()
    with django_assert_num_queries(len(captured)):
        client.get("/docs/quick-start/")


def test_errors_are_found_by_their_code(db):
    text = Client().get("/docs/?q=insufficient_credit").content.decode()
    assert '<a href="/docs/errors/">Errors</a>' in text
    assert finding.search("Rate LIMITS")[0].title == "Rate limits"
    assert finding.search("retry_me_never") == []
    assert "Nothing has all of these words" in Client().get("/docs/?q=retry_me_never").content.decode()
    assert "&lt;script&gt;" in Client().get("/docs/?q=<script>").content.decode()
    assert finding.search("POST /v1/embeddings")[0].url.endswith("#embeddings")


@pytest.mark.story
def test_the_reference_has_every_operation_and_shape(db):
    schema = SchemaGenerator().get_schema(request=None, public=True)
    chapters = reference.chapters().values()
    operations = {(each.method, each.path) for chapter in chapters for each in chapter.operations}
    assert operations == {(method.upper(), path) for path, each in schema["paths"].items() for method in each}
    assert len(json.dumps(schema)) > 10_000
    for chapter in chapters:
        text = Client().get(chapter.url).content.decode()
        for each in chapter.operations:
            assert each.path in html.unescape(text)


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        ({"anyOf": [{"type": "integer", "minimum": 1, "maximum": 128}, {"type": "null"}]}, "integer, 1 to 128 or null"),
        ({"type": "array", "items": {"type": "string", "maxLength": 5}}, "list of string, up to 5 characters"),
        ({"enum": ["asc", None]}, '"asc", null'),
        ({"const": True}, "true"),
        ({"type": ["string", "null"]}, "string or null"),
        ({}, "anything"),
    ],
)
def test_types_in_words(schema, words):
    assert "".join(each.text for each in reference.type_of(schema)) == words


def test_a_table_of_the_docs_keeps_its_meaning_as_a_list():
    """On small screens its rows are blocks: roles say what they are, and each cell after the first has its heading."""
    [prose] = markdown.document("# T\n\n| Code | What `it` is |\n|---|---|\n| a | b |\n", link=str).parts
    assert '<table class="table" role="table">' in prose.html
    assert '<th scope="col" role="columnheader">Code</th>' in prose.html
    assert '<td role="cell">a</td>' in prose.html
    assert '<td role="cell" data-label="What it is">b</td>' in prose.html


def test_markdown_has_no_html_of_its_own_and_tables_scroll_by_themselves():
    made = markdown.document(
        "# T\n\n<b>x</b>\n\n| | |\n|---|---|\n| `a` | b |\n\n- one\n\n  ```\n  x <y>\n  ```\n", link=str
    )
    [prose] = made.parts
    assert "&lt;b&gt;x" in prose.html
    assert "<thead" not in prose.html
    assert '<div class="table-wrap" tabindex="0"' in prose.html
    assert "x &lt;y&gt;" in prose.html
    assert 'role="cell">b<' in prose.html
    with pytest.raises(LookupError):
        pages.find("quick-start").link("../money.md")
