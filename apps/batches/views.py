"""Pages of batches: all of them, a new one, one, its files; cancel it, and run again what has no answer."""

from __future__ import annotations

import contextlib
from uuid import UUID

from django.db import IntegrityError
from django.http import Http404, HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import content_disposition_header
from django.utils.translation import gettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe
from django.views.decorators.vary import vary_on_headers

from apps.accounts import tickets
from apps.accounts.permissions import MemberRequest, organization_required, work_required
from apps.batches import drafting, repeating, results, services
from apps.batches.ending import CannotCancel
from apps.batches.forms import DraftForm
from apps.batches.models import Batch, Draft, Shard
from apps.batches.pages import batch as pages
from apps.batches.pages import draft as drafts
from apps.batches.pages import listing as lists
from apps.batches.pages import live
from apps.batches.pages.draft import DraftPage
from apps.batches.pages.events import EventsPage
from apps.batches.pages.row import RowPage
from apps.batches.pages.rows import RowsPage
from apps.core.errors import InvalidRequest, PortalError
from apps.core.ids import parse, public
from apps.core.spreadsheets import BYTE_ORDER_MARK, lines
from apps.files import services as files
from apps.jobs import reasons
from apps.keys import services as keys
from apps.ledger.services import InsufficientCredit


@require_safe
@never_cache
@vary_on_headers("HX-Request")
@organization_required
def index(request: MemberRequest) -> HttpResponse:
    show = request.GET.get("show", "")
    show = show if show in lists.SHOWS else ""
    before = request.GET.get("before", "")
    found = lists.listing(request.organization, show=show, before=parse("batch", before))
    shows = [(name, label) for name, label in lists.SHOWS.items()]
    context = {"found": found, "show": show, "shows": shows, "before": before, "docs": f"{reverse('api-docs')}"}
    return render(request, "batches/_list.html" if request.htmx else "batches/index.html", context)


@never_cache
@work_required
@require_http_methods(["GET", "HEAD", "POST"])
def new(request: MemberRequest) -> HttpResponse:
    """A file and its terms; then to what its check finds. Nothing is held or started here."""
    form = DraftForm(request.POST or None, request.FILES or None, organization=request.organization)
    status = 200
    if request.method == "POST":
        status = 422
        if form.is_valid():
            try:
                return redirect("batches:check", prepared(request, form).public_id)
            except PortalError as error:
                form.add_error("file" if error.param == "file" else None, reasons.said(error.message))
                status = 422 if isinstance(error, InvalidRequest) else error.status
    return render(request, "batches/new.html", {"form": form, "docs": reverse("api-docs")}, status=status)


def prepared(request: MemberRequest, form: DraftForm) -> Draft:
    """Raises PortalError; then no file is kept that was sent."""
    given = form.cleaned_data
    file = form.chosen
    sent = None if file else drafting.upload(organization=request.organization, given=given["file"])
    try:
        return drafting.prepare(
            organization=request.organization,
            user=request.user,
            file=file or sent,  # type: ignore[arg-type]
            endpoint=given["endpoint"],
            name=given["name"],
            max_power_usd_per_mwh=given["max_power_usd_per_mwh"],
            deadline_at=given["deadline_at"],
        )
    except PortalError:
        if sent is not None:
            files.discard(sent.pk, sent.path)
        raise


@never_cache
@work_required
@require_http_methods(["GET", "HEAD", "POST"])
def check(request: MemberRequest, public_id: str) -> HttpResponse:
    """What is wrong with a new batch and what it may cost; then its start, which is safe to repeat."""
    draft_id = parse("batch", public_id)
    draft = Draft.objects.filter(organization=request.organization, pk=draft_id).first() if draft_id else None
    if draft is None:
        batch_of(request, public_id)  # it was started: or there is no such thing
        return redirect("batches:detail", public_id)
    page = drafts.load(draft.pk)
    message, status = "", 200
    if request.method == "POST":
        try:
            start(request, page)
            return redirect("batches:detail", public_id)
        except IntegrityError:  # sent twice at the same moment
            return redirect("batches:detail", public_id)
        except PortalError as error:
            message, status = reasons.said(error.message), 422 if isinstance(error, InvalidRequest) else error.status
    context = {"page": page, "draft": page.draft, "message": message}
    return render(request, "batches/check.html", context, status=status)


def start(request: MemberRequest, page: DraftPage) -> None:
    """Raises PortalError: what its check says stands on the page again."""
    without = request.POST.get("rows") == "good"
    if not (page.mendable if without else page.clean):
        raise InvalidRequest(gettext("Its file has not been found good. Nothing was started."))
    if page.short_microusd:
        raise InsufficientCredit(gettext("Its worst case is above what is free of your balance. Nothing was started."))
    caller = keys.member(request.organization, request.user)
    drafting.start(page.draft, caller=caller, without_bad_lines=without)


