"""Every mail of the portal: a plain text and an HTML part, both out of one text template whose first line is the subject.

The HTML has the colors of `tokens.css` in one style sheet of its own, light and dark: clients know no custom properties and
fetch nothing. Mails that one may do without are signed letters: their headers and their last lines lead to `stop_url`, which
asks nobody to sign in (RFC 8058).
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from functools import cache
from math import cos, radians, sin
from typing import Any

from django.conf import settings
from django.core import signing
from django.core.mail import EmailMultiAlternatives
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import translation
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext

from apps.accounts import languages
from apps.accounts.mails import Mail
from apps.accounts.models import User

SALT = "accounts.letters.stop"
COLOR = re.compile(
    r"--([\w-]+):\s*light-dark\(oklch\(([\d.]+) ([\d.]+) ([\d.]+)\),\s*oklch\(([\d.]+) ([\d.]+) ([\d.]+)\)\)"
)


@dataclass(frozen=True, slots=True)
class Line:
    """A paragraph, or what it leads to: then `text` is the label."""

    text: str
    url: str = ""


def letter(to: User | str, template: str, *, kind: Mail | None = None, **context: Any) -> EmailMultiAlternatives:
    """The mail of a template. With a `kind`, `to` is the user who may stop mails of it."""
    mark = secrets.token_hex(8)
    with translation.override(language_of(to)):
        rendered = render_to_string(template, {"base_url": settings.BASE_URL, **context, "mark": mark})
        subject, _, body = rendered.strip().partition("\n")
        return written(to, subject, body, mark=mark, kind=kind)


def language_of(to: User | str) -> str:
    """What the user chose; a stranger's mail is in the language of the page that sends it, which is English in a task."""
    chosen = to.language if isinstance(to, User) else translation.get_language()
    return chosen if chosen and languages.known(chosen) else settings.LANGUAGE_CODE


def written(to: User | str, subject: str, body: str, *, mark: str, kind: Mail | None = None) -> EmailMultiAlternatives:
    subject = " ".join(subject.split())
    stop = stop_url(to, kind) if kind is not None and isinstance(to, User) else ""
    text = re.sub(rf"^{mark}[^\t\n]*\t", "", body.strip(), flags=re.MULTILINE)
    if stop:
        said = gettext("Mails like this one are sent when %(about)s.\nTo get no more of them: %(stop)s")
        text += "\n\n-- \n" + said % {"about": about(kind), "stop": stop}
    html = render_to_string(
        "mail/letter.html",
        {
            "style": style(),
            "subject": subject,
            "lines": lines(body, mark),
            "about": about(kind),
            "stop": stop,
            "base_url": settings.BASE_URL,
        },
    )
    message = EmailMultiAlternatives(subject, f"{text}\n", to=[to.email if isinstance(to, User) else to])
    message.attach_alternative(html, "text/html")
    if stop:
        message.extra_headers = {
            "List-Unsubscribe": f"<{stop}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        }
    return message


def about(kind: Mail | None) -> str:
    """ "an API key ends in 7 days, …": the kind's label in the middle of a sentence."""
    if kind is None:
        return ""
    label = str(kind.label)
    return label if label[1:2].isupper() else label[:1].lower() + label[1:]  # no abbreviation begins an English one


def lines(body: str, mark: str) -> list[Line]:
    """Paragraphs without their line ends, and what they lead to."""
    found: list[Line] = []
    for paragraph in re.split(r"\n\s*\n", body.strip()):
        kept: list[str] = []
        for line in paragraph.splitlines():
            if line.startswith(mark):
                label, _, url = line.removeprefix(mark).partition("\t")
                found += [Line(" ".join(kept))] if kept else []
                found.append(Line(label, url))
                kept = []
            else:
                kept.append(line.strip())
        found += [Line(" ".join(kept))] if kept else []
    return found


def stop_url(user: User, kind: Mail) -> str:
    """Where the user stops mails of this kind, for ever: a mail may be opened in a year."""
    return f"{settings.BASE_URL}{reverse('mail-stop', args=[token(user, kind)])}"


def token(user: User, kind: Mail) -> str:
    return signing.Signer(salt=SALT).sign_object([user.pk, kind.value])


def named(given: str) -> tuple[int, Mail] | None:
    """Whose mails of which kind; None for what is not ours."""
    try:
        user_id, kind = signing.Signer(salt=SALT).unsign_object(given)
        return int(user_id), Mail(kind)
    except (signing.BadSignature, ValueError, TypeError):
        return None


@cache
def style() -> SafeString:
    """The style sheet of a mail, once for each theme, with colors that every client knows."""
    sheet = (settings.ROOT / "templates" / "mail" / "letter.css").read_text()
    found = COLOR.findall((settings.ROOT / "static" / "portal" / "tokens.css").read_text())
    light = {name: srgb(*map(float, values[:3])) for name, *values in found}
    dark = {name: srgb(*map(float, values[3:])) for name, *values in found}
    night = "\n".join(re.findall(r"^.*var\(--.*$", sheet, flags=re.MULTILINE))
    whole = f"{colored(sheet, light)}@media (prefers-color-scheme: dark) {{\n{colored(night, dark)}\n}}\n"
    return mark_safe(f"<style>\n{whole}</style>")  # noqa: S308 - two files of ours


def colored(sheet: str, colors: dict[str, str]) -> str:
    return re.sub(r"var\(--([\w-]+)\)", lambda match: colors[match[1]], sheet)


def srgb(lightness: float, chroma: float, hue: float) -> str:
    """Oklch as #rrggbb. Björn Ottosson, "A perceptual color space for image processing" (2020)."""
    a, b = chroma * cos(radians(hue)), chroma * sin(radians(hue))
    long = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3
    medium = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3
    short = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3
    linear = (
        4.0767416621 * long - 3.3077115913 * medium + 0.2309699292 * short,
        -1.2684380046 * long + 2.6097574011 * medium - 0.3413193965 * short,
        -0.0041960863 * long - 0.7034186147 * medium + 1.7076147010 * short,
    )
    return "#" + "".join(f"{round(255 * encoded(min(max(part, 0.0), 1.0))):02x}" for part in linear)


def encoded(part: float) -> float:
    return 12.92 * part if part <= 0.0031308 else float(1.055 * part ** (1 / 2.4) - 0.055)
