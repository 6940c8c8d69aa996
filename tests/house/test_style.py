"""House rules over the real tree, and each checker on a planted fault."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from django.conf import settings

from tests.house.style import HOMELESS, environment_reads, inline, names_the_settings, swallowed

ROOT: Path = settings.ROOT


def sources() -> Iterator[tuple[str, str]]:
    for top in ("apps", "cango_portal"):
        for file in sorted((ROOT / top).rglob("*.py")):
            yield file.relative_to(ROOT).as_posix(), file.read_text()


def templates() -> Iterator[tuple[str, str]]:
    for file in [*(ROOT / "templates").rglob("*.html"), *(ROOT / "apps").rglob("*.html")]:
        yield file.relative_to(ROOT).as_posix(), file.read_text()


def test_every_module_has_a_noun() -> None:
    named = [
        path.relative_to(ROOT).as_posix()
        for top in ("apps", "cango_portal", "tests")
        for path in (ROOT / top).rglob("*")
        if path.stem in HOMELESS and path.suffix in {"", ".py"} and "node_modules" not in path.parts
    ]
    assert named == []


def test_nothing_catches_everything_and_does_nothing() -> None:
    assert [f"{path}:{line}" for path, source in sources() for line in swallowed(source)] == []


def test_only_the_settings_read_the_environment() -> None:
    """The launcher and the benches make the environment and the runner has its own configuration; entry points name the settings module."""
    readers = [
        f"{path}:{line}"
        for path, source in sources()
        if path != "cango_portal/settings.py"
        and not path.startswith(("cango_portal/launcher/", "cango_portal/bench/", "apps/runner/"))
        and not names_the_settings(source)
        for line in environment_reads(source)
    ]
    assert readers == []


def test_templates_hold_no_inline_style_script_or_handler() -> None:
    assert [f"{path}:{line} {what}" for path, source in templates() for line, what in inline(source)] == []


def test_what_comes_from_others_is_unchanged_and_has_its_licence() -> None:
    """A line of sums in the README of its folder."""
    folder = ROOT / "static" / "portal" / "uplot"
    sums = [line.split() for line in (folder / "README.txt").read_text().splitlines() if line.endswith(".js")]
    assert [name for _, name in sums] == sorted(path.name for path in folder.glob("*.js"))
    assert [sha256((folder / name).read_bytes()).hexdigest() for _, name in sums] == [digest for digest, _ in sums]
    assert "MIT" in (folder / "uPlot-LICENSE.txt").read_text()


def test_every_app_has_a_readme() -> None:
    """Its invariants, in 8 to 30 lines."""
    lengths = {
        app.name: len((app / "README.md").read_text().splitlines()) if (app / "README.md").exists() else 0
        for app in (ROOT / "apps").iterdir()
        if (app / "__init__.py").exists()
    }
    assert {name: length for name, length in lengths.items() if not 8 <= length <= 30} == {}


@pytest.mark.parametrize(
    ("template", "what"),
    [
        ('<p style="color: red">x</p>', "style attribute on <p>"),
        ('<p {% if a %}style="x"{% endif %}>', "style attribute on <p>"),
        ("<style>p {}</style>", "<style> element"),
        ("<script>alert(1)</script>", "inline script"),
        ("<script>{{ data }}</script>", "inline script"),
        ('<button\n  onclick="go()">', "onclick handler on <button>"),
        ('<a href="javascript:go()">', "javascript: in href of <a>"),
        ('<script src="https://cdn.example/x.js"></script>', "script from elsewhere"),
    ],
)
def test_a_planted_inline_part_is_found(template: str, what: str) -> None:
    assert [found for _, found in inline(f"\n{template}")] == [what]


def test_clean_templates_pass() -> None:
    assert (
        inline(
            '{% comment %}<p style="x">{% endcomment %}{# <script>x</script> #}'
            '<script src="{% static "portal/live.js" %}" defer></script>'
            '<script type="application/json" id="d">{"a": 1}</script><option value="on">once</option>'
        )
        == []
    )


def test_planted_environment_reads_are_found() -> None:
    assert list(environment_reads("import os\nx = os.environ['A']\ny = os.getenv('B')")) == [2, 3]
    assert list(environment_reads("from os import environ")) == [1]
    assert names_the_settings('import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "x")')
    assert not names_the_settings('import os\nos.environ.setdefault("DJANGO_SETTINGS_MODULE", "x")\nos.environ["A"]')


def test_planted_silence_is_found() -> None:
    assert list(swallowed("try:\n    f()\nexcept Exception:\n    pass")) == [3]
    assert list(swallowed("try:\n    f()\nexcept:\n    pass")) == [3]
    assert list(swallowed("try:\n    f()\nexcept (ValueError, BaseException):\n    ...")) == [3]
    assert list(swallowed("try:\n    f()\nexcept ValueError:\n    pass")) == []
    assert list(swallowed("try:\n    f()\nexcept Exception:\n    log.exception('x')")) == []
