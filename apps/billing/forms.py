"""Forms of money. Amounts are typed in USD and cleaned to integer cents; services check them again."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django import forms
from django.conf import settings
from django.utils.translation import gettext, gettext_lazy

from apps.accounts import tickets
from apps.billing.amounts import dollars
from apps.billing.models import AutomaticTopUp
from apps.core.errors import PortalError
from apps.core.money import MICROUSD_PER_CENT
from apps.ledger.forms import USDField, written

CHOICES_CENTS = (2_500, 5_000, 10_000, 50_000)
OTHER = "other"
THRESHOLD_CENTS, AMOUNT_CENTS, CEILING_CENTS = 1_000, 5_000, 20_000  # what a new automatic top-up begins with


def refuse(form: forms.BaseForm, refused: PortalError) -> None:
    """Show what a service refused, at its field where the form has that."""
    form.add_error(refused.param if refused.param in form.fields else None, refused.message)


class AddCreditForm(forms.Form):
    """An amount of the list, or another one. `ticket` is signed: the form sent twice opens one payment."""

    choice = forms.ChoiceField(label=gettext_lazy("Amount"), required=False, widget=forms.RadioSelect)
    amount = USDField(label=gettext_lazy("Another amount, in USD"), required=False)
    save_card = forms.BooleanField(required=False, label=gettext_lazy("Save this card for automatic top-up"))
    ticket = forms.CharField(widget=forms.HiddenInput, required=False)

    def __init__(self, data: Any = None) -> None:
        super().__init__(data, initial={"choice": str(CHOICES_CENTS[1]), "ticket": tickets.new("top_up")})
        offered = [cents for cents in CHOICES_CENTS if settings.TOP_UP_MIN_CENTS <= cents <= settings.TOP_UP_MAX_CENTS]
        choice = self.fields["choice"]
        assert isinstance(choice, forms.ChoiceField)
        choice.choices = [*((str(cents), dollars(cents)) for cents in offered), (OTHER, gettext("Another amount"))]
        self.fields["amount"].help_text = gettext("From %(least)s to %(most)s, before tax.") % {
            "least": dollars(settings.TOP_UP_MIN_CENTS),
            "most": dollars(settings.TOP_UP_MAX_CENTS),
        }

    def clean_ticket(self) -> UUID:
        return tickets.read("top_up", self.cleaned_data["ticket"])

    def clean(self) -> dict[str, Any]:
        """A typed amount counts whatever is chosen beside it."""
        cleaned = super().clean() or {}
        choice, amount = cleaned.get("choice"), cleaned.get("amount")
        if "amount" in self.errors or "choice" in self.errors:
            return cleaned
        if amount is None and choice in ("", OTHER, None):
            self.add_error("amount", gettext("Choose an amount, or enter one in USD, such as 25 or 25.50."))
        else:
            cleaned["cents"] = int(str(choice)) if amount is None else amount
            self.check(cleaned["cents"])
        return cleaned

    def check(self, cents: int) -> None:
        if cents < settings.TOP_UP_MIN_CENTS:
            self.add_error(
                "amount",
                gettext("The smallest amount is %(least)s. Nothing was charged.")
                % {"least": dollars(settings.TOP_UP_MIN_CENTS)},
            )
        elif cents > settings.TOP_UP_MAX_CENTS:
            most = dollars(settings.TOP_UP_MAX_CENTS)
            self.add_error(
                "amount",
                gettext("The largest amount is %(most)s. Write to us for more. Nothing was charged.") % {"most": most},
            )


class AutomaticForm(forms.Form):
    threshold = USDField(
        label=gettext_lazy("When less than this is free, in USD"),
        help_text=gettext_lazy("Held money does not count: it may come back, or not."),
    )
    amount = USDField(label=gettext_lazy("Buy this much credit, in USD"))
    monthly_ceiling = USDField(
        label=gettext_lazy("At most this much a month, in USD"),
        help_text=gettext_lazy("Counts automatic top-ups of a UTC month. Credit you add yourself does not count."),
    )

    def __init__(self, data: Any = None, *, rule: AutomaticTopUp | None = None) -> None:
        threshold = rule.threshold_microusd // MICROUSD_PER_CENT if rule else THRESHOLD_CENTS
        initial = {
            "threshold": written(threshold),
            "amount": written(rule.amount_cents if rule else max(AMOUNT_CENTS, settings.TOP_UP_MIN_CENTS)),
            "monthly_ceiling": written(rule.monthly_ceiling_cents if rule else CEILING_CENTS),
        }
        super().__init__(data, initial=initial)
        self.fields["amount"].help_text = gettext("From %(least)s to %(most)s, charged to the saved card.") % {
            "least": dollars(settings.TOP_UP_MIN_CENTS),
            "most": dollars(settings.TOP_UP_MAX_CENTS),
        }


class RefundForm(forms.Form):
    amount = USDField(label=gettext_lazy("Credit to give back, in USD"))
    ticket = forms.CharField(widget=forms.HiddenInput, required=False)

    def __init__(self, data: Any = None, *, most_cents: int) -> None:
        super().__init__(data, initial={"amount": written(most_cents), "ticket": tickets.new("refund")})
        self.most_cents = most_cents
        self.fields["amount"].help_text = gettext("At most %(most)s: what is unused of this payment.") % {
            "most": dollars(most_cents)
        }

    def clean_ticket(self) -> UUID:
        return tickets.read("refund", self.cleaned_data["ticket"])

    def clean_amount(self) -> int:
        amount: int = self.cleaned_data["amount"]
        if amount > self.most_cents:
            raise forms.ValidationError(
                gettext("At most %(most)s of this payment is unused and can be refunded. Nothing was moved.")
                % {"most": dollars(self.most_cents)}
            )
        return amount


class WarningsForm(forms.Form):
    low_balance = USDField(
        label=gettext_lazy("Warn when the balance falls below, in USD"),
        zero=True,
        required=False,
        help_text=gettext_lazy("Once for each fall. 0 never warns."),
    )
    mail_enabled = forms.BooleanField(label=gettext_lazy("Also by mail, beside webhooks"), required=False)
