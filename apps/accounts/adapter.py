"""What allauth asks us about."""

import logging
import secrets
from functools import partial
from smtplib import SMTPException
from typing import Any, ClassVar
from urllib.parse import urlsplit

from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.models import EmailAddress
from allauth.core.internal.httpkit import get_client_ip
from allauth.mfa.adapter import DefaultMFAAdapter
from allauth.mfa.models import Authenticator
from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext, gettext_lazy

from apps.accounts import languages, letters
from apps.accounts.models import User

log = logging.getLogger(__name__)

AGENT_LENGTH = 200  # of what a browser calls itself, in a mail
ADDRESS_KEY = "verify_address"  # in the session
WAYS = {
    "reauthenticate": gettext_lazy("Use your password"),
    "mfa_reauthenticate": gettext_lazy("Use a code"),
    "mfa_reauthenticate:webauthn": gettext_lazy("Use a passkey"),
}


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    error_messages: ClassVar[dict[str, Any]] = {
        **DefaultAccountAdapter.error_messages,
        "email_password_mismatch": gettext_lazy("E-mail and password do not match an account."),
        "too_many_login_attempts": gettext_lazy(
            "Too many attempts with this address. Wait five minutes, or set a new password."
        ),
        "enter_current_password": gettext_lazy("This is not your current password."),
        "account_inactive": gettext_lazy("This account is closed."),
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
        languages.remember(user, request.COOKIES)
        return super().save_user(request, user, form, commit)

    def login(self, request: HttpRequest, user: Any) -> None:
        """A language that was chosen before the sign-in is that of the mails too, unless the person chose another."""
        super().login(request, user)
        if languages.remember(user, request.COOKIES):
            user.save(update_fields=["language", "language_chosen"])

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

    def send_notification_mail(
        self, template_prefix: str, user: User, context: dict[str, Any] | None = None, email: str | None = None
    ) -> None:
        """That a password or factor was changed: once it is, and never of what was taken back."""
        address = email or EmailAddress.objects.get_primary_email(user)
        if not address:
            return
        told = {
            "timestamp": timezone.now(),
            "ip": self.get_client_ip(self.request),
            "user_agent": self.get_http_user_agent(self.request)[:AGENT_LENGTH],
            **(context or {}),
        }
        message = self.render_mail(template_prefix, address, told)
        transaction.on_commit(partial(notify, message, notice=template_prefix, user=user.pk))

    def get_reauthentication_methods(self, user: Any) -> list[dict[str, Any]]:
        return [{**method, "description": WAYS[method["id"]]} for method in super().get_reauthentication_methods(user)]

    def get_client_ip(self, request: HttpRequest) -> str:
        """A request that came by a Unix socket, or from a program here, has no address: those count as one."""
        return str(get_client_ip(request) or "0.0.0.0")  # noqa: S104 - listens nowhere

    def get_logout_redirect_url(self, request: HttpRequest) -> str:
        return reverse("account_login")

    def get_password_change_redirect_url(self, request: HttpRequest) -> str:
        return reverse("account_change_password")


def notify(message: EmailMessage, *, notice: str, user: int) -> None:
    """The change stands, whether or not the mail server takes the notice."""
    try:
        message.send()
    except (SMTPException, OSError) as refusal:
        log.warning("a notice was not sent", extra={"notice": notice, "user": user, "why": type(refusal).__name__})


class FactorAdapter(DefaultMFAAdapter):  # type: ignore[misc]
    error_messages: ClassVar[dict[str, Any]] = {
        **DefaultMFAAdapter.error_messages,
        "unverified_email": gettext_lazy("Confirm your e-mail address first: whoever owns it must be able to come in."),
    }

    def get_public_key_credential_rp_entity(self) -> dict[str, str]:
        """Passkeys are bound to the portal's own name, whatever host a request names."""
        return {"id": urlsplit(settings.BASE_URL).hostname or "", "name": "Cango Portal"}

    def generate_authenticator_name(self, user: User, type: Authenticator.Type) -> str:
        number = Authenticator.objects.filter(user=user, type=type).count() + 1
        return gettext("Passkey") if number == 1 else gettext("Passkey %(number)s") % {"number": number}
