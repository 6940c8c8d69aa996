"""What allauth asks us about."""

import secrets
from typing import Any, ClassVar

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core.internal.httpkit import get_client_ip
from django.core.mail import EmailMessage
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import get_language

from apps.accounts import letters

ADDRESS_KEY = "verify_address"  # in the session


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    error_messages: ClassVar[dict[str, Any]] = {
        **DefaultAccountAdapter.error_messages,
        "email_password_mismatch": "E-mail and password do not match an account.",
        "too_many_login_attempts": "Too many attempts with this address. Wait five minutes, or set a new password.",
        "enter_current_password": "This is not your current password.",
        "account_inactive": "This account is closed.",
    }

    def get_login_redirect_url(self, request: HttpRequest) -> str:
        """Staff without an organization have nothing on the customers' pages."""
        if (
            request.user.is_staff
            and getattr(request, "organization", None) is None
            and not request.user.memberships.exists()
        ):
            return reverse("admin:index")
        return str(super().get_login_redirect_url(request))

    def save_user(self, request: HttpRequest, user: Any, form: Any, commit: bool = True) -> Any:
        """Mails come in the language of the page the person signed up on."""
        user.language = get_language() or ""
        return super().save_user(request, user, form, commit)

    def unstash_verified_email(self, request: HttpRequest) -> str | None:
        """The address whose invitation was opened here needs no other mail to be confirmed; any other that was typed does."""
        opened = super().unstash_verified_email(request)
        return opened if opened == request.POST.get("email", "").strip().lower() else None

    def respond_email_verification_sent(self, request: HttpRequest, user: Any) -> HttpResponse:
        """The page names the address as it was typed: that tells nobody whether there is an account."""
        request.session[ADDRESS_KEY] = (request.POST.get("login") or request.POST.get("email") or "")[:254]
        response: HttpResponse = super().respond_email_verification_sent(request, user)
        return response

    def render_mail(
        self, template_prefix: str, email: str, context: dict[str, Any], headers: dict[str, str] | None = None
    ) -> EmailMessage:
        """allauth keeps subject and text in two templates."""
        told = {**context, "mark": secrets.token_hex(8)}
        subject, body = (render_to_string(f"{template_prefix}_{part}.txt", told) for part in ("subject", "message"))
        return letters.written(email, subject, body, mark=told["mark"])

    def get_client_ip(self, request: HttpRequest) -> str:
        """A request that came by a Unix socket, or from a program here, has no address: those count as one."""
        return str(get_client_ip(request) or "0.0.0.0")  # noqa: S104 - listens nowhere

    def get_logout_redirect_url(self, request: HttpRequest) -> str:
        return reverse("account_login")

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        return reverse("account_change_password")
