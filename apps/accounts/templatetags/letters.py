"""`{% action "Label" url %}` in the template of a mail, on a line of its own: a button in its HTML, the address in its text."""

from typing import Any

from django import template

register = template.Library()


@register.simple_tag(takes_context=True)
def action(context: dict[str, Any], label: str, url: str) -> str:
    """Marked with what only this mail knows, so that nobody's name or reason can make a button."""
    return f"{context['mark']}{label}\t{url}"
