"""allauth's forms in our words (placeholders repeat labels, so they go), and those of the person's own pages."""

from typing import Any

from allauth.account import forms as allauth
from allauth.mfa.models import Authenticator
from allauth.mfa.webauthn import forms as webauthn
from django import forms
from django.core.exceptions import ValidationError
from django.forms import Form
from django.utils.translation import gettext, gettext_lazy

from apps.accounts.mails import Mail
from apps.accounts.zones import zones

HINT = gettext_lazy("At least 12 characters. A few words in a row are fine.")


def put(form: Form, name: str, *, label: str, hint: str = "") -> None:
    field = form.fields[name]
    field.label, field.help_text = label, hint
    field.widget.attrs.pop("placeholder", None)


class LoginForm(allauth.LoginForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        put(self, "login", label=gettext("E-mail"))
        put(self, "password", label=gettext("Password"))
        self.fields["login"].widget.attrs["autocomplete"] = "username"  # what password managers look for


class SignupForm(allauth.SignupForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        put(self, "email", label=gettext("Work e-mail"), hint=gettext("A link goes there, to see that it is yours."))
        put(self, "password1", label=gettext("Password"), hint=str(HINT))
        self.fields["email"].widget.attrs["autocomplete"] = "username"
        self.fields["password1"].widget.attrs["autocomplete"] = "new-password"


class ResetPasswordForm(allauth.ResetPasswordForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        put(self, "email", label=gettext("E-mail"))
        self.fields["email"].widget.attrs["autocomplete"] = "username"


class ResetPasswordKeyForm(allauth.ResetPasswordKeyForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        put(self, "password1", label=gettext("New password"), hint=str(HINT))
        put(self, "password2", label=gettext("New password again"))


class ChangePasswordForm(allauth.ChangePasswordForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        put(self, "oldpassword", label=gettext("Current password"))
        put(self, "password1", label=gettext("New password"), hint=str(HINT))
        put(self, "password2", label=gettext("New password again"))


class ReauthenticateForm(allauth.ReauthenticateForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        put(self, "password", label=gettext("Password"))


NOT_ACCEPTED = gettext_lazy("This passkey was not accepted. Try again, or use another way.")
MALFORMED = (AttributeError, KeyError, TypeError, ValueError)  # of what a stranger may send as a passkey


class AddPasskeyForm(webauthn.AddWebAuthnForm):  # type: ignore[misc]
    """Always one that signs in alone: `passwordless` is not asked."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        del self.fields["passwordless"]
        put(self, "name", label=gettext("Name"), hint=gettext("By which you know the device or the password manager."))
        self.fields["name"].max_length = self.fields["name"].widget.attrs["maxlength"] = 60

    def clean_name(self) -> str:
        return str(super().clean_name())[:60]

    def clean(self) -> dict[str, Any]:
        self.cleaned_data["passwordless"] = True
        try:
            return dict(super().clean())
        except MALFORMED as fault:
            raise ValidationError(NOT_ACCEPTED) from fault
        except ValidationError as refusal:
            raise (ValidationError(NOT_ACCEPTED) if refusal.code == "incorrect_code" else refusal) from refusal


class RenamePasskeyForm(webauthn.EditWebAuthnForm):  # type: ignore[misc]
    name = forms.CharField(label=gettext_lazy("Name"), max_length=60)


class PasskeyForm(webauthn.AuthenticateWebAuthnForm):  # type: ignore[misc]
    def clean_credential(self) -> Authenticator:
        try:
            return super().clean_credential()
        except MALFORMED as fault:
            raise ValidationError(NOT_ACCEPTED) from fault
        except ValidationError as refusal:
            raise (ValidationError(NOT_ACCEPTED) if refusal.code == "incorrect_code" else refusal) from refusal


class PasskeyLoginForm(PasskeyForm, webauthn.LoginWebAuthnForm):  # type: ignore[misc]
    pass


class PasskeyConfirmForm(PasskeyForm, webauthn.ReauthenticateWebAuthnForm):  # type: ignore[misc]
    pass


class AccountForm(forms.Form):
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=120,
        required=False,
        help_text=gettext_lazy("As your colleagues see it."),
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )
    time_zone = forms.ChoiceField(
        label=gettext_lazy("Time zone"),
        choices=zones,
        help_text=gettext_lazy("Times on pages are shown in it. Days of usage and limits are of UTC."),
    )


class NotificationsForm(forms.Form):
    """Asked by what is wanted, kept by what is not: a kind of mail that comes later is wanted by all."""

    wanted = forms.MultipleChoiceField(
        label=gettext_lazy("E-mails"), choices=Mail.choices, required=False, widget=forms.CheckboxSelectMultiple
    )

    def declined(self) -> list[str]:
        return [kind.value for kind in Mail if kind.value not in self.cleaned_data["wanted"]]
