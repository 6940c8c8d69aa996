"""Search over the documentation: every word must be there, headings count most. In memory: it is a few hundred sections."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from apps.portal.docs import pages, reference

MOST = 30
AROUND = 160  # characters shown of a section


@dataclass(frozen=True, slots=True)
class Found:
    title: str
    where: str
    url: str
    excerpt: str


@dataclass(frozen=True, slots=True)
class Entry:
    title: str
    where: str
    url: str
    text: str


@cache
def entries() -> list[Entry]:
    found = [
        Entry(section.title, page.title, f"{page.url}#{section.anchor}" if section.anchor else page.url, section.text)
        for page in pages.every()
        for section in page.document.sections
    ]
    for chapter in reference.chapters().values():
        found += [
            Entry(
                f"{each.method} {each.path}",
                "API reference",
                f"{chapter.url}#{each.id}",
                " ".join([each.summary, each.description, *(field.name for body in each.bodies for field in body.fields)]),
            )
            for each in chapter.operations
        ]  # fmt: skip
    return found


def search(query: str) -> list[Found]:
    words = query.lower().split()
    if not words:
        return []
    hits = []
    for place, entry in enumerate(entries()):
        title, text = f"{entry.title} {entry.where}".lower(), entry.text.lower()
        if all(word in title or word in text for word in words):
            hits.append((-sum(word in title for word in words), place, entry))
    return [Found(entry.title, entry.where, entry.url, excerpt(entry.text, words)) for _, _, entry in sorted(hits, key=lambda hit: hit[:2])[:MOST]]  # fmt: skip


def excerpt(text: str, words: list[str]) -> str:
    """The text around the first word that it has, from the beginning of a word to the end of one."""
    flat = " ".join(text.split())
    at = min((found for word in words if (found := flat.lower().find(word)) >= 0), default=0)
    begin = flat.rfind(" ", 0, max(at - AROUND // 3, 0)) + 1
    end = flat.find(" ", begin + AROUND)
    cut = flat[begin:] if end < 0 else flat[begin:end]
    return f"{'… ' if begin else ''}{cut}{' …' if end >= 0 else ''}"
