"""A browser's part of HTTP: cookies, pages, and forms filled in as a person would."""

from dataclasses import dataclass, field
from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx


class PageProblem(Exception):
    """A page did not do what a person would expect; the message says which and what."""


@dataclass
class Form:
    action: str
    method: str
    fields: dict[str, list[str]] = field(default_factory=dict)  # several boxes may be ticked under one name
    buttons: set[str] = field(default_factory=set)

    @property
    def names(self) -> set[str]:
        return self.fields.keys() | self.buttons


class Forms(HTMLParser):
    """The forms of a page's `main` with the values they would send untouched: those around it are on every page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[Form] = []
        self.open: Form | None = None
        self.select = ""
        self.inside = False
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "main":
            self.inside = True
        elif not self.inside:
            return
        elif tag == "form":
            self.open = Form(values.get("action", ""), values.get("method", "get").lower())
            self.found.append(self.open)
        elif self.open is None:
            return
        elif tag == "option" and self.select:
            if "selected" in values or self.select not in self.open.fields:
                self.open.fields[self.select] = [values.get("value", "")]
        elif not values.get("name"):
            return
        elif tag == "select":
            self.select = values["name"]
        elif tag == "button":
            self.open.buttons.add(values["name"])
        elif tag in {"input", "textarea"}:
            unticked = values.get("type") in {"checkbox", "radio"} and "checked" not in values
            if not unticked:
                self.open.fields.setdefault(values["name"], []).append(values.get("value", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "main":
            self.inside = False
        elif tag == "form":
            self.open = None
        elif tag == "select":
            self.select = ""


class Browser:
    def __init__(self, base_url: str) -> None:
        self.client = httpx.Client(base_url=base_url, follow_redirects=True, timeout=30)

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *error: object) -> None:
        self.client.close()

    def open(self, path: str) -> httpx.Response:
        """A page that answers 200. Raises PageProblem."""
        return self.check(self.client.get(path))

    def submit(self, page: httpx.Response, **values: str) -> httpx.Response:
        """Send the page's form that has these fields or buttons, or its last POST form where none are given."""
        forms = [form for form in Forms(page.text).found if form.method == "post" and values.keys() <= form.names]
        if not forms:
            raise PageProblem(f"{page.url.path} has no form with {', '.join(values) or 'a button'}")
        form = forms[-1]
        target = urljoin(str(page.url), form.action)
        return self.check(self.client.post(target, data={**form.fields, **values}, headers={"referer": str(page.url)}))

    @staticmethod
    def check(answer: httpx.Response) -> httpx.Response:
        if answer.status_code != httpx.codes.OK:
            raise PageProblem(f"{answer.request.method} {answer.url.path} answered {answer.status_code}")
        return answer
