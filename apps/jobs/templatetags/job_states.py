"""States of jobs and batches: icon, word and color, in that order of importance (design guide, §5)."""

from __future__ import annotations

from django import template
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString, mark_safe

register = template.Library()

# stored state: word, icon, class
STATES = {
    "queued": ("Queued", "clock", ""),
    "dispatched": ("Routed", "check", "state-run"),
    "running": ("Running", "run", "state-run"),
    "settling": ("Settling", "coin", "state-ok"),
    "succeeded": ("Done", "check", "state-ok"),
    "failed": ("Failed", "x", "state-bad"),
    "cancelled": ("Cancelled", "off", "state-off"),
    "expired": ("Expired", "clock", "state-off"),
    "refused": ("Refused", "alert", "state-warn"),
    # of batches
    "checking": ("Checking", "run", "state-run"),
    "stopping": ("Stopping", "off", "state-off"),
    "partial": ("Done with errors", "alert", "state-warn"),
}


def markup(name: str, extra: str, detail: str) -> SafeString:
    word, icon, tone = STATES[name]
    classes = " ".join(part for part in ("state", extra, tone) if part)
    return format_html(
        '<span class="{}"><svg class="icon" aria-hidden="true"><use href="#i-{}"/></svg>{}{}</span>',
        classes,
        icon,
        word,
        f", {detail}" if detail else "",
    )


@register.simple_tag
def state(name: str, detail: str = "") -> SafeString:
    """A state in a table."""
    return markup(name, "", detail)


@register.simple_tag
def state_pill(name: str) -> SafeString:
    """A state beside a page's title."""
    return markup(name, "pill", "")


@register.filter
def verbatim_text(text: str) -> SafeString:
    """Escaped so that the browser holds exactly this text: HTML reads a bare carriage return as a line feed."""
    return mark_safe(conditional_escape(str(text)).replace("\r", "&#13;"))  # noqa: S308
