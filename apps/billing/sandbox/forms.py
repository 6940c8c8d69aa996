"""What a customer types on the double's pages."""

from typing import Any

from django import forms

from apps.billing.sandbox import checkout
from apps.billing.sandbox.cards import CARDS, DEFAULT

COUNTRIES = [
    ("AT", "Austria"),
    ("CA", "Canada"),
    ("CH", "Switzerland"),
    ("DE", "Germany"),
    ("ES", "Spain"),
    ("FR", "France"),
    ("GB", "United Kingdom"),
    ("IE", "Ireland"),
    ("IT", "Italy"),
    ("NL", "Netherlands"),
    ("PL", "Poland"),
    ("SE", "Sweden"),
    ("US", "United States"),
]
TITLES = dict(COUNTRIES)


def _cards(*, delayed: bool) -> list[tuple[str, str]]:
    return [
        (card.name, f"{card.title} (…{card.number[-4:]})") for card in CARDS.values() if delayed or not card.delayed
    ]


class CompanyForm(forms.Form):
    """`name` and `country` are asked for as the session says; a tax id always may be left out."""

    name = forms.CharField(label="Company name", max_length=150)
    country = forms.ChoiceField(label="Country", choices=[("", "Choose a country"), *COUNTRIES])
    tax_id = forms.CharField(
        label="Tax ID", max_length=40, required=False, help_text="Such as DE123456789. It is printed on the invoice."
    )


class PayForm(CompanyForm):
    """`shown_cents` is the total the customer saw: another one is shown before it is charged."""

    card = forms.ChoiceField(
        label="Test card", choices=[], initial=DEFAULT, help_text="Each plays one story. None is a real card."
    )
    save = forms.BooleanField(label="Keep this card for later payments", required=False)
    shown_cents = forms.IntegerField(widget=forms.HiddenInput)

    def __init__(self, *args: Any, session: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["card"].choices = _cards(delayed=session["mode"] == "payment")  # type: ignore[attr-defined]
        if not session["tax_id_collection"]["enabled"]:
            del self.fields["tax_id"]
        if not checkout.offers_saving(session):
            del self.fields["save"]

    def payer(self) -> checkout.Payer:
        return checkout.Payer(**{name: self.cleaned_data.get(name, "") for name in ("name", "country", "tax_id")})


class CardForm(forms.Form):
    card = forms.ChoiceField(label="Test card", choices=_cards(delayed=False), initial=DEFAULT)


class PlanForm(forms.Form):
    price = forms.ChoiceField(label="Plan")

    def __init__(self, *args: Any, choices: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["price"].choices = choices  # type: ignore[attr-defined]
