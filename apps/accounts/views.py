"""The person's own pages: name and time zone, which e-mails, factors and sessions. For members and for those without an organization."""

from __future__ import annotations

from typing import Any, cast

from allauth.mfa.base.views import IndexView
from allauth.usersessions.internal import flows
from allauth.usersessions.models import UserSession
from django.contrib import messages
from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.auth.decorators import login_required
from django.contrib.sessions.models import Session
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.utils.decorators import method_decorator
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_http_methods, require_POST

from apps.accounts import agents, letters
from apps.accounts.forms import AccountForm, NotificationsForm
from apps.accounts.mails import Mail
from apps.accounts.models import User


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def account(request: HttpRequest) -> HttpResponse:
    user = cast(User, request.user)
    posted = request.method == "POST"
    form = AccountForm(request.POST if posted else None, initial={"name": user.name, "time_zone": user.time_zone})
    if posted and form.is_valid():
        user.name, user.time_zone = form.cleaned_data["name"], form.cleaned_data["time_zone"]
        user.save(update_fields=["name", "time_zone"])
        messages.success(request, gettext("Saved."))
        return redirect("settings-account")
    return render(request, "account/settings.html", {"form": form}, status=422 if form.errors else 200)


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def notifications(request: HttpRequest) -> HttpResponse:
    user = cast(User, request.user)
    wanted = [kind.value for kind in Mail if kind.value not in user.declined_mails]
    posted = request.method == "POST"
    form = NotificationsForm(request.POST if posted else None, initial={"wanted": wanted})
    if posted and form.is_valid():
        user.declined_mails = form.declined()
        user.save(update_fields=["declined_mails"])
        messages.success(request, gettext("Saved."))
        return redirect("settings-notifications")
    return render(request, "account/notifications.html", {"form": form}, status=422 if form.errors else 200)


@csrf_exempt
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def stop_mails(request: HttpRequest, token: str) -> HttpResponse:
    """The address in a mail. A POST stops mails of its kind (RFC 8058: from any program, without cookies), or with `again`
    lets them come; a GET alone changes nothing, since mail scanners open links. Whoever has the mail may do it."""
    found = letters.named(token)
    if found is None:
        raise Http404
    user_id, kind = found
    user = User.objects.filter(pk=user_id).first()
    if request.method == "POST" and user is not None:
        user = want(user_id, kind, wanted="again" in request.POST)
    context = {
        "address": user.email if user else "",
        "about": letters.about(kind),
        "stopped": user is None or kind.value in user.declined_mails,
    }
    return render(request, "account/stop_mails.html", context)


@transaction.atomic
def want(user_id: int, kind: Mail, *, wanted: bool) -> User:
    """Whether a person wants mails of a kind. Safe to repeat, and beside a change of other kinds."""
    user = User.objects.select_for_update(no_key=True).get(pk=user_id)
    declined = {*user.declined_mails} - {kind.value} if wanted else {*user.declined_mails, kind.value}
    user.declined_mails = [each.value for each in Mail if each.value in declined]
    user.save(update_fields=["declined_mails"])
    return user


def sessions_of(user: User) -> list[UserSession]:
    """Those in which the person is signed in, newest first: neither expired nor ended by a new password. Two queries."""
    own = list(UserSession.objects.filter(user=user).order_by("-created_at", "-pk"))
    kept = Session.objects.filter(pk__in=[each.session_key for each in own], expire_date__gt=timezone.now())
    signed = user.get_session_auth_hash()
    valid = {each.pk for each in kept if each.get_decoded().get(HASH_SESSION_KEY) == signed}
    return [each for each in own if each.session_key in valid]


@method_decorator([never_cache, login_required], name="dispatch")
class Security(IndexView):  # type: ignore[misc]
    """Password, factors, and where one is signed in. This session is made known here, should it be from before sessions were."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        UserSession.objects.create_from_request(self.request)
        named = [(session, agents.words(session.user_agent)) for session in sessions_of(cast(User, self.request.user))]
        return {**super().get_context_data(**kwargs), "sessions": named}


security = Security.as_view()


@never_cache
@login_required
@require_POST
def end_sessions(request: HttpRequest) -> HttpResponse:
    """One session of one's own, or all others. Whoever is signed in there is not any more with their next request."""
    own = UserSession.objects.filter(user_id=request.user.pk)
    chosen = request.POST.get("session", "")
    if chosen.isdecimal():
        flows.sessions.end_sessions(request, list(own.filter(pk=int(chosen))))
    else:
        flows.sessions.end_other_sessions(request, request.user)
    if not request.user.is_authenticated:
        return redirect("account_login")
    messages.success(request, gettext("Signed out there."))
    return redirect("mfa_index")
