"""The management API's paths, its OpenAPI document and the page to try it on."""

from django.http import HttpRequest, JsonResponse
from django.urls import URLPattern, path, re_path
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from apps.accounts.api import OrganizationView
from apps.catalog.api import ModelsView
from apps.core.errors import NotFound
from apps.dispatch.api import CancelJob, Jobs
from apps.jobs.api import JobView
from apps.ledger.api import BalanceView


@csrf_exempt
def unknown(request: HttpRequest) -> JsonResponse:
    refusal = NotFound(f"Unknown request URL: {request.method} {request.path}. See /api/docs/.", code="unknown_url")
    return JsonResponse(refusal.body(), status=refusal.status)


urlpatterns: list[URLPattern] = [
    path("v1/organization", OrganizationView.as_view(), name="api-organization"),
    path("v1/balance", BalanceView.as_view(), name="api-balance"),
    path("v1/models", ModelsView.as_view(), name="api-models"),
    path("v1/jobs", Jobs.as_view(), name="api-jobs"),
    path("v1/jobs/<str:public_id>", JobView.as_view(), name="api-job"),
    path("v1/jobs/<str:public_id>/cancel", CancelJob.as_view(), name="api-job-cancel"),
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    path("docs/", SpectacularSwaggerSplitView.as_view(template_name="api/docs.html"), name="api-docs"),
    re_path(r"^v1(?:/.*)?$", unknown),
]
