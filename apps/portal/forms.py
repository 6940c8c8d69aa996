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
