"""Documentation for visitors and for customers: the same text, its examples filled for whoever reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from apps.catalog import offers
from apps.keys.models import APIKey
from apps.portal.docs import finding, pages, reference
from apps.portal.docs.markdown import Code, Prose
from cango_portal import database

# What the examples say where a reader's own goes. They run as they are written: tests/compat/test_docs.py.
ADDRESS, KEY = "http://localhost:8000", "cango_…"
EXAMPLES = {"chat": "cango/demo-chat", "embeddings": "sentence-transformers/all-minilm-l6-v2", "ocr": "rapidocr/pp-ocrv6"}  # fmt: skip
LONGEST_QUERY = 200


@dataclass(frozen=True, slots=True)
class Filled:
    """Code as its reader may use it."""

    code: Code
    text: str


class Filling:
    """The address the reader came by, models on offer, and the beginning of a key of theirs."""

    def __init__(self, request: HttpRequest) -> None:
        organization = getattr(request, "organization", None)
        key = APIKey.objects.active().filter(organization=organization).first() if organization else None
        self.key = f"{key.prefix}…" if key else KEY
        self.address = request.build_absolute_uri("/").rstrip("/")
        self.models = dict[str, str]()
        on_offer = database.run(offers.offers())
        for kind, example in EXAMPLES.items():
            names = [offer.name for offer in on_offer if offer.kind == kind]
            if names and example not in names:
                self.models[example] = names[0]

    def fill(self, code: Code) -> Filled:
        text = code.text
        if code.language == "sh" and "BASE=" not in text:
            text = text.replace("$BASE", ADDRESS).replace("$KEY", KEY)
        for example, model in self.models.items():
            text = text.replace(example, model)
        return Filled(code, text.replace(ADDRESS, self.address).replace(KEY, self.key))


def contents() -> dict[str, Any]:
    return {"groups": pages.groups(), "chapters": list(reference.chapters().values())}


@require_safe
def index(request: HttpRequest) -> HttpResponse:
    """The table of contents, or what a search found."""
    query = request.GET.get("q", "").strip()[:LONGEST_QUERY]
    context = {**contents(), "query": query, "found": finding.search(query), "most": finding.MOST}
    return render(request, "portal/docs/index.html", context)


@require_safe
def page(request: HttpRequest, slug: str) -> HttpResponse:
    shown = pages.find(slug)
    if shown is None:
        raise Http404
    filling = Filling(request)
    parts = [part if isinstance(part, Prose) else filling.fill(part) for part in shown.document.parts]
    return render(request, "portal/docs/page.html", {**contents(), "page": shown, "parts": parts, "current": slug})


@require_safe
def chapter(request: HttpRequest, slug: str) -> HttpResponse:
    shown = reference.chapters().get(slug)
    if shown is None:
        raise Http404
    return render(request, "portal/docs/reference.html", {**contents(), "chapter": shown, "current": slug})
