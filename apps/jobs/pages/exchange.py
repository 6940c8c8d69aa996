"""What was asked and what was answered."""

from __future__ import annotations

import json
import shlex
from contextlib import suppress
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any
from urllib.parse import quote

from django.conf import settings
from django.urls import reverse
from django.utils.translation import gettext

from apps.accounts import tickets
from apps.files.sealing import Unreadable
from apps.jobs import reasons
from apps.jobs.pages.waiting import Waiting
from apps.live import topics
from apps.wire import images

TITLE_LENGTH = 60


class Exchange(Waiting):
    @cached_property
    def request(self) -> dict[str, Any]:
        found = self.kept("request")
        return found if isinstance(found, dict) else {}

    def kept(self, name: str) -> Any:
        """Of its content; None where it is not kept, or cannot be read."""
        with suppress(Unreadable):
            return getattr(getattr(self.job, "content", None), name, None)
        return None

    @property
    def unreadable(self) -> str:
        """Why what is kept is not shown."""
        try:
            for name in ("request", "text"):
                getattr(getattr(self.job, "content", None), name, None)
        except Unreadable as error:
            return reasons.said(error.message)
        return ""

    @property
    def forgotten(self) -> bool:
        """Was its text deleted, by its time or by a customer? The record stays."""
        return self.job.is_final and getattr(self.job, "content", None) is None

    @cached_property
    def title(self) -> str:
        """The beginning of what was asked, or the file; otherwise the model."""
        if self.job.file and self.job.kind == "ocr":
            return self.job.file.name
        asked = next((text for role, text in reversed(self.messages) if role == "user" and text.strip()), "")
        words = " ".join(asked.split())
        if not words and self.job.kind == "ocr":
            return gettext("File read with %(title)s") % {"title": self.job.model.title}
        if not words:
            return gettext("%(get_kind_display)s with %(title)s") % {
                "get_kind_display": self.job.get_kind_display(),
                "title": self.job.model.title,
            }
        return words if len(words) <= TITLE_LENGTH else f"{words[: TITLE_LENGTH - 1].rstrip()}…"

    @cached_property
    def messages(self) -> list[tuple[str, str]]:
        """(role, text) of a chat's messages; the prompts of a completion and the query of a ranking are a user's."""
        given = self.request.get("prompt", self.request.get("query"))
        if given is not None:
            prompts = given if isinstance(given, list) else [given]
            return [("user", prompt) for prompt in prompts if isinstance(prompt, str)]
        return [
            (str(message.get("role", "")), _text(message.get("content")))
            for message in self.request.get("messages", [])
            if isinstance(message, dict)
        ]

    @property
    def request_json(self) -> str:
        return images.shortened(json.dumps(self.request, ensure_ascii=False, indent=2))

    @property
    def what(self) -> str:
        if self.job.writes:
            return gettext("streamed request") if self.job.streaming else gettext("request")
        return {"ocr": gettext("file read"), "rerank": gettext("rerank request")}.get(
            self.job.kind, gettext("embeddings request")
        )

    @property
    def repeatable(self) -> bool:
        """Is all there that the same work needs?"""
        return self.job.file is not None if self.job.kind == "ocr" else bool(self.request)

    @cached_property
    def ticket(self) -> str:
        return tickets.new("job")

    @cached_property
    def text(self) -> topics.Text:
        """The text of choice 0, or of all pages."""
        return topics.Text(self.kept("text") or "") if self.job.is_final else self.live.text

    @property
    def blank(self) -> bool:
        """Did it end without a text?"""
        return self.job.is_final and not len(self.text)

    @property
    def result(self) -> dict[str, Any]:
        found = self.kept("result")
        return found if isinstance(found, dict) else {}

    @cached_property
    def answers(self) -> list[tuple[str, str]]:
        """(heading, text) of all that a chat or completion answered, tool calls as JSON, where text of choice 0 is not all of it."""
        choices = self.result.get("choices") if self.job.writes and self.job.is_final else None
        messages = [message for message in choices or [] if isinstance(message, dict)]
        found = []
        for number, message in enumerate(messages, start=1):
            heading = (
                gettext("Answer %(number)s of %(messages)s") % {"number": number, "messages": len(messages)}
                if len(messages) > 1
                else gettext("Answer")
            )
            said = _text(message.get("content")) or _text(message.get("refusal"))
            if said or not message.get("tool_calls"):
                found.append((heading, said))
            if message.get("tool_calls"):
                calls = json.dumps(message["tool_calls"], ensure_ascii=False, indent=2)
                found.append((gettext("%(heading)s, tool calls") % {"heading": heading}, calls))
        return found

    @property
    def asked(self) -> int:
        """How many answers a chat or completion was asked for, over all its prompts."""
        asked, prompt = (self.request.get("n") or 1 if self.job.writes else 1), self.request.get("prompt")
        prompts = len(prompt) if isinstance(prompt, list) and not isinstance(prompt[0], int) else 1
        return asked * prompts if isinstance(asked, int) else prompts

    @property
    def unseen(self) -> str:
        """Of a chat that gives several answers: how many of them the page shows while they are written."""
        if self.job.is_final or self.asked < 2:
            return ""
        return gettext("1 of %(asked)s answers is shown; the rest comes with the result") % {"asked": self.asked}

    @property
    def code(self) -> str:
        """The request as a curl command."""
        if self.job.kind == "ocr":
            name = self.job.file.name if self.job.file else "invoice.png"
            return (
                f"curl {settings.BASE_URL}/api/v1/jobs \\\n"
                '  -H "Authorization: Bearer $CANGO_API_KEY" \\\n'
                f"  -F model={shlex.quote(self.job.model.name)} \\\n  -F file=@{shlex.quote(name)}"
            )
        paths = {"chat": "chat/completions", "completion": "completions"}
        path = paths.get(self.job.kind, self.job.kind)
        body = {"model": self.job.model.name, **self.request, **({"stream": True} if self.job.streaming else {})}
        sent = images.shortened(json.dumps(body, ensure_ascii=False, indent=2))
        return (
            f"curl {settings.BASE_URL}/v1/{path} \\\n"
            '  -H "Authorization: Bearer $CANGO_API_KEY" \\\n'
            '  -H "Content-Type: application/json" \\\n'
            f"  -d {shlex.quote(sent)}"
        )

    @property
    def model_url(self) -> str:
        publisher, _, name = self.job.model.name.partition("/")
        return reverse("portal:model", args=[publisher, name])

    @property
    def text_kept(self) -> datetime | None:
        """Until when what was asked and answered can be read here; None while that is not known, or where it is not kept."""
        days = self.job.organization.keep_text_days
        there = self.job.finished_at and days and not self.forgotten
        return self.job.finished_at + timedelta(days=days) if there and self.job.finished_at else None

    @property
    def support_url(self) -> str:
        """A mail to the operator that names the job, where it failed."""
        if self.job.state != "failed" or not settings.OPERATOR_EMAIL:
            return ""
        subject = gettext("Job %(job)s failed") % {"job": self.job.public_id}
        return f"mailto:{settings.OPERATOR_EMAIL}?subject={quote(subject)}"

    @property
    def file_kept(self) -> datetime | None:
        return self.job.file.expires_at if self.job.file else None

    @property
    def embeddings(self) -> int:
        return len(self.result.get("data", []))

    @property
    def ranked(self) -> int:
        return len(self.result.get("results", []))

    @property
    def words(self) -> int:
        return len(str(self.text).split())


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return ""
