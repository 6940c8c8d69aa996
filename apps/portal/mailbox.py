"""The demo's mail: files that Django's file backend wrote, read for a page. Never routed outside the demo."""

import email
import email.policy
import re
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from pathlib import Path

SEPARATOR = b"-" * 79  # django.core.mail.backends.console.EmailBackend.write_message
NEWEST = 100
LINK = re.compile(r"(https?://[^\s<>\"]+)")


@dataclass(frozen=True, slots=True)
class Mail:
    at: datetime | None
    to: str
    subject: str
    text: str

    @property
    def paragraphs(self) -> list[list[tuple[str, bool]]]:
        """The text in pieces, each with True where it is an address to follow."""
        return [
            [(piece, bool(LINK.fullmatch(piece))) for piece in LINK.split(paragraph) if piece]
            for paragraph in self.text.split("\n\n")
            if paragraph.strip()
        ]


def mails(directory: Path) -> list[Mail]:
    """The newest mails first. An empty list where none was sent yet."""
    files = sorted(directory.glob("*.log"), key=lambda file: file.stat().st_mtime_ns, reverse=True)[:NEWEST]
    found: list[Mail] = []
    for file in files:  # of one file, later messages stand below
        parts = [part.strip() for part in file.read_bytes().split(b"\n" + SEPARATOR)]
        found += [_mail(part) for part in reversed(parts) if part]
    return found[:NEWEST]


def _mail(raw: bytes) -> Mail:
    message = email.message_from_bytes(raw, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    body = message.get_body(preferencelist=("plain",))
    date = message["date"]
    return Mail(
        at=parsedate_to_datetime(str(date)) if date else None,
        to=str(message["to"] or ""),
        subject=str(message["subject"] or ""),
        text=str(body.get_content()).strip() if body else "",
    )
