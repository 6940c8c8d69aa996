"""The management API's paths, its OpenAPI document and the page to try it on."""

from django.http import HttpRequest, JsonResponse
from django.urls import URLPattern, path, re_path
from django.views.decorators.csrf import csrf_exempt
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerSplitView

from apps.batches.api import BatchesView, BatchView, CancelBatch
from apps.billing.api import InvoicesView
from apps.core.errors import NotFound
from apps.dispatch.api import CancelJob, Jobs, RetryJob
from apps.jobs.api import JobView
from apps.jobs.usage_api import UsageView
from apps.keys.api import KeysView, KeyView, MembersView, MemberView, OrganizationView, ReplaceKey, RevokeKey
from apps.ledger.api import BalanceView, TransfersView
from apps.scheduling.api import SitesView
from apps.scheduling.offered import ModelsView
from apps.webhooks.api import (
    DeliveriesView,
    ReplayDelivery,
    RotateWebhook,
    TestWebhook,
    WebhooksView,
    WebhookView,
)


@csrf_exempt
def unknown(request: HttpRequest) -> JsonResponse:
    refusal = NotFound(f"Unknown request URL: {request.method} {request.path}. See /api/docs/.", code="unknown_url")
    return JsonResponse(refusal.body(), status=refusal.status)


urlpatterns: list[URLPattern] = [
    path("v1/organization", OrganizationView.as_view(), name="api-organization"),
    path("v1/balance", BalanceView.as_view(), name="api-balance"),
    path("v1/transfers", TransfersView.as_view(), name="api-transfers"),
    path("v1/usage", UsageView.as_view(), name="api-usage"),
    path("v1/invoices", InvoicesView.as_view(), name="api-invoices"),
    path("v1/models", ModelsView.as_view(), name="api-models"),
    path("v1/jobs", Jobs.as_view(), name="api-jobs"),
    path("v1/jobs/<str:public_id>", JobView.as_view(), name="api-job"),
    path("v1/jobs/<str:public_id>/cancel", CancelJob.as_view(), name="api-job-cancel"),
    path("v1/jobs/<str:public_id>/retry", RetryJob.as_view(), name="api-job-retry"),
    path("v1/sites", SitesView.as_view(), name="api-sites"),
    path("v1/keys", KeysView.as_view(), name="api-keys"),
    path("v1/keys/<str:public_id>", KeyView.as_view(), name="api-key"),
    path("v1/keys/<str:public_id>/replace", ReplaceKey.as_view(), name="api-key-replace"),
    path("v1/keys/<str:public_id>/revoke", RevokeKey.as_view(), name="api-key-revoke"),
    path("v1/members", MembersView.as_view(), name="api-members"),
    path("v1/members/<str:public_id>", MemberView.as_view(), name="api-member"),
    path("v1/batches", BatchesView.as_view(), name="api-batches"),
    path("v1/batches/<str:public_id>", BatchView.as_view(), name="api-batch"),
    path("v1/batches/<str:public_id>/cancel", CancelBatch.as_view(), name="api-batch-cancel"),
    path("v1/webhooks", WebhooksView.as_view(), name="api-webhooks"),
    path("v1/webhooks/<str:public_id>", WebhookView.as_view(), name="api-webhook"),
    path("v1/webhooks/<str:public_id>/test", TestWebhook.as_view(), name="api-webhook-test"),
    path("v1/webhooks/<str:public_id>/rotate", RotateWebhook.as_view(), name="api-webhook-rotate"),
    path("v1/webhooks/<str:public_id>/deliveries", DeliveriesView.as_view(), name="api-webhook-deliveries"),
    path(
        "v1/webhooks/<str:public_id>/deliveries/<str:delivery_id>/replay",
        ReplayDelivery.as_view(),
        name="api-webhook-replay",
    ),
    path("schema/", SpectacularAPIView.as_view(), name="schema"),
    path("docs/", SpectacularSwaggerSplitView.as_view(template_name="api/docs.html"), name="api-docs"),
    re_path(r"^v1(?:/.*)?$", unknown),
]
