"""The form that makes a key, once: its page is the body of a POST, which a reload sends again."""

from typing import Any
from uuid import UUID

from django import forms

from apps.accounts import tickets
from apps.keys.models import APIKey
from apps.ledger.budgets import PERIODS, Period
from apps.ledger.forms import limit_fields, limits_in


def new_ticket() -> str:
    return tickets.new("key")


class KeyForm(forms.ModelForm):  # type: ignore[type-arg]
    """`ticket` is signed; a form that has none of ours counts as a new one."""

    ticket = forms.CharField(widget=forms.HiddenInput, required=False, initial=new_ticket)

    class Meta:
        model = APIKey
        fields = ["name"]
        labels = {"name": "Name"}
        help_texts = {"name": "Where it is used, such as “catalog sync”. It is shown beside each job the key starts."}
        error_messages = {"name": {"required": "Enter a name for the key."}}
        widgets = {"name": forms.TextInput(attrs={"autocomplete": "off"})}

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        self.fields.update(limit_fields(PERIODS))

    def clean_ticket(self) -> UUID:
        return tickets.read("key", self.cleaned_data["ticket"])

    @property
    def limit_fields(self) -> list[forms.BoundField]:
        return [self[period] for period in PERIODS]

    @property
    def limits(self) -> dict[Period, int | None]:
        """In micro-USD."""
        return limits_in(self.cleaned_data, PERIODS)
