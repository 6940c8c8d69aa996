"""Text of a template that no translator sees: what stands outside the tags of translation."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

READ = {"title", "aria-label", "placeholder", "alt", "data-label"}  # attributes that are read by people
CODE = {"script", "style", "pre", "code", "kbd"}
# Names, units and words of the API: the same in every language.
NAMES = re.compile(
    r"\b(Stripe|URL|Cango Portal|Cango|curl|Python|JavaScript|OpenAI|JSONL?|CSV|API|ID|RSS|USD|UTC|TOTP|GPU|HTTPS?|k?Wh|MWh|CO2e|CO₂e|tok|ms|p50|p95|p99|s|h|d|g|W|M|B)\b"
)
# A tag of translation and all that it holds; a comment; any other tag or variable.
MARKED = re.compile(
    r"{%\s*(blocktranslate|comment|verbatim)\b.*?{%\s*end\1\s*%}"
    r"|{%\s*block live\b.*?{%\s*endblock\s*%}|{%.*?%}|{{.*?}}|{#.*?#}",  # live: an address
    re.DOTALL,
)
LETTERS = re.compile(r"[^\W\d_]")


class _Texts(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[int, str]] = []
        self.code: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in CODE:
            self.code.append(tag)
        for name, value in attributes:
            if name in READ:
                self.take(value or "")

    def handle_endtag(self, tag: str) -> None:
        if self.code and self.code[-1] == tag:
            self.code.pop()

    def handle_data(self, data: str) -> None:
        if not self.code:
            self.take(data)

    def take(self, text: str) -> None:
        if LETTERS.search(NAMES.sub("", text)):
            self.found.append((self.getpos()[0], " ".join(text.split())))


def unmarked(template: str) -> Iterator[tuple[int, str]]:
    """`(line, text)` of what readers of every language would see in English."""
    blank = MARKED.sub(lambda match: "\n" * match.group().count("\n"), template)
    parser = _Texts()
    parser.feed(blank)
    parser.close()
    yield from parser.found
