"""Every page and API but the lean doors (`/v1`, `/agent/v1`), which `asgi.py` answers before Django."""

from django.contrib import admin
from django.urls import URLPattern, URLResolver, include, path

urlpatterns: list[URLPattern | URLResolver] = [
    path("", include("apps.portal.urls")),
    path("", include("apps.accounts.urls")),
    path("", include("apps.billing.urls")),
    path("", include("apps.billing.sandbox.urls")),
    path("", include("apps.keys.urls")),
    path("", include("apps.webhooks.urls")),
    path("", include("apps.jobs.urls")),
    path("", include("apps.dispatch.urls")),
    path("", include("apps.batches.urls")),
    path("api/", include("cango_portal.api")),
    path("admin/", admin.site.urls),
]

handler400 = "apps.portal.failures.bad_request"
handler403 = "apps.portal.failures.forbidden"
handler404 = "apps.portal.failures.not_found"
handler500 = "apps.portal.failures.server_error"
handler429 = "apps.portal.failures.too_many"  # allauth looks for it here
