"""Markdown of `docs/` to what a template shows: prose as HTML, code apart from it, so that it is filled for its reader."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.token import Token

Link = Callable[[str], str]

LANGUAGES = {"sh": "curl", "python": "Python", "javascript": "JavaScript", "json": "JSON", "": ""}
READER = MarkdownIt("commonmark", {"html": False}).enable("table")


@dataclass(frozen=True, slots=True)
class Prose:
    html: SafeString


@dataclass(frozen=True, slots=True)
class Code:
    """`text` as it was written; `number` counts the blocks of a page."""

    number: int
    language: str
    text: str

    @property
    def id(self) -> str:
        return f"code-{self.number}"

    @property
    def title(self) -> str:
        return LANGUAGES.get(self.language, self.language)


@dataclass(frozen=True, slots=True)
class Section:
    """What search looks through: a heading and the words under it. `anchor` is empty above the first heading."""

    title: str
    anchor: str
    text: str


@dataclass(frozen=True, slots=True)
class Document:
    """`parts` without the title."""

    title: str
    parts: list[Prose | Code]
    sections: list[Section]
    headings: list[tuple[str, str]] = field(default_factory=list)  # anchor, title


def anchor(title: str) -> str:
    """As GitHub makes them, so that links within `docs/` hold in both places."""
    return re.sub(r"[^\w\- ]", "", title.lower()).strip().replace(" ", "-")


def plain(token: Token) -> str:
    """The words of an inline token, without marks."""
    return "".join(
        child.content if child.type in {"text", "code_inline"} else " " if "break" in child.type else ""
        for child in token.children or []
    )


def chapters(text: str) -> dict[str, str]:
    """A document cut at its `##` headings, by title; what stands above the first has the document's own title."""
    lines, fenced, title = text.splitlines(keepends=True), False, ""
    found: dict[str, list[str]] = {}
    for line in lines:
        fenced ^= line.startswith("```")
        if not fenced and line.startswith(("# ", "## ")):
            title = line.lstrip("#").strip()
        found.setdefault(title, []).append(line)
    return {name: "".join(each) for name, each in found.items()}


def document(text: str, *, link: Link) -> Document:
    """`link` makes the address of a link out of what the Markdown has."""
    tokens = READER.parse(text)
    assert tokens[0].type == "heading_open", "a page of the documentation begins with its title"
    title, body = plain(tokens[1]), tokens[3:]
    headings = prepare(body, link)
    return Document(title, list(parts(body)), list(sections(title, body)), headings)


def prepare(tokens: Sequence[Token], link: Link) -> list[tuple[str, str]]:
    """Headings get anchors and begin at the second level, links their addresses, cells without words are no headings."""
    levels = [int(token.tag[1]) for token in tokens if token.type == "heading_open"]
    shift = 2 - min(levels, default=2)
    headings = []
    for number, token in enumerate(tokens):
        if token.type in {"heading_open", "heading_close"}:
            token.tag = f"h{int(token.tag[1]) + shift}"
        if token.type == "heading_open":
            words = plain(tokens[number + 1])
            token.attrSet("id", anchor(words))
            if token.tag == "h2":
                headings.append((anchor(words), words))
        if token.type == "th_open" and not tokens[number + 1].content:
            token.tag = tokens[number + 2].tag = "td"
        elif token.type == "th_open":
            token.attrSet("scope", "col")
        for child in token.children or []:
            if child.type == "link_open":
                child.attrSet("href", link(str(child.attrGet("href"))))
    return headings


def parts(tokens: Sequence[Token]) -> Iterator[Prose | Code]:
    run: list[Token] = []
    number = 0
    for token in tokens:
        if token.type == "fence" and token.level == 0:
            if run:
                yield Prose(rendered(run))
            run, number = [], number + 1
            yield Code(number, token.info.strip(), token.content.rstrip("\n"))
        else:
            run.append(token)
    if run:
        yield Prose(rendered(run))


def rendered(tokens: Sequence[Token]) -> SafeString:
    """Without HTML of the source's own (`html` is off), so what is rendered is ours."""
    html: str = READER.renderer.render(list(tokens), READER.options, {})
    return mark_safe(html)  # noqa: S308


ROLES = {
    "thead_open": "rowgroup",
    "tbody_open": "rowgroup",
    "tr_open": "row",
    "th_open": "columnheader",
    "td_open": "cell",
}


def open_table(_renderer: Any, tokens: Sequence[Token], index: int, *_: Any) -> str:
    """A box that scrolls by itself, for the keyboard too. A heading row without words is left out.

    On small screens it is a list, so roles keep its meaning and each cell after the first names its column.
    """
    end = next(at for at in range(index, len(tokens)) if tokens[at].type == "thead_close")
    labels = [
        plain(tokens[at + 1]) for at in range(index, end) if tokens[at].tag in {"th", "td"} and tokens[at].nesting > 0
    ]
    column = 0
    for token in tokens[index : next(at for at in range(index, len(tokens)) if tokens[at].type == "table_close")]:
        if token.type in ROLES:
            token.attrSet("role", "cell" if token.tag == "td" else ROLES[token.type])
        if token.type == "tr_open":
            column = 0
        elif token.type == "td_open":
            if column and labels[column]:
                token.attrSet("data-label", labels[column])
            column += 1
    if not any(token.content for token in tokens[index:end]):
        for token in tokens[index + 1 : end + 1]:
            token.hidden, token.type, token.tag, token.children = True, "nothing", "", []
    return '<div class="table-wrap" tabindex="0" role="group" aria-label="Table"><table class="table" role="table">\n'


def close_table(*_: Any) -> str:
    return "</table></div>\n"


def nothing(*_: Any) -> str:
    return ""


def fence(_renderer: Any, tokens: Sequence[Token], index: int, *_: Any) -> str:
    """Code within a list."""
    return f'<pre class="code" tabindex="0">{escape(tokens[index].content)}</pre>\n'


READER.add_render_rule("table_open", open_table)
READER.add_render_rule("table_close", close_table)
READER.add_render_rule("nothing", nothing)
READER.add_render_rule("fence", fence)


def sections(title: str, tokens: Sequence[Token]) -> Iterator[Section]:
    heading, at, words = title, "", list[str]()
    for number, token in enumerate(tokens):
        if token.type == "heading_open":
            yield Section(heading, at, " ".join(words))
            heading, at, words = plain(tokens[number + 1]), str(token.attrGet("id")), []
        elif token.type == "inline" and tokens[number - 1].type != "heading_open":
            words.append(plain(token))
        elif token.type == "fence":
            words.append(token.content)
    yield Section(heading, at, " ".join(words))
