"""The audit trail of an organization: for its owners and admins, filtered by the address, also as CSV."""

from django.http import HttpResponse, StreamingHttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.accounts import trail
from apps.accounts.permissions import MemberRequest, right_required
from apps.accounts.rights import Right
from apps.portal.forms import AuditForm


@never_cache
@right_required(Right.SETTINGS)
@require_safe
def index(request: MemberRequest) -> HttpResponse:
    form = AuditForm(request.GET, organization=request.organization)
    before = request.GET.get("before", "")
    page = trail.page(request.organization, trail.matching(request.organization, **form.filters), before=before)
    query = request.GET.copy()
    query.pop("before", None)
    filters = query.urlencode()
    query["before"] = page.older
    context = {
        "form": form,
        "page": page,
        "filters": filters,
        "older": query.urlencode() if page.older else "",
        "before": before,
        "zone": timezone.get_current_timezone_name(),
    }
    return render(request, "portal/audit.html", context, status=422 if form.errors else 200)


@never_cache
@right_required(Right.SETTINGS)
@require_safe
def export(request: MemberRequest) -> StreamingHttpResponse:
    form = AuditForm(request.GET, organization=request.organization)
    rows = trail.table(request.organization, trail.matching(request.organization, **form.filters))
    response = StreamingHttpResponse(rows, content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="audit-{timezone.now():%Y-%m-%d}.csv"'
    return response
