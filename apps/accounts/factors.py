"""Passkeys beside the authenticator app: allauth's ceremonies on pages of ours.

A passkey here is discoverable and verifies its user, so each signs in alone, is a second factor after the password, and
confirms that it is you. What a ceremony asks the browser stands in `options`, which `passkeys.js` reads.
"""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any, cast

from allauth.mfa.base.views import AuthenticateView
from allauth.mfa.models import Authenticator
from allauth.mfa.utils import is_mfa_enabled
from allauth.mfa.webauthn import views
from allauth.mfa.webauthn.internal import auth
from django.conf import settings
from django.core.cache import cache
from django.db import transaction
from django.forms import Form
from django.http import HttpRequest, HttpResponse
from django.urls import reverse_lazy
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache

from apps.accounts import witness
from apps.accounts.models import User

CHALLENGE = "passkey"  # the cookie, on its way to the device and back
CHALLENGE_SECONDS = 300  # as long as browsers wait for a person


def asked(options: Any) -> str:
    return json.dumps(options, default=dict)


@method_decorator(never_cache, name="dispatch")
class SecondFactor(AuthenticateView):  # type: ignore[misc]
    """After the password: a code, or a passkey where there is one."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context_data(**kwargs)
        user = self.stage.login.user
        context["app"] = is_mfa_enabled(user, [Authenticator.Type.TOTP])
        context["passkey"] = is_mfa_enabled(user, [Authenticator.Type.WEBAUTHN])
        context["options"] = asked(context["js_data"]["request_options"])
        return context


@method_decorator(never_cache, name="dispatch")
class AddPasskey(views.AddWebAuthnView):  # type: ignore[misc]
    template_name = "mfa/passkeys/add.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context_data(**kwargs)
        return {**context, "options": asked(auth.begin_registration(self.request.user, True))}

    @transaction.atomic
    def form_valid(self, form: Form) -> HttpResponse:
        return cast(HttpResponse, super().form_valid(form))


@method_decorator(never_cache, name="dispatch")
class RenamePasskey(views.EditWebAuthnView):  # type: ignore[misc]
    template_name = "mfa/passkeys/rename.html"
    success_url = reverse_lazy("mfa_index")

    @transaction.atomic
    def form_valid(self, form: Form) -> HttpResponse:
        old, new = self.object.wrap().name, form.cleaned_data["name"]
        if old != new:
            witness.witnessed(cast(User, self.request.user), "passkey.renamed", {"name": {"from": old, "to": new}})
        return cast(HttpResponse, super().form_valid(form))


@method_decorator(never_cache, name="dispatch")
class RemovePasskey(views.RemoveWebAuthnView):  # type: ignore[misc]
    """`last`: no factor is left after it, so the password alone signs in and recovery codes go."""

    template_name = "mfa/passkeys/remove.html"
    success_url = reverse_lazy("mfa_index")

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        others = Authenticator.objects.filter(user=self.request.user).exclude(pk=self.object.pk)
        last = not others.exclude(type=Authenticator.Type.RECOVERY_CODES).exists()
        return {**super().get_context_data(**kwargs), "passkey": self.object.wrap(), "last": last}

    @transaction.atomic
    def form_valid(self, form: Form) -> HttpResponse:
        return cast(HttpResponse, super().form_valid(form))


@method_decorator(never_cache, name="dispatch")
class ConfirmByPasskey(views.ReauthenticateWebAuthnView):  # type: ignore[misc]
    template_name = "mfa/passkeys/again.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context_data(**kwargs)
        return {**context, "options": asked(context["js_data"]["request_options"])}

    def form_invalid(self, form: Form) -> HttpResponse:
        return cast(HttpResponse, self.render_to_response({**self.get_context_data(), "form": form}))


@method_decorator(never_cache, name="dispatch")
class SignInByPasskey(views.LoginWebAuthnView):  # type: ignore[misc]
    """A passkey alone. What a stranger's browser is asked stands in a signed cookie of its own: asking leaves no row here.

    A challenge is answered once: which ones were is remembered for as long as their cookies last.
    """

    def get(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        answer: HttpResponse = super().get(request, *args, **kwargs)
        if (state := request.session.pop(auth.STATE_SESSION_KEY, None)) is not None:
            answer.set_signed_cookie(
                CHALLENGE,
                json.dumps(state),
                salt=CHALLENGE,
                max_age=CHALLENGE_SECONDS,
                path=request.path,
                secure=settings.SESSION_COOKIE_SECURE,
                httponly=True,
                samesite="Strict",
            )
        return answer

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        state = request.get_signed_cookie(CHALLENGE, "", salt=CHALLENGE, max_age=CHALLENGE_SECONDS)
        if state and cache.add(f"passkey:{sha256(state.encode()).hexdigest()}", True, CHALLENGE_SECONDS):
            request.session[auth.STATE_SESSION_KEY] = json.loads(state)
        answer: HttpResponse = super().post(request, *args, **kwargs)
        request.session.pop(auth.STATE_SESSION_KEY, None)
        answer.delete_cookie(CHALLENGE, path=request.path, samesite="Strict")
        return answer


second_factor = SecondFactor.as_view()
add_passkey = AddPasskey.as_view()
rename_passkey = RenamePasskey.as_view()
remove_passkey = RemovePasskey.as_view()
confirm_by_passkey = ConfirmByPasskey.as_view()
sign_in_by_passkey = SignInByPasskey.as_view()
