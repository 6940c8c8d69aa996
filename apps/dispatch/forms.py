"""The form on a model's page that sends it one piece of work."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings

from apps.accounts import tickets
from apps.catalog.models import Model
from apps.catalog.offers import Offer

MAX_TEXT = 100_000
DEFAULT_TOKENS = 256


class TextField(forms.CharField):
    """A browser sends each line's end as two characters; the person wrote one."""

    def to_python(self, value: Any) -> str:
        text = super().to_python(value) or ""
        return text.replace("\r\n", "\n").replace("\r", "\n")


def field(name: str, label: str, wanted: str) -> forms.CharField:
    return TextField(
        label=label,
        max_length=MAX_TEXT,
        widget=forms.Textarea(attrs={"rows": 4}),
        error_messages={
            "required": wanted,
            "max_length": f"Shorten it to {MAX_TEXT:,} characters; the API takes more.",
        },
    )


def new_ticket() -> str:
    return tickets.new("job")


class TryForm(forms.Form):
    """A prompt, a text or a file, as the model takes it. `error_of` puts a refusal beside the field it is about."""

    job = forms.CharField(widget=forms.HiddenInput, required=False, initial=new_ticket)

    def __init__(self, offer: Offer, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.offer = offer
        if offer.kind == Model.Kind.CHAT:
            most = offer.max_output_tokens or offer.context_tokens
            self.fields["prompt"] = field("prompt", "Prompt", "Write a prompt.")
            self.fields["max_tokens"] = forms.IntegerField(
                label="Most output tokens",
                initial=min(DEFAULT_TOKENS, most),
                min_value=1,
                max_value=most,
                help_text=f"At most {most:,}.",
                error_messages={
                    "required": "Say how many tokens it may write.",
                    "invalid": "Enter a whole number.",
                    "min_value": "Ask for at least 1 token.",
                    "max_value": f"This model writes at most {most:,} tokens. Ask for that or less.",
                },
            )
        elif offer.kind == Model.Kind.EMBEDDINGS:
            self.fields["text"] = field("text", "Text", "Write a text.")
        else:
            self.fields["file"] = forms.FileField(
                label="Image or PDF",
                help_text=f"PNG, JPEG, WebP, TIFF or PDF, at most {offer.max_pages:,} pages "
                f"and {settings.MAX_FILE_BYTES // 2**20} MiB.",
                max_length=200,
                error_messages={
                    "required": "Choose a file.",
                    "empty": "The file is empty. Choose another.",
                    "max_length": "The file's name is longer than 200 characters. Rename it.",
                },
            )

    def clean_job(self) -> UUID:
        return tickets.read("job", self.cleaned_data["job"])

    def body(self) -> dict[str, Any]:
        """The OpenAI request that the fields make; of a file, none."""
        given = self.cleaned_data
        if self.offer.kind == Model.Kind.CHAT:
            return {"messages": [{"role": "user", "content": given["prompt"]}], "max_tokens": given["max_tokens"]}
        return {"input": given["text"]} if self.offer.kind == Model.Kind.EMBEDDINGS else {}

    def refuse(self, message: str, param: str | None) -> None:
        names = {
            "messages": "prompt",
            "max_tokens": "max_tokens",
            "max_completion_tokens": "max_tokens",
            "input": "text",
            "file": "file",
        }
        name = names.get((param or "").partition("[")[0])
        self.add_error(name if name in self.fields else None, message)
