"""Pages of API keys. A secret is on one page once: the answer to the form that made it."""

from dataclasses import dataclass
from uuid import UUID

from django.contrib import messages
from django.core.paginator import Paginator
from django.db import IntegrityError
from django.db.models import F
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from apps.accounts.permissions import Denied, MemberRequest, may_pay, organization_required, require, right_required
from apps.accounts.rights import Right
from apps.accounts.scopes import Scope
from apps.catalog import offers
from apps.core import places
from apps.keys import figures, permits, residency, services
from apps.keys.forms import KeyForm, PermitForm, PlacesForm, ReplaceForm
from apps.keys.models import APIKey
from apps.keys.services import KeyState
from apps.ledger import limits
from apps.ledger.forms import LimitsForm
from apps.ledger.limits import Spent
from cango_portal import database

SIZE = 40


@dataclass(frozen=True, slots=True)
class Line:
    """A key in the list. `spent` are its windows that have a limit."""

    key: APIKey
    revocable: bool
    spent: list[Spent]


def limits_of(key: APIKey) -> list[Spent]:
    if key.budget is None or key.state != "active":
        return []
    return [each for each in limits.spent(key.budget, timezone.now()) if each.window.limit_microusd is not None]


@require_safe
@organization_required
def index(request: MemberRequest) -> HttpResponse:
    keys = (
        APIKey.objects.of(request.organization)
        .select_related("created_by", "budget")
        .order_by(F("revoked_at").desc(nulls_first=True), "-created_at", "-pk")
    )
    page = Paginator(keys, SIZE).get_page(request.GET.get("page"))
    return render(
        request,
        "keys/index.html",
        {
            "page": page,
            "rows": [Line(key, key.revoked_at is None and may_change(request, key), limits_of(key)) for key in page],
            "rule": None if request.organization.residency is None else residency.words(request.organization.residency),
        },
    )


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@right_required(Right.KEYS)
def new(request: MemberRequest) -> HttpResponse:
    form = KeyForm(request.POST or None, organization=request.organization, role=request.membership.role)
    if request.method == "POST" and form.is_valid():
        key_id = form.cleaned_data["ticket"]
        try:
            key, secret = issued(request, form)
        except IntegrityError:  # the form was sent twice
            return made(request, key_id)
        return created(request, key, secret)
    return render(request, "keys/new.html", {"form": form}, status=422 if form.errors else 200)


def issued(request: MemberRequest, form: KeyForm) -> tuple[APIKey, str]:
    """The key with its limits, or neither."""
    return services.issue(
        organization=request.organization,
        name=form.cleaned_data["name"],
        user=request.user,
        key_id=form.cleaned_data["ticket"],
        permit=form.cleaned_data["permit"],
        rates=form.rates,
        spending=form.limits,
    )


def created(request: MemberRequest, key: APIKey, secret: str) -> HttpResponse:
    """The one page with the secret, and a first request where the key may send one."""
    chat = next(
        (offer for offer in database.run(offers.offers()) if offer.kind == "chat" and usable(key, offer.name)), None
    )
    return render(request, "keys/created.html", {"key": key, "secret": secret, "offer": chat})


def usable(key: APIKey, model: str) -> bool:
    return Scope.INFERENCE in key.scopes and (key.allowed_models is None or model in key.allowed_models)


def made(request: MemberRequest, key_id: UUID) -> HttpResponse:
    return render(
        request, "keys/made.html", {"key": get_object_or_404(APIKey, pk=key_id, organization=request.organization)}
    )


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@organization_required
def detail(request: MemberRequest, pk: UUID) -> HttpResponse:
    """One key: who made it, what it may do, what it spent of its limits. Those who pay change the limits."""
    key = key_of(request, pk)
    payer = may_pay(request.membership)
    if request.method == "POST" and not payer:
        raise Denied(Right.PAY)
    form = LimitsForm(request.POST or None, budget=key.budget) if key.budget and key.state == "active" else None
    if request.method == "POST":
        if form is None or key.budget is None:
            return redirect("keys:detail", key.pk)
        if form.is_valid():
            limits.change(budget=key.budget, actor=request.user, limits=form.limits)
            messages.success(
                request, gettext("The limits of “%(name)s” are in force for the next request.") % {"name": key.name}
            )
            return redirect("keys:detail", key.pk)
    mine = may_change(request, key)
    newer = APIKey.objects.of(request.organization).filter(replaces=key).first()
    context = {
        "key": key,
        "form": form if payer else None,
        "spent": limits.spent(key.budget, timezone.now()) if key.budget else [],
        "payer": payer,
        "revocable": key.revoked_at is None and mine,
        "changeable": key.state == "active" and mine,
        "replaceable": key.state == "active" and mine and newer is None,
        "newer": newer,
        "scopes": [Scope(scope).label for scope in key.scopes],
        "rule": places.narrowed(request.organization.residency, key.residency),
        "rates": figures.lines(key),
    }
    return render(request, "keys/detail.html", context, status=422 if form and form.errors else 200)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@organization_required
