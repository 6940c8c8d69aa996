from typing import Any

from django import forms
from django.forms.boundfield import BoundWidget
from django.utils.translation import gettext, gettext_lazy

from apps.accounts import trail
from apps.accounts.models import Membership, Organization
from apps.accounts.rights import covers
from apps.accounts.roles import ROLES, Role
from apps.billing import tax_ids


class WelcomeForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = Organization
        fields = ["name"]
        labels = {"name": gettext_lazy("Organization")}
        help_texts = {"name": gettext_lazy("Your company or team. It owns the credit, the keys and the jobs.")}
        error_messages = {"name": {"required": gettext_lazy("Enter the name of your organization.")}}
        widgets = {"name": forms.TextInput(attrs={"autocomplete": "organization"})}

    country = forms.ChoiceField(
        label=gettext_lazy("Country"),
        help_text=gettext_lazy("Where your organization is registered. Taxes on what you pay follow it."),
        widget=forms.Select(attrs={"autocomplete": "country"}),
        error_messages={
            "required": gettext_lazy("Choose the country of your organization."),
            "invalid_choice": gettext_lazy("Choose a country from the list."),
        },
    )
    tax_id = forms.CharField(
        label=gettext_lazy("Tax ID (optional)"),
        help_text=gettext_lazy("Such as a VAT number. It is printed on invoices."),
        required=False,
        max_length=40,
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    def __init__(self, data: Any = None, *, accept_language: str = "") -> None:
        """The country that the reader's language names is chosen already."""
        super().__init__(data, initial={"country": tax_ids.guess(accept_language)})
        self.fields["country"].choices = [("", gettext("Choose a country")), *tax_ids.countries()]  # type: ignore[attr-defined]

    def clean(self) -> dict[str, Any]:
        """`tax_id` becomes a `TaxId`, or None."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        given, cleaned["tax_id"] = cleaned.get("tax_id"), None
        if given and "country" in cleaned:
            try:
                cleaned["tax_id"] = tax_ids.parse(cleaned["country"], given)
            except tax_ids.InvalidTaxId as refused:
                self.add_error("tax_id", forms.ValidationError(refused.message, code=refused.reason))
        return cleaned


class RoleForm(forms.Form):
    """Offered with what each role may do (`accounts.roles`): those that `giver`, the role of who fills it in, may give."""

    role = forms.ChoiceField(
        label=gettext_lazy("Role"),
        widget=forms.RadioSelect,
        error_messages={"invalid_choice": gettext_lazy("Choose a role from the list: yours may give no other.")},
    )

    def __init__(self, *args: Any, giver: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.given = [role for role in ROLES if covers(giver, role.value)]
        self.fields["role"].choices = [(role.value, role.label) for role in self.given]  # type: ignore[attr-defined]

    @property
    def roles(self) -> list[tuple[BoundWidget, Role]]:
        return list(zip(self["role"], self.given, strict=True))


class InviteForm(RoleForm):
    email = forms.EmailField(
        label=gettext_lazy("E-mail"),
        help_text=gettext_lazy("A link goes there. It is open for seven days."),
        error_messages={"required": gettext_lazy("Enter the address of whom you invite.")},
    )
    field_order = ["email", "role"]


class AuditForm(forms.Form):
    """Filters of the audit log. What is no valid value is left out."""

    who = forms.ChoiceField(label=gettext_lazy("Who"), required=False)
    kind = forms.ChoiceField(
        label=gettext_lazy("What"),
        required=False,
        choices=[("", gettext_lazy("Everything")), *((each, words) for each, (words, _) in trail.KINDS.items())],
    )
    since = forms.DateField(
        label=gettext_lazy("From day (UTC)"), required=False, widget=forms.DateInput(attrs={"type": "date"})
    )
    until = forms.DateField(
        label=gettext_lazy("To day (UTC)"), required=False, widget=forms.DateInput(attrs={"type": "date"})
    )

    def __init__(self, *args: Any, organization: Organization, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        people = Membership.objects.filter(organization=organization).select_related("user").order_by("pk")
        self.fields["who"].choices = [  # type: ignore[attr-defined]
            ("", gettext("Everybody")),
            *((str(each.user_id), each.user.email) for each in people),
            (trail.KEY, gettext("An API key")),
            (trail.STAFF, gettext("Staff of Cango Portal")),
            (trail.PORTAL, gettext("Cango Portal by itself")),
        ]

    @property
    def filters(self) -> dict[str, Any]:
        self.is_valid()
        return {name: value for name, value in self.cleaned_data.items() if value}


class CloseForm(forms.Form):
    """Confirmed by name, so that it is no slip."""

    name = forms.CharField(
        label=gettext_lazy("Name of the organization"),
        error_messages={"required": gettext_lazy("Enter the name of the organization.")},
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )

    def __init__(self, *args: Any, organization: Organization, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.organization = organization
        self.fields["name"].help_text = gettext("Type “%(name)s” to confirm.") % {"name": organization.name}

    def clean_name(self) -> str:
        name: str = self.cleaned_data["name"]
        if " ".join(name.split()) != " ".join(self.organization.name.split()):
            raise forms.ValidationError(
                gettext("This is not the name. It is “%(name)s”.") % {"name": self.organization.name}
            )
        return name


class OrganizationForm(forms.Form):
    """Its name, and how long it keeps what was sent and got."""

    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=120,
        error_messages={"required": gettext_lazy("Enter the name of your organization.")},
    )
    keep_text_days = forms.TypedChoiceField(
        label=gettext_lazy("Text of jobs"),
        coerce=int,
        choices=[
            (30, gettext_lazy("Kept for 30 days")),
            (7, gettext_lazy("Kept for 7 days")),
            (0, gettext_lazy("Not kept")),
        ],
        help_text=gettext_lazy(
            "From the end of each job, also of those you have. Text that was deleted does not come back."
        ),
    )
