"""The catalogs of translations are whole and say what the tree says; no template has text that they do not know."""

import re
from collections import Counter
from datetime import UTC, datetime

import pytest
from django.conf import settings
from django.template import Context, Template
from django.utils import translation

from apps.accounts.times import FORMS
from apps.portal.words import WORDS
from cango_portal import catalogs
from tests.house.wording import unmarked

ROOT = settings.ROOT
# Areas whose catalogs have texts that are not yet translated. This shrinks to nothing.
OPEN: set[str] = set()
SAME = {"Y-m-d", "j", "H:i", "H:i:s", "H:i T", "H:i:s T", "H:i:s.u", "T", "e", "c", "U"}  # forms every language shares
MARKS = re.compile(r"%\(\w+\)[a-z]|%[a-z]|\{\w*\}|</?\w+[^>]*>")


@pytest.fixture(scope="module")
def found() -> dict[str, dict[catalogs.Id, catalogs.Message]]:
    return catalogs.extracted()


@pytest.mark.parametrize("language", catalogs.LANGUAGES)
def test_catalogs_are_up_to_date_and_every_text_has_a_translation(language, found) -> None:
    """`make messages` takes texts out; what has no translation then is written by hand, at once."""
    for area, messages in found.items():
        said = catalogs.translated(area, language)
        assert set(said) == set(messages), f"{area}: run make messages"
        if area not in OPEN:
            assert [key for key, words in said.items() if not all(words)] == []
            if messages:
                assert catalogs.source(area, language).read_text() == catalogs.written(area, language, messages, said)


@pytest.mark.parametrize("language", catalogs.LANGUAGES)
def test_a_translation_has_the_tags_and_places_of_its_text(language, found) -> None:
    wrong = []
    for area, messages in found.items():
        for key, words in catalogs.translated(area, language).items():
            message = messages[key]
            texts = {message.singular, message.plural or message.singular}
            for word in filter(None, words):
                if Counter(MARKS.findall(word)) not in [Counter(MARKS.findall(text)) for text in texts]:
                    wrong.append(f"{area}: {word}")
    assert wrong == []


def test_one_text_has_one_translation(found) -> None:
    for language in catalogs.LANGUAGES:
        said: dict[catalogs.Id, set[tuple[str, ...]]] = {}
        for area in found:
            for key, words in catalogs.translated(area, language).items():
                said.setdefault(key, set()).add(words)
        assert {key: words for key, words in said.items() if len(words) > 1} == {}


def test_templates_have_no_text_outside_the_tags_of_translation() -> None:
    assert [
        f"{path}:{line} {text}"
        for path in catalogs.files()
        if path.endswith(".html")
        and not path.startswith(("templates/allauth/", "templates/_brand"))  # never shown; a name
        for line, text in unmarked((ROOT / path).read_text())
    ] == []


@pytest.mark.parametrize(
    ("template", "texts"),
    [
        ("<p>Hello</p>", ["Hello"]),
        ('<a title="Go on">{{ name }}</a>', ["Go on"]),
        ('<p class="x">{% if a %}one{% endif %}</p>', ["one"]),
        ('<p title="{% translate "Go" %}">{% blocktranslate %}Hello <b>you</b>{% endblocktranslate %} 3 kWh</p>', []),
        ("<pre>code</pre>{# a note #}{{ x|default:'word' }}<code>word</code>", []),
    ],
)
def test_planted_text_is_found(template: str, texts: list[str]) -> None:
    assert [text for _, text in unmarked(template)] == texts


def test_scripts_say_what_the_page_brings_them() -> None:
    scripts = "".join(path.read_text() for path in (ROOT / "static/portal").glob("*.js"))
    assert set(re.findall(r"\bword\('([^']+)'", scripts)) == set(WORDS)


def test_every_form_of_a_date_has_one_in_each_language() -> None:
    used = {
        form
        for path in (ROOT / "templates").rglob("*")
        if path.suffix in {".html", ".txt"}
        for form in re.findall(r"\|date:[\"']([^\"']+)[\"']", path.read_text())
    }
    assert used - SAME == set(FORMS["zh-hans"])
    in_code = {
        form
        for path in (ROOT / "apps").rglob("*.py")
        for call in re.findall(r"\bwritten\((.+)\)", path.read_text())
        for form in re.findall(r'"([^"]*[jHY][^"]*)"', call)
    }
    assert len(in_code) > 4
    assert in_code - SAME <= set(FORMS["zh-hans"])


def test_a_date_is_written_in_the_readers_language() -> None:
    shown = Template('{% load tz %}{{ at|date:"j M Y, H:i" }}')
    context = Context({"at": datetime(2026, 11, 28, 9, 5, tzinfo=UTC)})
    with translation.override("en"):
        assert shown.render(context) == "28 Nov 2026, 09:05"
    with translation.override("zh-hans"):
        assert shown.render(context) == "2026年11月28日 09:05"
