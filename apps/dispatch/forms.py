"""The playground's form: one piece of work for a model, or the same for two."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings
from django.utils.translation import gettext

from apps.accounts import tickets
from apps.catalog.models import Model
from apps.catalog.offers import Offer
from apps.wire import images
from apps.wire.capabilities import Capability

MAX_TEXT = 100_000
DEFAULT_TOKENS = 256
EXAMPLE = {"prompt": "Hello", "text": "cat"}  # what code shows where nothing was written yet


class TextField(forms.CharField):
    """A browser sends each line's end as two characters; the person wrote one."""

    def to_python(self, value: Any) -> str:
        text = super().to_python(value) or ""
        return text.replace("\r\n", "\n").replace("\r", "\n")


def field(name: str, label: str, wanted: str = "", *, rows: int = 4, hint: str = "") -> forms.CharField:
    """Without `wanted` it may stay empty."""
    return TextField(
        label=label,
        required=bool(wanted),
        help_text=hint,
        max_length=MAX_TEXT,
        widget=forms.Textarea(attrs={"rows": rows}),
        error_messages={
            "required": wanted,
            "max_length": gettext("Shorten it to %(max_text)s characters; the API takes more.")
            % {"max_text": f"{MAX_TEXT:,}"},
        },
    )


def ratio(label: str, most: float, hint: str) -> forms.FloatField:
    wrong = gettext("Enter a number from 0 to %(most)s, or leave it empty.") % {"most": f"{most:g}"}
    return forms.FloatField(
        label=label,
        required=False,
        min_value=0,
        max_value=most,
        help_text=hint,
        widget=forms.NumberInput(attrs={"step": "any"}),
        error_messages={"invalid": wrong, "min_value": wrong, "max_value": wrong},
    )


def new_ticket() -> str:
    return tickets.new("job")


class PlaygroundForm(forms.Form):
    """A prompt, a text or a file, as the model takes it. `refuse` puts a refusal beside the field it is about.

    With `other` the same goes to that model too, so what both take holds. `job` and `second` are the jobs' ids.
    """

    job = forms.CharField(widget=forms.HiddenInput, required=False, initial=new_ticket)
    second = forms.CharField(widget=forms.HiddenInput, required=False, initial=new_ticket)

    def __init__(self, offer: Offer, other: Offer | None, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.offer = offer
        both = [offer, other] if other else [offer]
        if offer.kind == Model.Kind.CHAT:
            most = min(each.max_output_tokens or each.context_tokens for each in both)
            self.fields["prompt"] = field("prompt", gettext("Prompt"), gettext("Write a prompt."), rows=8)
            if all(Capability.IMAGE_INPUT in each.ability for each in both):
                self.fields["image"] = forms.FileField(
                    label=gettext("Image"),
                    required=False,
                    help_text=gettext("PNG, JPEG, WebP or GIF, at most %(size)s MiB. Optional.")
                    % {"size": images.MAX_IMAGE_BYTES // 2**20},
                    error_messages={"empty": gettext("The file is empty. Choose another.")},
                )
            self.fields["system"] = field(
                "system", gettext("System prompt"), rows=3, hint=gettext("How it should answer. Optional.")
            )
            self.fields["max_tokens"] = forms.IntegerField(
                label=gettext("Most output tokens"),
                initial=min(DEFAULT_TOKENS, most),
                min_value=1,
                max_value=most,
                help_text=gettext("At most %(most)s.") % {"most": f"{most:,}"},
                error_messages={
                    "required": gettext("Say how many tokens it may write."),
                    "invalid": gettext("Enter a whole number."),
                    "min_value": gettext("Ask for at least 1 token."),
                    "max_value": (
                        gettext("Both models write at most %(most)s tokens. Ask for that or less.")
                        if other
                        else gettext("This model writes at most %(most)s tokens. Ask for that or less.")
                    )
                    % {"most": f"{most:,}"},
                },
            )
            self.fields["temperature"] = ratio(
                gettext("Temperature"), 2, gettext("0 to 2; lower is more predictable. Optional.")
            )
            self.fields["top_p"] = ratio(
                gettext("Top p"), 1, gettext("0 to 1; share of likely words it may choose from. Optional.")
            )
        elif offer.kind == Model.Kind.EMBEDDINGS:
            self.fields["text"] = field("text", gettext("Text"), gettext("Write a text."))
        else:
            self.fields["file"] = forms.FileField(
                label=gettext("Image or PDF"),
                help_text=gettext("PNG, JPEG, WebP, TIFF or PDF, at most %(max_pages)s pages and %(size)s MiB.")
                % {"max_pages": f"{offer.max_pages:,}", "size": settings.MAX_FILE_BYTES // 2**20},
                max_length=200,
                error_messages={
                    "required": gettext("Choose a file."),
                    "empty": gettext("The file is empty. Choose another."),
                    "max_length": gettext("The file's name is longer than 200 characters. Rename it."),
                },
            )

    @property
    def main(self) -> list[forms.BoundField]:
        """What is sent; the rest are `settings`."""
        return [each for each in self.visible_fields() if each.name in ("prompt", "image", "text", "file")]

    @property
    def settings(self) -> list[forms.BoundField]:
        return [each for each in self.visible_fields() if each not in self.main]

    def clean_job(self) -> UUID:
        return tickets.read("job", self.cleaned_data["job"])

    def clean_second(self) -> UUID:
        return tickets.read("job", self.cleaned_data["second"])

    def clean_image(self) -> str:
        """As a data URL; empty where there is none."""
        upload = self.cleaned_data["image"]
        if upload is None:
            return ""
        if upload.size > images.MAX_IMAGE_BYTES:
            raise forms.ValidationError(
                gettext("Choose an image of at most %(size)s MiB.") % {"size": images.MAX_IMAGE_BYTES // 2**20}
            )
        raw = upload.read()
        for kind, starts in images.STARTS.items():
            if raw.startswith(starts):
                return f"data:{kind};base64,{base64.b64encode(raw).decode()}"
        raise forms.ValidationError(gettext("Choose a PNG, JPEG, WebP or GIF image."))

    def body(self, example: Mapping[str, Any] = {}) -> dict[str, Any]:
        """The OpenAI request that the fields make; of a file, none. `example` stands in where a field has nothing good."""
        given = {**example, **{name: value for name, value in self.cleaned_data.items() if value not in ("", None)}}
        if self.offer.kind == Model.Kind.EMBEDDINGS:
            return {"input": given["text"]}
        if self.offer.kind != Model.Kind.CHAT:
            return {}
        content: Any = given["prompt"]
        if url := given.get("image"):
            content = [{"type": "text", "text": content}, {"type": "image_url", "image_url": {"url": url}}]
        system = [{"role": "system", "content": given["system"]}] if "system" in given else []
        sampling: dict[str, Any] = {
            name: given[name] for name in ("max_tokens", "temperature", "top_p") if name in given
        }
        return {"messages": [*system, {"role": "user", "content": content}], **sampling}

    def refuse(self, message: str, param: str | None) -> None:
        names = {"messages": "prompt", "max_completion_tokens": "max_tokens", "input": "text"}
        name = (param or "").partition("[")[0]
        name = names.get(name, name)
        self.add_error(name if name in self.fields else None, message)
