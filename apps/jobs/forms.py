"""What the history can be filtered by; everything is in the address, so that a view can be shared."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from django import forms
from django.db.models import Exists, OuterRef, Q
from django.forms import BoundField
from django.utils.translation import gettext, gettext_lazy

from apps.accounts.models import Organization
from apps.catalog.models import Model
from apps.jobs.models import Job, UsageHour
from apps.keys.models import APIKey

OPEN = "open"
REFUSED = "refused"
STATES = [
    ("", gettext_lazy("Any state")),
    (OPEN, gettext_lazy("Not ended")),
    *Job.State.choices,
    (REFUSED, gettext_lazy("Refused")),
]
RANGES = {"1h": timedelta(hours=1), "24h": timedelta(days=1), "7d": timedelta(days=7), "30d": timedelta(days=30)}
RANGE_LABELS = [
    ("", gettext_lazy("Any time")),
    ("1h", gettext_lazy("Last hour")),
    ("24h", gettext_lazy("Last 24 hours")),
    ("7d", gettext_lazy("Last 7 days")),
    ("30d", gettext_lazy("Last 30 days")),
]
PAGE = "page"


ID = re.compile(
    r"job_\S*|0[0-9a-hjkmnp-tv-z]{5,25}", re.IGNORECASE
)  # or enough of its digits: those of our time begin with 0
METADATA = re.compile(r"[^=\s]{1,64}=\S.*")


def kind_of(sought: str) -> str:
    """What is looked for: the beginning of an id, a pair of metadata, or text."""
    return "id" if ID.fullmatch(sought) else "metadata" if METADATA.fullmatch(sought) else "text"


class HistoryForm(forms.Form):
    """An unknown value in a shared address filters nothing instead of failing the page."""

    q = forms.CharField(
        required=False,
        max_length=60,
        widget=forms.TextInput(
            attrs={
                "class": "input",
                "type": "search",
                "placeholder": gettext_lazy("Id, name=value or text"),
                "autocomplete": "off",
                "spellcheck": "false",
            }
        ),
    )
    state = forms.ChoiceField(label=gettext_lazy("State"), required=False, choices=STATES)
    model = forms.ChoiceField(label=gettext_lazy("Model"), required=False)
    key = forms.ChoiceField(label=gettext_lazy("API key"), required=False)
    range = forms.ChoiceField(label=gettext_lazy("Time"), required=False, choices=RANGE_LABELS)

    def __init__(self, data: Any, *, organization: Organization) -> None:
        super().__init__(data)
        used = UsageHour.objects.filter(organization=organization, model=OuterRef("pk"))
        models = Model.objects.filter(Q(listed=True) | Exists(used))
        keys = APIKey.objects.filter(organization=organization).order_by("name")[:200]
        self.choices("model").choices = [("", gettext("Any model")), *((model.name, model.title) for model in models)]
        self.choices("key").choices = [
            ("", gettext("Any key")),
            *((str(key.pk), key.name) for key in keys),
            (PAGE, gettext("Sent from a page")),
        ]
        for name in ("state", "model", "key", "range"):
            self.fields[name].widget.attrs["class"] = "select"
        self.is_valid()
        self.unknown = [
            self.data.get(name, "")[:60] for name in ("q", "state", "model", "key", "range") if name in self.errors
        ]
        self.filters: dict[str, str] = {name: value for name, value in self.cleaned_data.items() if value}
        self.sought = self.filters.pop("q", "")
        if self.sought:
            self.filters[kind_of(self.sought)] = self.sought

    def choices(self, name: str) -> forms.ChoiceField:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        return field

    @property
    def selects(self) -> list[BoundField]:
        return [self[name] for name in ("state", "model", "key", "range")]

    @property
    def filtered(self) -> bool:
        return bool(self.filters)

    @property
    def words(self) -> str:
        """The filters, for a list that is empty."""
        found = [f"“{self.sought}”"] if self.sought else []
        for name in ("state", "model", "key", "range"):
            if name in self.filters:
                labels = dict(self.choices(name).choices)  # type: ignore[arg-type]
                found.append(f"“{labels[self.filters[name]]}”")
        return " and ".join(found)
