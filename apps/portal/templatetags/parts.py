"""`{% part %}`: a part of a page that is tried by itself."""

from __future__ import annotations

from typing import Any

from django import template
from django.template.base import FilterExpression, Node, NodeList, Parser, Token, token_kwargs
from django.template.context import Context
from django.utils.safestring import SafeString

from apps.portal.parts import Failure, attempt

register = template.Library()

RETRY = "retry-"  # and the id of the part: the id of its "Try again"

QUIET = "quiet"  # the face of what is left out: another part of its name says so


class PartNode(Node):
    def __init__(self, name: str, face: str, options: dict[str, FilterExpression], nodelist: NodeList) -> None:
        self.name = name
        self.face = face
        self.options = options
        self.nodelist = nodelist

    def render(self, context: Context) -> SafeString:
        """As it is where there is no request: a socket keeps what it showed, and reads again by itself."""
        request = context.get("request")
        if request is None:
            return self.nodelist.render(context)
        given: dict[str, Any] = {name: option.resolve(context) for name, option in self.options.items()}
        given.setdefault("id", self.name)
        if self.face != QUIET and self.others(request, given["id"]):
            return SafeString("")
        shown = attempt(request, self.name, lambda: self.read(context))
        if not isinstance(shown, Failure):
            return shown
        if self.face == QUIET:
            return SafeString("")
        face = context.template.engine.get_template(f"portal/_failed_{self.face}.html")  # type: ignore[union-attr]
        with context.push(**given, reference=shown.reference, retry=f"{RETRY}{given['id']}"):
            return face.render(context)

    def read(self, context: Context) -> SafeString:
        """What a template takes for empty, such as a row that is not there, fails here."""
        value = context.get(self.name)
        if callable(value):
            value()
        return self.nodelist.render(context)

    @staticmethod
    def others(request: Any, id: str) -> bool:
        """Is another part of the page tried again? Then this one is not asked for."""
        trigger = (request.htmx.trigger if getattr(request, "htmx", None) else None) or ""
        return trigger.startswith(RETRY) and trigger != f"{RETRY}{id}"


@register.tag
def part(parser: Parser, token: Token) -> PartNode:
    """`{% part name face title=… id=… topic=… %}…{% endpart %}`: what is within, or the face that says that it failed.

    Parts of one name are one reading, the variable of that name where there is one: it is tried once. `face` is card, body (of a card), figure, line, balance or quiet. `id` is that of the element within,
    which "Try again" replaces; without one it is the name. `topic` is what live.js asks for in its place.
    """
    _, name, face, *bits = token.split_contents()
    options = token_kwargs(bits, parser)
    nodelist = parser.parse(("endpart",))
    parser.delete_first_token()
    return PartNode(name, face, options, nodelist)
