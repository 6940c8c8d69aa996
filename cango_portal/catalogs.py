"""Catalogs of translations: texts are taken out of code and templates into `.po`, and compiled into the `.mo` that Django reads.

    python -m cango_portal.catalogs            compile what is older than its source
    python -m cango_portal.catalogs update     take texts out of the tree first

An app's texts, and those of its templates, lie in `apps/<app>/locale`; what all pages share in `cango_portal/locale`. One
English text has one translation: what another catalog has already said is taken over. Babel does what GNU gettext would,
so no system package is needed. A catalog that was never compiled costs its translations and nothing else.
"""

from __future__ import annotations

import io
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LANGUAGES = ("zh_Hans",)
# Folders of templates that are not named after their app; those without one are shared.
TEMPLATES = {"account": "accounts", "mfa": "accounts", "allauth": "accounts"}
# What the staff read stays English, as do the pages of the double of Stripe, which stand for Stripe's own.
ENGLISH = ("templates/admin/", "templates/billing/sandbox/", "apps/billing/sandbox/")
KEYWORDS: dict[str, tuple[int | tuple[int, str], ...] | None] = {
    "gettext": None,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext": (1, 2),
    "ngettext_lazy": (1, 2),
    "pgettext": ((1, "c"), 2),
    "pgettext_lazy": ((1, "c"), 2),
    "npgettext": ((1, "c"), 2, 3),
}
HEADER = """# {area}: the texts of the pages, {language}. `make messages` brings it up to date; words are in docs/translations.md.
msgid ""
msgstr ""
"Language: {language}\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"
"Plural-Forms: {plural}\\n"

"""

Id = tuple[str | None, str]  # context and English text


@dataclass(frozen=True, slots=True)
class Message:
    """A text to translate: `plural` where it counts something, `files` where it stands."""

    singular: str
    plural: str
    context: str | None
    files: tuple[str, ...]

    @property
    def id(self) -> Id:
        return self.context, self.singular


def folder(area: str) -> Path:
    return ROOT / ("cango_portal" if area == "shared" else f"apps/{area}") / "locale"


def source(area: str, language: str) -> Path:
    return folder(area) / language / "LC_MESSAGES" / "django.po"


def areas() -> list[str]:
    return ["shared", *sorted(path.parent.name for path in (ROOT / "apps").glob("*/__init__.py"))]


def area_of(path: str) -> str:
    """The area of a file, by its path below the root."""
    parts = path.split("/")
    if parts[0] == "apps":
        return parts[1]
    if parts[0] == "templates" and len(parts) > 2:
        app = TEMPLATES.get(parts[1], parts[1])
        return app if (ROOT / "apps" / app).is_dir() else "shared"
    return "shared"


def files() -> Iterator[str]:
    """Every file with texts, by its path below the root."""
    found = [*(ROOT / "apps").rglob("*.py"), *(ROOT / "cango_portal").glob("*.py")]
    found += [path for path in (ROOT / "templates").rglob("*") if path.suffix in {".html", ".txt"}]
    for path in sorted(found):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(ENGLISH) and "/migrations/" not in name:
            yield name


def texts(name: str, content: str) -> Iterator[tuple[str | None, str, str]]:
    """(context, text, plural or "") of each marked text of a file."""
    from babel.messages.extract import extract
    from django.utils.translation.template import templatize

    if not name.endswith(".py"):
        if not re.search(r"translate|_\(", content):
            return
        # Python enough for its tokens: brackets around it, so that no line is one of its own.
        content = f"(\n{templatize(content, origin=name)}\n)"
    elif "gettext" not in content:
        return
    keywords = {"_": None, **KEYWORDS} if not name.endswith(".py") else KEYWORDS
    for _, found, _, context in extract("python", io.BytesIO(content.encode()), keywords=keywords):
        singular, plural = found if isinstance(found, tuple) else (found, "")
        yield context, singular, plural


