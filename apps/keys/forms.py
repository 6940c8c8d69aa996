"""The forms of a key. One that makes a key makes it once: its page is the body of a POST, which a reload sends again."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from django import forms
from django.utils.translation import gettext, gettext_lazy

from apps.accounts import tickets
from apps.accounts.models import Organization
from apps.accounts.scopes import Scope
from apps.catalog.models import Model
from apps.core.errors import InvalidRequest
from apps.keys import figures, permits, residency
from apps.keys.figures import LABELS, MOST, WORDS, Figures
from apps.keys.models import APIKey
from apps.keys.permits import BeyondPermit, Permit
from apps.ledger.budgets import PERIODS, Period
from apps.ledger.forms import limit_fields, limits_in

if TYPE_CHECKING:
    from django_stubs_ext import StrOrPromise

OVERLAPS = [
    ("0", gettext_lazy("Now: the old key is refused at once")),
    ("3600", gettext_lazy("In 1 hour")),
    ("86400", gettext_lazy("In 24 hours")),
    ("604800", gettext_lazy("In 7 days")),
]


RATE_HELP = {
    "requests_per_minute": gettext_lazy("Of any 60 seconds. Empty: no limit of its own."),
    "input_tokens_per_minute": gettext_lazy("A request counts with the most it can read until it has ended."),
    "output_tokens_per_minute": gettext_lazy("A request counts with the most it may write until it has ended."),
    "concurrent_requests": gettext_lazy("Those that its programs wait for."),
}


def new_ticket() -> str:
    return tickets.new("key")


class Choices(forms.MultipleChoiceField):
    """Boxes to tick. Which ones there are is known when the form is made."""

    widget = forms.CheckboxSelectMultiple

    def __init__(self, *, wrong: StrOrPromise, **options: Any) -> None:
        super().__init__(error_messages={"invalid_choice": wrong}, **options)


def rate_fields() -> dict[str, forms.IntegerField]:
    wrong = gettext("Enter a whole number from 1 to %(most)s, or leave it empty.") % {"most": f"{MOST:,}"}
    return {
        name: forms.IntegerField(
            label=label,
            required=False,
            min_value=1,
            max_value=MOST,
            help_text=RATE_HELP[name],
            error_messages={"invalid": wrong, "min_value": wrong, "max_value": wrong},
        )
        for name, label in LABELS.items()
    }


class PermitForm(forms.Form):
    """Name, permit and rate limits of a key. What the services refuse is shown at the field it is about.

    `role` is that of the member who fills it in; a scope that the key has and the role may not give stays on offer.
    """

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=80,
        help_text=gettext_lazy("Where it is used, such as “catalog sync”. It is shown beside each job the key starts."),
        error_messages={
            "required": gettext_lazy("Enter a name for the key."),
            "max_length": gettext_lazy("The name has %(show_value)d characters. Use 80 at most."),
        },
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    scopes = Choices(
        label=gettext_lazy("What it may do"),
        required=False,
        help_text=gettext_lazy("Only what its program needs: who finds the key can do no more."),
        wrong=gettext_lazy("%(value)s is nothing your role may let a key do. Choose from the list."),
    )
    allowed_models = Choices(
        label=gettext_lazy("Models"),
        required=False,
        help_text=gettext_lazy("Choose some, or none for all models, also those that come later."),
        wrong=gettext_lazy("There is no model %(value)s. Choose from the list."),
    )
    residency = Choices(
        label=gettext_lazy("Places"),
        required=False,
        help_text=gettext_lazy(
            "Its work runs only where you choose. Choose none for every place your organization allows."
        ),
        wrong=gettext_lazy("%(value)s is not among the places your organization allows. Choose from the list."),
    )
    ip_ranges = forms.CharField(
        label=gettext_lazy("IP ranges"),
        required=False,
        max_length=3000,
        help_text=gettext_lazy("One on each line, such as 203.0.113.0/24 or 2001:db8::/32. Empty: from everywhere."),
        widget=forms.Textarea(attrs={"rows": 3, "autocomplete": "off", "spellcheck": "false"}),
    )
    ends_on = forms.DateField(
        label=gettext_lazy("Last day"),
        required=False,
        help_text=gettext_lazy("The key works to the end of that day, by UTC. Empty: until it is revoked."),
        error_messages={"invalid": gettext_lazy("This is not a date. Enter one such as 2027-01-31.")},
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )

    def __init__(self, data: Any = None, *, organization: Organization, role: str, key: APIKey | None = None) -> None:
        before = permits.of(key) if key else Permit()
        rates = figures.of(key) if key else {}
        super().__init__(data, initial={**shown(key.name if key else "", before), **rates})
        self.fields.update(rate_fields())
        self.organization, self.role, self.key, self.before = organization, role, key, before
        given = permits.BY_ROLE[role] | set(before.scopes if key else ())
        self.offer("scopes", [(value, str(label)) for value, label in Scope.choices if value in given])
        self.offer("allowed_models", [(name, name) for name in models_on_offer(before.allowed_models or ())])
        self.offer("residency", residency.choices(organization.residency, before.residency or ()))

    @property
    def rate_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in WORDS]

    @property
    def rates(self) -> Figures:
        return {name: self.cleaned_data[name] for name in WORDS}

    def offer(self, name: str, choices: list[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = choices

    def clean(self) -> dict[str, Any]:
        if self.errors:
            return self.cleaned_data
        given = self.cleaned_data
        asked = Permit(
            scopes=tuple(given["scopes"]),
            allowed_models=tuple(given["allowed_models"]) or None,
            residency=tuple(given["residency"]) or None,
            ip_ranges=tuple(line for line in given["ip_ranges"].replace(",", "\n").splitlines() if line.strip())
            or None,
            expires_at=self.end(),
        )
        before = self.before if self.key else None
        try:
            permits.given_by_role(asked, self.role, before=before)
            given["permit"] = permits.checked(asked, self.organization, before=before)
        except (InvalidRequest, BeyondPermit) as refused:
            self.add_error("ends_on" if refused.param == "expires_at" else refused.param, refused.message)
        return given

    def end(self) -> datetime | None:
        """The end of the day chosen; the very time where the day is the one it had."""
        day = self.cleaned_data["ends_on"]
        if day is None or day == last_day(self.before.expires_at):
            return self.before.expires_at if day else None
        return datetime.combine(day, time(), UTC) + timedelta(days=1)


def shown(name: str, permit: Permit) -> dict[str, Any]:
    return {
        "name": name,
        "scopes": permit.scopes,
        "allowed_models": permit.allowed_models or (),
        "residency": permit.residency or (),
        "ip_ranges": "\n".join(permit.ip_ranges or ()),
        "ends_on": last_day(permit.expires_at),
    }


def last_day(expires_at: datetime | None) -> Any:
    return (expires_at.astimezone(UTC) - timedelta(microseconds=1)).date() if expires_at else None


def models_on_offer(kept: Iterable[str]) -> list[str]:
    return sorted({*kept, *Model.objects.filter(listed=True).values_list("name", flat=True)})


class KeyForm(PermitForm):
    """`ticket` is signed; a form that has none of ours counts as a new one."""

    ticket = forms.CharField(widget=forms.HiddenInput, required=False, initial=new_ticket)

    def __init__(self, data: Any = None, *, organization: Organization, role: str) -> None:
        super().__init__(data, organization=organization, role=role)
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


class ReplaceForm(forms.Form):
    overlap = forms.TypedChoiceField(
        label=gettext_lazy("The old key ends"),
        choices=OVERLAPS,
        coerce=lambda seconds: timedelta(seconds=int(seconds)),
        initial="86400",
        help_text=gettext_lazy("Until then both keys work, and spend from the same limits."),
        error_messages={
            "required": gettext_lazy("Choose when the old key ends."),
            "invalid_choice": gettext_lazy("Choose one of the times."),
        },
    )
    ticket = forms.CharField(widget=forms.HiddenInput, required=False, initial=new_ticket)

    def clean_ticket(self) -> UUID:
        return tickets.read("key", self.cleaned_data["ticket"])


class PlacesForm(forms.Form):
    """Where all work of the organization may run."""

    residency = Choices(
        label=gettext_lazy("Allowed places"),
        required=False,
        help_text=gettext_lazy(
            "A country holds its regions and sites, a region its sites. Choose none for everywhere."
        ),
        wrong=gettext_lazy("There is no place %(value)s. Choose from the list."),
    )

    def __init__(self, data: Any = None, *, organization: Organization) -> None:
        kept = organization.residency or []
        super().__init__(data, initial={"residency": kept})
        field = self.fields["residency"]
        assert isinstance(field, forms.MultipleChoiceField)
        field.choices = residency.choices(kept=kept)
