"""The pages of /docs/: what they are, where their Markdown is, their parts and their words. Read once for a process.

Customers' text is written once, in `docs/`: whole files are guides, and each chapter of `docs/api.md` is a page.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

from django.conf import settings
from django.urls import reverse

from apps.portal.docs import markdown
from apps.portal.docs.markdown import Document

API = "api.md"


@dataclass(frozen=True)
class Page:
    """`source` is a file below `docs/`; with `chapter` one chapter of it."""

    slug: str
    title: str
    says: str
    source: str
    chapter: str = ""

    @property
    def url(self) -> str:
        return reverse("portal:docs-page", args=[self.slug])

    @cached_property
    def document(self) -> Document:
        text = (Path(settings.ROOT) / "docs" / self.source).read_text()
        if self.chapter:
            text = markdown.chapters(text)[self.chapter]
        return markdown.document(text, link=self.link)

    def link(self, target: str) -> str:
        """Links between files of `docs/` and to chapters become links between pages; addresses of ours stay."""
        if "://" in target or target.startswith("/"):
            return target
        path, _, anchor = target.partition("#")
        source = str((Path(self.source).parent / path).as_posix()) if path else self.source
        source = source.removeprefix("guides/../")
        if source == API and anchor in chapter_pages():
            return chapter_pages()[anchor].url
        page = next((each for each in every() if each.source == source and not each.chapter), None)
        if page is None:
            raise LookupError(f"{self.source} links to {target}, which is no page of the documentation")
        return f"{page.url}#{anchor}" if anchor else page.url


@dataclass(frozen=True)
class Group:
    title: str
    pages: list[Page]


@cache
def groups() -> list[Group]:
    return [
        Group(
            "Start",
            [
                Page("quick-start", "Quick start", "From nothing to a first answer", "guides/quick-start.md"),
                Page("keys", "Keys and scopes", "What a key may do, where, and until when", API, "API"),
            ],
        ),
        Group(
            "Guides",
            [
                Page("chat", "Chat and embeddings", "Parameters, images, vectors, ranking", API, "Chat and embeddings"),
                Page("streaming", "Streaming", "Words as they are written", "guides/streaming.md"),
                Page("tools", "Tools", "A model that calls your functions", "guides/tools.md"),
                Page("json", "JSON", "Answers that fit a schema", "guides/json.md"),
                Page("responses", "Responses", "The same by OpenAI's newer shape", API, "Responses"),
                Page("files", "Files", "What batches read and write", API, "Files"),
                Page("batches", "Batches", "Up to 50,000 requests at half the price", API, "Batches"),
                Page("jobs", "Jobs", "Work that may wait, and your organization", API, "Jobs"),
                Page("webhooks", "Webhooks", "Your server is told", "webhooks.md"),
                Page("budgets", "Budgets", "Holds, charges, and three kinds of limits", "guides/budgets.md"),
                Page("regions", "Regions", "Where your work may run", "guides/regions.md"),
                Page("energy", "Energy", "How it is measured, and how well", "guides/energy.md"),
            ],
        ),
        Group(
            "Reference",
            [
                Page("errors", "Errors", "Every code, and what to do", API, "Errors"),
                Page("rate-limits", "Rate limits", "What counts, and the headers that say so", API, "Rate limits"),
                Page("retries", "Sending it again", "One charge, however often it is sent", API, "Sending it again"),
                Page("curl", "Every address with curl", "A line for each", API, "Every address with curl"),
            ],
        ),
    ]


@cache
def every() -> list[Page]:
    return [page for group in groups() for page in group.pages]


@cache
def chapter_pages() -> dict[str, Page]:
    return {markdown.anchor(page.chapter): page for page in every() if page.chapter}


def find(slug: str) -> Page | None:
    return next((page for page in every() if page.slug == slug), None)