def extracted() -> dict[str, dict[Id, Message]]:
    """The texts of the tree by area."""
    found: dict[str, dict[Id, Message]] = {area: {} for area in areas()}
    for name in files():
        for context, singular, plural in texts(name, (ROOT / name).read_text()):
            known = found[area_of(name)]
            before = known.get((context, singular))
            where = before.files if before else ()
            known[context, singular] = Message(
                singular,
                plural or (before.plural if before else ""),
                context,
                where if name in where else (*where, name),
            )
    return found


def translated(area: str, language: str) -> dict[Id, tuple[str, ...]]:
    """What a catalog says: one text, or as many as the language has plurals."""
    from babel.messages.pofile import read_po

    path = source(area, language)
    if not path.exists():
        return {}
    with path.open("rb") as opened:
        catalog = read_po(opened, locale=language)
    return {
        (message.context, message.id if isinstance(message.id, str) else message.id[0]): (
            (message.string,) if isinstance(message.string, str) else tuple(message.string or ())
        )
        for message in catalog
        if message.id
    }


def written(area: str, language: str, messages: dict[Id, Message], said: dict[Id, tuple[str, ...]]) -> str:
    """A catalog as its file has it: sorted by file, without dates and lines, so that engineers do not meet in it."""
    from babel.messages.catalog import Catalog
    from babel.messages.pofile import write_po

    catalog = Catalog(locale=language)
    for message in sorted(messages.values(), key=lambda each: (each.files[0], each.singular, each.context or "")):
        string = said.get(message.id, ("",))
        catalog.add(
            (message.singular, message.plural) if message.plural else message.singular,
            string if message.plural else string[0],
            locations=[(name, 0) for name in message.files],
            context=message.context,
        )
    output = io.BytesIO()
    write_po(output, catalog, width=120, omit_header=True, include_lineno=False)
    head = HEADER.format(
        area=area, language=language, plural=f"nplurals={catalog.num_plurals}; plural={catalog.plural_expr};"
    )
    return head + output.getvalue().decode().strip() + "\n"


def update() -> dict[str, int]:
    """Bring every catalog up to date with the tree. How many texts of each language have no translation."""
    found = extracted()
    left = {}
    for language in LANGUAGES:
        said = {area: translated(area, language) for area in found}
        anywhere = {key: words for each in said.values() for key, words in each.items() if all(words)}
        left[language] = 0
        for area, messages in found.items():
            path = source(area, language)
            if not messages:
                path.unlink(missing_ok=True)
                continue
            own = {**anywhere, **{key: words for key, words in said[area].items() if all(words)}}
            left[language] += sum(key not in own for key in messages)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(written(area, language, messages, own))
    return left


def stale() -> list[Path]:
    """Sources that were never compiled, or not since they changed."""
    found = []
    for path in [*ROOT.glob("apps/*/locale/*/LC_MESSAGES/*.po"), *ROOT.glob("cango_portal/locale/*/LC_MESSAGES/*.po")]:
        compiled = path.with_suffix(".mo")
        if not compiled.exists() or compiled.stat().st_mtime_ns <= path.stat().st_mtime_ns:
            found.append(path)
    return found


def compile_stale() -> int:
    """How many were compiled. Whole or not at all, so several may do it at once and a running portal reads what is whole."""
    paths = stale()
    if paths:
        from babel.messages.mofile import write_mo
        from babel.messages.pofile import read_po
    for path in paths:
        with path.open("rb") as opened:
            catalog = read_po(opened, locale=path.parts[-3])
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as output:
            write_mo(output, catalog)
        Path(output.name).chmod(0o644)
        Path(output.name).replace(path.with_suffix(".mo"))
    return len(paths)


def main(arguments: list[str]) -> None:
    if arguments == ["update"]:
        for language, left in update().items():
            print(f"{language}: {left} texts without a translation")
    compile_stale()


if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "cango_portal.settings")
    main(sys.argv[1:])