def change(request: MemberRequest, pk: UUID) -> HttpResponse:
    """Name, permit and rate limits of a key, in force for its next request."""
    key = key_of(request, pk)
    theirs(request, key)
    form = PermitForm(request.POST or None, organization=request.organization, role=request.membership.role, key=key)
    if request.method == "POST" and form.is_valid():
        try:
            changed = services.change(
                key=key,
                name=form.cleaned_data["name"],
                permit=form.cleaned_data["permit"],
                seen=permits.of(key),
                rates=form.rates,
                user=request.user,
            )
        except KeyState as refused:
            messages.error(request, refused.message)
            return redirect("keys:detail", key.pk)
        if changed:
            messages.success(
                request,
                gettext("“%(name)s” is changed, in force for its next request.") % {"name": form.cleaned_data["name"]},
            )
        return redirect("keys:detail", key.pk)
    if key.state != "active":
        return redirect("keys:detail", key.pk)
    return render(request, "keys/change.html", {"form": form, "key": key}, status=422 if form.errors else 200)


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@organization_required
def replace(request: MemberRequest, pk: UUID) -> HttpResponse:
    """Another key with the same permit and limits; the old one works on for a while."""
    key = key_of(request, pk)
    theirs(request, key)
    form = ReplaceForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        key_id = form.cleaned_data["ticket"]
        if APIKey.objects.of(request.organization).filter(pk=key_id).exists():  # sent twice
            return made(request, key_id)
        try:
            another, secret = services.replace_key(
                key=key, overlap=form.cleaned_data["overlap"], user=request.user, key_id=key_id
            )
        except IntegrityError:  # sent twice at the same moment
            return made(request, key_id)
        except KeyState as refused:
            messages.error(request, refused.message)
            return redirect("keys:detail", key.pk)
        return created(request, another, secret)
    if key.state != "active":
        return redirect("keys:detail", key.pk)
    return render(request, "keys/replace.html", {"form": form, "key": key}, status=422 if form.errors else 200)


@require_http_methods(["GET", "HEAD", "POST"])
@organization_required
def revoke(request: MemberRequest, pk: UUID) -> HttpResponse:
    key = key_of(request, pk)
    theirs(request, key)
    if key.revoked_at is not None:
        return redirect("keys:index")
    if request.method == "POST":
        services.revoke(key=key, user=request.user, reason="revoked on the keys page")
        return redirect("keys:index")
    return render(request, "keys/revoke.html", {"key": key})


@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
@organization_required
def allowed_places(request: MemberRequest) -> HttpResponse:
    """Where the work of the organization may run: owners and admins decide, members read."""
    owner = request.membership.may(Right.SETTINGS)
    if request.method == "POST":
        require(request, Right.SETTINGS)
    form = PlacesForm(request.POST if request.method == "POST" else None, organization=request.organization)
    if request.method == "POST" and form.is_valid():
        chosen = tuple(form.cleaned_data["residency"]) or None
        if residency.set_rule(organization=request.organization, residency=chosen, user=request.user):
            messages.success(request, gettext("The allowed places are in force for the next request."))
        return redirect("keys:places")
    context = {"form": form, "owner": owner, "nowhere": residency.left_nowhere(request.organization)}
    return render(request, "keys/places.html", context, status=422 if form.errors else 200)


def key_of(request: MemberRequest, pk: UUID) -> APIKey:
    keys = APIKey.objects.select_related("organization", "created_by", "budget", "replaces")
    return get_object_or_404(keys, pk=pk, organization=request.organization)


def may_change(request: MemberRequest, key: APIKey) -> bool:
    """Owners and admins any key, others those they created."""
    membership = request.membership
    return membership.may(Right.EVERY_KEY) or (membership.may(Right.KEYS) and key.created_by_id == request.user.pk)


def theirs(request: MemberRequest, key: APIKey) -> None:
    require(request, Right.KEYS)
    if not may_change(request, key):
        raise Denied(Right.EVERY_KEY)
