"""allauth's forms in our words. Placeholders repeat labels, so they go."""

from typing import Any

from allauth.account import forms as allauth
from django.forms import Form

HINT = "At least 12 characters. A few words in a row are fine."


def put(form: Form, name: str, *, label: str, hint: str = "") -> None:
    field = form.fields[name]
    field.label, field.help_text = label, hint
    field.widget.attrs.pop("placeholder", None)


class LoginForm(allauth.LoginForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        put(self, "login", label="E-mail")
        put(self, "password", label="Password")
        self.fields["login"].widget.attrs["autocomplete"] = "username"  # what password managers look for


class SignupForm(allauth.SignupForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        put(self, "email", label="Work e-mail", hint="A link goes there, to see that it is yours.")
        put(self, "password1", label="Password", hint=HINT)
        self.fields["email"].widget.attrs["autocomplete"] = "username"
        self.fields["password1"].widget.attrs["autocomplete"] = "new-password"


class ResetPasswordForm(allauth.ResetPasswordForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        put(self, "email", label="E-mail")
        self.fields["email"].widget.attrs["autocomplete"] = "username"


class ResetPasswordKeyForm(allauth.ResetPasswordKeyForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        put(self, "password1", label="New password", hint=HINT)
        put(self, "password2", label="New password again")


class ChangePasswordForm(allauth.ChangePasswordForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        put(self, "oldpassword", label="Current password")
        put(self, "password1", label="New password", hint=HINT)
        put(self, "password2", label="New password again")


class ReauthenticateForm(allauth.ReauthenticateForm):  # type: ignore[misc]
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        put(self, "password", label="Password")
