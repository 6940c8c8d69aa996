"""Forms of webhooks. What the services refuse is shown at the field it is about."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.utils.translation import gettext_lazy

from apps.accounts import tickets
from apps.core.errors import InvalidRequest
from apps.webhooks import addresses, events
from apps.webhooks.models import URL_LENGTH
from apps.webhooks.sending import rules


def new_ticket() -> str:
    return tickets.new("webhook")


class EndpointForm(forms.Form):
    """`ticket` is signed: the form sent twice makes one webhook."""

    url = forms.CharField(
        label="URL",
        max_length=URL_LENGTH,
        help_text=gettext_lazy("Where we send a POST for each event, such as https://example.com/hooks/cango."),
        error_messages={"required": gettext_lazy("Enter the URL of your server.")},
        widget=forms.TextInput(attrs={"autocomplete": "off", "inputmode": "url", "spellcheck": "false"}),
    )
    description = forms.CharField(
        label=gettext_lazy("Description"),
        max_length=120,
        required=False,
        help_text=gettext_lazy("What it is for, in your words. May stay empty."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    event_types = forms.MultipleChoiceField(
        label=gettext_lazy("Events"),
        required=False,
        choices=[(event.name, event.name) for event in events.CHOSEN],
        help_text=gettext_lazy("Choose some, or none to be told of all, also of those that come later."),
        error_messages={"invalid_choice": gettext_lazy("There is no event type %(value)s.")},
        widget=forms.CheckboxSelectMultiple,
    )
    ticket = forms.CharField(widget=forms.HiddenInput, required=False, initial=new_ticket)

    def clean_url(self) -> str:
        try:
            return addresses.checked_url(self.cleaned_data["url"], rules())
        except InvalidRequest as refused:
            raise forms.ValidationError(refused.message) from None

    def clean_ticket(self) -> UUID:
        return tickets.read("webhook", self.cleaned_data["ticket"])

    @property
    def values(self) -> dict[str, Any]:
        return {name: self.cleaned_data[name] for name in ("url", "description", "event_types")}

    def descriptions(self) -> list[tuple[str, str, bool]]:
        """Name, words and whether it is chosen, for each type on offer."""
        chosen = self["event_types"].value() or []
        return [(event.name, event.words, event.name in chosen) for event in events.CHOSEN]
