"""House rules that no linter knows, as functions over sources, so that they can be tested."""

import ast
import re
from collections.abc import Iterator
from html.parser import HTMLParser

HOMELESS = {"utils", "util", "helpers", "helper", "common", "misc", "tools"}


def environment_reads(source: str) -> Iterator[int]:
    """Lines that reach for the environment: `os.environ`, `os.getenv`, `from os import environ`."""
    if not re.search(r"environ|getenv", source):  # most files: a tree costs more than a look
        return
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "os"
            and node.attr in {"environ", "getenv", "environb"}
        ) or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {alias.name for alias in node.names} & {"environ", "getenv"}
        ):
            yield node.lineno


def names_the_settings(source: str) -> bool:
    """An entry point that only says which settings module to load: `os.environ.setdefault("DJANGO_SETTINGS_MODULE", …)`."""
    return len(list(environment_reads(source))) == len(
        re.findall(r'os\.environ\.setdefault\(\s*"DJANGO_SETTINGS_MODULE"', source)
    )


def swallowed(source: str) -> Iterator[int]:
    """Lines of handlers that catch everything and do nothing."""
    if not re.search(r"except\s*:|Exception", source):
        return
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = node.type
        names = {
            part.id
            for part in ([caught] if isinstance(caught, ast.Name) else getattr(caught, "elts", []))
            if isinstance(part, ast.Name)
        }
        nothing = all(
            isinstance(statement, ast.Pass | ast.Continue)
            or (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))
            for statement in node.body
        )
        if nothing and (caught is None or names & {"Exception", "BaseException"}):
            yield node.lineno


class _Inline(HTMLParser):
    """Collects what the content security policy would block."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[int, str]] = []
        self.script = False

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        line = self.getpos()[0]
        for name, value in attributes:
            if name == "style":
                self.found.append((line, f"style attribute on <{tag}>"))
            elif re.fullmatch(r"on[a-z]+", name):
                self.found.append((line, f"{name} handler on <{tag}>"))
            elif (value or "").strip().lower().startswith("javascript:"):
                self.found.append((line, f"javascript: in {name} of <{tag}>"))
        if tag == "style":
            self.found.append((line, "<style> element"))
        # A block of JSON is data: the browser does not run it.
        self.script = tag == "script" and given.get("type") not in {"application/json", "application/ld+json"}
        if self.script and any((given.get("src") or "").startswith(start) for start in ("http:", "https:", "//")):
            self.found.append((line, "script from elsewhere"))

    def handle_data(self, data: str) -> None:
        if self.script and data.strip():
            self.found.append((self.getpos()[0], "inline script"))

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self.script = False


def inline(template: str) -> list[tuple[int, str]]:
    """`(line, what)` for each inline style, script or handler of a template. Template tags are blanked, lines kept."""
    blank = re.sub(
        r"{%\s*comment\b.*?{%\s*endcomment\s*%}|{#.*?#}|{%.*?%}|{{.*?}}",
        lambda match: "x" * (match.group().startswith("{{")) + "\n" * match.group().count("\n"),
        template,
        flags=re.DOTALL,
    )
    parser = _Inline()
    parser.feed(blank)
    parser.close()
    return parser.found
