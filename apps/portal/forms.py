from django import forms

from apps.accounts.models import Organization


class WelcomeForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Organization
        fields = ["name"]
        labels = {"name": "Organization"}
        help_texts = {"name": "Your company or team. It owns the credit, the keys and the jobs."}
        error_messages = {"name": {"required": "Enter the name of your organization."}}
        widgets = {"name": forms.TextInput(attrs={"autocomplete": "organization"})}


class OrganizationForm(forms.Form):
    """Its name, and how long it keeps what was sent and got."""

    name = forms.CharField(
        label="Name", max_length=120, error_messages={"required": "Enter the name of your organization."}
    )
    keep_text_days = forms.TypedChoiceField(
        label="Text of jobs",
        coerce=int,
        choices=[
            (30, "Kept for 30 days"),
            (7, "Kept for 7 days"),
            (0, "Not kept"),
        ],
        help_text="From the end of each job, also of those you have. Text that was deleted does not come back.",
    )
