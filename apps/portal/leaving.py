"""Pages on which an organization takes its data along, and ends. For its owners."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.core.files.storage import default_storage
from django.http import FileResponse, Http404, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from apps.accounts.permissions import MemberRequest, right_required
from apps.accounts.rights import Right
from apps.batches.models import ENDED, Batch
from apps.core.errors import PortalError
from apps.core.ids import parse
from apps.jobs.models import Job
from apps.keys.models import APIKey
from apps.ledger import services as ledger
from apps.portal import closing, exporting
from apps.portal import exports as pages
from apps.portal.forms import CloseForm
from apps.portal.models import Export


@never_cache
@right_required(Right.OWN)
@require_http_methods(["GET", "HEAD", "POST"])
def delete(request: MemberRequest) -> HttpResponse:
    """What goes, what is kept and why; confirmed by the organization's name. While it can be undone, how."""
    organization = request.organization
    form = CloseForm(request.POST if request.method == "POST" else None, organization=organization)
    if request.method == "POST" and form.is_valid():
        try:
            closing.ask(organization=organization, user=request.user)
        except PortalError as error:
            form.add_error(None, error.message)
        else:
            messages.success(request, gettext("The deletion is set. API keys have stopped."))
            return redirect("portal:delete")
    balance = ledger.balance(organization.pk)
    jobs = Job.objects.of(organization)
    context = {
        "form": form,
        "days": closing.GRACE.days,
        "years": settings.BOOKS_YEARS,
        "keys": APIKey.objects.of(organization).active().count(),
        "running": jobs.open().count() + Batch.objects.of(organization).exclude(state__in=ENDED).count(),
        "left_microusd": balance.available_microusd + balance.held_microusd,
    }
    return render(request, "portal/delete.html", context, status=422 if form.errors else 200)


@never_cache
@right_required(Right.OWN)
@require_POST
def undo(request: MemberRequest) -> HttpResponse:
    try:
        closing.undo(organization=request.organization, user=request.user)
    except PortalError as error:
        messages.error(request, error.message)
    else:
        messages.success(
            request, gettext("The organization stays. Its API keys work again; automatic top-up is still off.")
        )
    return redirect("portal:organization")


@never_cache
@right_required(Right.OWN)
@require_http_methods(["GET", "HEAD", "POST"])
def exports(request: MemberRequest) -> HttpResponse:
    """The topic `exports` keeps it live."""
    if request.method == "POST":
        try:
            exporting.begin(organization=request.organization, user=request.user)
        except PortalError as error:
            messages.error(request, error.message)
        return redirect("portal:exports")
    return render(request, "portal/exports.html", {"page": pages.load(request.organization)})


@never_cache
@right_required(Right.OWN)
@require_safe
def download(request: MemberRequest, public_id: str) -> FileResponse:
    pk = parse("exp", public_id)
    row = Export.objects.filter(organization=request.organization, pk=pk).exclude(path="").first() if pk else None
    if row is None or row.state != Export.State.DONE:
        raise Http404
    name = f"cango-{request.organization.public_id}-{row.created_at:%Y-%m-%d}.zip"
    try:
        return FileResponse(default_storage.open(row.path), as_attachment=True, filename=name)
    except FileNotFoundError as error:
        raise Http404 from error
