"""Pages of jobs: the history, one job, its result, and what all of them used."""

import json
from uuid import UUID

from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from django.views.decorators.vary import vary_on_headers

from apps.accounts.permissions import MemberRequest, organization_required
from apps.core.ids import parse
from apps.core.spreadsheets import BYTE_ORDER_MARK, lines
from apps.jobs import usage as usages
from apps.jobs.forms import HistoryForm
from apps.jobs.models import Job
from apps.jobs.pages import history as listings
from apps.jobs.pages import job as pages
from apps.jobs.pages.usage import UsagePage
from apps.jobs.pages.usage_form import UsageForm

VIEWS = {
    "output": gettext_lazy("Output"),
    "request": gettext_lazy("Request"),
    "attempts": gettext_lazy("Attempts"),
    "events": gettext_lazy("Events"),
    "code": gettext_lazy("Code"),
}


@require_safe
@never_cache
@vary_on_headers("HX-Request")
@organization_required
def history(request: MemberRequest) -> HttpResponse:
    form = HistoryForm(request.GET, organization=request.organization)
    before = request.GET.get("before")
    found = listings.listing(request.organization, form.filters, before=before)
    query = _query(request, before=None)
    context = {
        "form": form,
        "rows": found.rows,
        "looked": found.looked,
        "query": query,
        "older": _query(request, before=found.older) if found.older else "",
        "newest": f"{reverse('jobs:history')}{'?' if query else ''}{query}" if before else "",
        "zone": timezone.get_current_timezone_name(),
    }
    return render(request, "jobs/_history.html" if request.htmx else "jobs/history.html", context)


def _query(request: HttpRequest, *, before: str | None) -> str:
    """The filters of the address, from the page after `before`."""
    query = request.GET.copy()
    for name in list(query):
        if not query[name] or name == "before":
            del query[name]
    if before:
        query["before"] = before
    return query.urlencode()


@require_safe
@never_cache
@organization_required
def export(request: MemberRequest) -> StreamingHttpResponse:
    form = HistoryForm(request.GET, organization=request.organization)
    response = StreamingHttpResponse(
        listings.export(request.organization, form.filters), content_type="text/csv; charset=utf-8"
    )
    response["Content-Disposition"] = f'attachment; filename="jobs-{timezone.now():%Y-%m-%d}.csv"'
    return response


@require_safe
@never_cache
@vary_on_headers("HX-Request")
@organization_required
def usage(request: MemberRequest) -> HttpResponse:
    now = timezone.now()
    form = UsageForm(request.GET, now.date())
    page = UsagePage(request.organization, form, now)
    context = {
        "form": form,
        "page": page,
        "query": _query(request, before=None),
        "zone": timezone.get_current_timezone_name(),
    }
    return render(request, "jobs/_usage.html" if request.htmx else "jobs/usage.html", context)


@require_safe
@never_cache
@organization_required
def usage_csv(request: MemberRequest) -> HttpResponse:
    """By what the page's bars stand for; by day also where those would be too many for a page."""
    now = timezone.now()
    form = UsageForm(request.GET, now.date(), days_at_most=usages.LONGEST_SPAN)
    page = UsagePage(request.organization, form, now)
    response = HttpResponse(BYTE_ORDER_MARK + lines(page.sheet), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="usage-{page.start:%Y-%m-%d}-{page.end:%Y-%m-%d}.csv"'
    return response


@require_safe
@never_cache
@organization_required
def detail(request: MemberRequest, public_id: str) -> HttpResponse:
    page = pages.load(job_of(request, public_id))
    asked = request.GET.get("view", "output")
    view = asked if asked in VIEWS else "output"
    context = {
        "page": page,
        "job": page.job,
        "view": view,
        "view_title": VIEWS[view],
        "view_template": f"jobs/_view_{view}.html",
        "zone": timezone.get_current_timezone_name(),
    }
    return render(request, "jobs/detail.html", context)


@require_safe
@never_cache
@organization_required
def result(request: MemberRequest, public_id: str) -> HttpResponse:
    """The result of a job that makes one, as JSON to keep."""
    page = pages.load(job_of(request, public_id))
    if not page.result:
        raise Http404
    response = HttpResponse(json.dumps(page.result, ensure_ascii=False, indent=1), content_type="application/json")
    response["Content-Disposition"] = f'attachment; filename="{page.job.public_id}.json"'
    return response


def job_of(request: MemberRequest, public_id: str) -> UUID:
    """The id of the organization's own job. A stranger's job does not exist."""
    job_id = parse("job", public_id)
    if job_id is None or not Job.objects.of(request.organization).filter(pk=job_id).exists():
        raise Http404
    return job_id