@require_safe
@never_cache
@organization_required
def detail(request: MemberRequest, public_id: str) -> HttpResponse:
    page = pages.load(batch_of(request, public_id))
    context = {"page": page, "batch": page.batch, "rows": RowsPage(page), "events": EventsPage(page)}
    if not page.batch.is_final and live.writes(
        page.batch
    ):  # what its rows write is sent while somebody looks, by the socket
        context["live"] = live.LivePage(public_id)
    return render(request, "batches/detail.html", context)


@require_safe
@never_cache
@organization_required
def row(request: MemberRequest, public_id: str, line: int) -> HttpResponse:
    page = pages.load(batch_of(request, public_id))
    try:
        found = RowPage(page, line)
    except Shard.DoesNotExist:
        raise Http404 from None
    return render(request, "batches/row.html", {"page": page, "batch": page.batch, "row": found})


@require_safe
@never_cache
@organization_required
def events(request: MemberRequest, public_id: str) -> HttpResponse:
    """All that happened, as a table."""
    page = EventsPage(pages.load(batch_of(request, public_id)), most=None)
    response = HttpResponse(BYTE_ORDER_MARK + lines(page.rows), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = str(content_disposition_header(True, f"{public_id}_events.csv"))
    return response


@never_cache
@work_required
@require_http_methods(["GET", "HEAD", "POST"])
def cancel(request: MemberRequest, public_id: str) -> HttpResponse:
    """What stays, what it costs and what returns; then the act itself, which is safe to repeat."""
    page = pages.load(batch_of(request, public_id))
    if request.method == "POST":
        with contextlib.suppress(CannotCancel):  # it has ended meanwhile: its page says how
            services.cancel(batch=page.batch, actor=request.user)
        return redirect("batches:detail", public_id)
    return render(request, "batches/cancel.html", {"page": page, "batch": page.batch})


@never_cache
@work_required
@require_http_methods(["GET", "HEAD", "POST"])
def again(request: MemberRequest, public_id: str) -> HttpResponse:
    """The rows without an answer, or with `rows=all` every row, as a new batch of whoever asks; then to it."""
    page = pages.load(batch_of(request, public_id))
    whole = (request.POST or request.GET).get("rows") == "all"
    count = page.whole if whole else page.again
    if not count:
        return redirect("batches:detail", public_id)
    message, status = "", 200
    if request.method == "POST":
        made = tickets.read("batch", request.POST.get("batch", ""))
        try:
            caller = keys.member(request.organization, request.user)
            repeating.repeat(page.batch, caller=caller, batch_id=made, whole=whole)
            return redirect("batches:detail", public("batch", made))
        except IntegrityError:  # sent twice
            return redirect("batches:detail", public("batch", made))
        except PortalError as error:
            message, status = reasons.said(error.message), 422 if isinstance(error, InvalidRequest) else error.status
    context = {"page": page, "batch": page.batch, "message": message, "count": count, "whole": whole}
    return render(request, "batches/again.html", context, status=status)


@require_safe
@never_cache
@organization_required
def download(request: MemberRequest, public_id: str, name: str) -> StreamingHttpResponse:
    """A file of the batch, as it is stored and always as an attachment."""
    page = pages.load(batch_of(request, public_id))
    file = next((stored.file for stored in page.stored if stored.name == name), None)
    if file is None:
        raise Http404
    response = StreamingHttpResponse(files.parts(file.path), content_type="application/jsonl")
    response["Content-Length"] = str(file.size_bytes)
    response["Content-Disposition"] = str(content_disposition_header(True, file.name))
    return response


@require_safe
@never_cache
@organization_required
def so_far(request: MemberRequest, public_id: str) -> HttpResponseBase:
    """The rows that have ended, while it runs; then its files have them."""
    page = pages.load(batch_of(request, public_id))
    if page.batch.is_final:
        return redirect("batches:detail", public_id)
    response = StreamingHttpResponse(results.so_far(page.batch), content_type="application/jsonl")
    response["Content-Disposition"] = str(content_disposition_header(True, f"{public_id}_so_far.jsonl"))
    return response


def batch_of(request: MemberRequest, public_id: str) -> UUID:
    """The organization's own batch. Another is not found, as one that never was."""
    batch_id = parse("batch", public_id)
    if batch_id is None or not Batch.objects.of(request.organization).filter(pk=batch_id).exists():
        raise Http404
    return batch_id
