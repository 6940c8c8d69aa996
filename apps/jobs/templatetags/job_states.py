"""States of jobs and batches: icon, word and color, in that order of importance (design guide, §5)."""

from __future__ import annotations

from django import template
from django.utils.html import conditional_escape, format_html
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext_lazy

from apps.jobs import reasons

register = template.Library()

# stored state: word, icon, class
STATES = {
    "queued": (gettext_lazy("Queued"), "clock", ""),
    "dispatched": (gettext_lazy("Routed"), "check", "state-run"),
    "running": (gettext_lazy("Running"), "run", "state-run"),
    "settling": (gettext_lazy("Settling"), "coin", "state-ok"),
    "succeeded": (gettext_lazy("Done"), "check", "state-ok"),
    "failed": (gettext_lazy("Failed"), "x", "state-bad"),
    "cancelled": (gettext_lazy("Cancelled"), "off", "state-off"),
    "expired": (gettext_lazy("Expired"), "clock", "state-off"),
    "refused": (gettext_lazy("Refused"), "alert", "state-warn"),
    # of batches
    "checking": (gettext_lazy("Checking"), "run", "state-run"),
    "stopping": (gettext_lazy("Stopping"), "off", "state-off"),
    "partial": (gettext_lazy("Done with errors"), "alert", "state-warn"),
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


register.filter("reason", reasons.said)


@register.filter
def verbatim_text(text: str) -> SafeString:
    """Escaped so that the browser holds exactly this text: HTML reads a bare carriage return as a line feed."""
    return mark_safe(conditional_escape(str(text)).replace("\r", "&#13;"))  # noqa: S308
