"""The form of a new batch: a file, what its lines are for, and when and where they may run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django import forms
from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy

from apps.accounts.models import Organization
from apps.batches.endpoints import ENDPOINTS
from apps.batches.services import LEAST_SECONDS, WINDOW_SECONDS
from apps.core import numbers
from apps.files.models import File

OFFERED = 50  # files of before, newest first
MIB = 1024 * 1024


class DraftForm(forms.Form):
    """A file that is sent with it or one that is stored already. `chosen` is the latter."""

    file = forms.FileField(
        label=gettext_lazy("File"),
        required=False,
        max_length=200,
        error_messages={
            "empty": gettext_lazy("The file is empty. Choose another."),
            "max_length": gettext_lazy("The file's name is longer than 200 characters. Rename it."),
        },
    )
    stored = forms.ChoiceField(
        label=gettext_lazy("Or a file that is stored already"),
        required=False,
        error_messages={"invalid_choice": gettext_lazy("This file is not stored any more. Choose another.")},
    )
    endpoint = forms.ChoiceField(
        label=gettext_lazy("Endpoint"),
        choices=[(path, path) for path in ENDPOINTS],
        help_text=gettext_lazy("The url of every line."),
        error_messages={"invalid_choice": gettext_lazy("Choose one of the endpoints in the list.")},
    )
    name = forms.CharField(
        label=gettext_lazy("Name"),
        required=False,
        max_length=100,
        help_text=gettext_lazy("Shown in the list of batches. Empty: the name of the file."),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )
    max_power_usd_per_mwh = forms.FloatField(
        label=gettext_lazy("Power, at most"),
        required=False,
        min_value=-10_000,
        max_value=1_000_000,
        help_text=gettext_lazy(
            "US dollars for a MWh. Its rows wait until power at a site costs less. Empty: they do not wait for power."
        ),
        error_messages={
            "invalid": gettext_lazy("Enter a number of dollars, such as 40."),
            "min_value": gettext_lazy("Enter -10,000 or more."),
            "max_value": gettext_lazy("Enter 1,000,000 or less."),
        },
    )
    deadline_at = forms.DateTimeField(
        label=gettext_lazy("Deadline"),
        required=False,
        help_text=gettext_lazy("UTC. What has not run by then ends free of charge. Empty: 24 hours after its start."),
        error_messages={"invalid": gettext_lazy("This is not a time. Enter one such as 2027-01-31 18:00.")},
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )

    def __init__(self, *args: Any, organization: Organization, **options: Any) -> None:
        super().__init__(*args, **options)
        files = File.objects.filter(
            organization=organization, purpose=File.Purpose.BATCH, status=File.Status.PROCESSED
        ).exclude(expires_at__lte=timezone.now())
        self.there = {file.public_id: file for file in files.order_by("-pk")[:OFFERED]}
        choices = [
            (file_id, f"{file.name}, {numbers.size(file.size_bytes)}, {file.created_at:%d %b %H:%M}")
            for file_id, file in self.there.items()
        ]
        self.fields["stored"].choices = [("", gettext("None, send one")), *choices]  # type: ignore[attr-defined]
        if not choices:
            del self.fields["stored"]
        self.fields["file"].help_text = gettext(
            "JSON, a request a line (.jsonl), up to 50,000 lines and %(most)s MiB."
        ) % {"most": settings.MAX_BATCH_FILE_BYTES // MIB}

    @property
    def chosen(self) -> File | None:
        return self.there.get(self.cleaned_data.get("stored") or "")

    def clean_file(self) -> Any:
        given = self.cleaned_data["file"]
        if given is not None and (given.size or 0) > settings.MAX_BATCH_FILE_BYTES:
            raise forms.ValidationError(
                gettext("The file is larger than %(most)s MiB. Split it.")
                % {"most": settings.MAX_BATCH_FILE_BYTES // MIB}
            )
        return given

    def clean_deadline_at(self) -> Any:
        at = self.cleaned_data["deadline_at"]
        now = timezone.now()
        if at is not None and at < now + timedelta(seconds=LEAST_SECONDS):
            raise forms.ValidationError(
                gettext("This time has passed, or is less than a minute away. Choose a later one.")
            )
        if at is not None and at > now + timedelta(seconds=WINDOW_SECONDS):
            raise forms.ValidationError(
                gettext("A batch ends within 24 hours. Choose a time before that, or leave it empty.")
            )
        return at

    def clean(self) -> dict[str, Any]:
        given = super().clean() or self.cleaned_data
        if "file" not in self.errors and "stored" not in self.errors:
            if given.get("file") and given.get("stored"):
                self.add_error("stored", gettext("Two files are chosen. Send one, or choose one that is stored."))
            elif not given.get("file") and not given.get("stored"):
                self.add_error("file", gettext("Choose a file."))
        return given
