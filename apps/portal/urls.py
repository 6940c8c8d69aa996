from django.conf import settings
from django.urls import path

from apps.portal import machines, views
from apps.portal.docs import views as docs

app_name = "portal"
urlpatterns = [
    path("", views.front, name="front"),
    path("models/", views.models, name="models"),
    path("models/<str:publisher>/<str:name>/", views.model, name="model"),
    path("pricing/", views.pricing, name="pricing"),
    path("docs/", docs.index, name="docs"),
    path("docs/<slug:slug>/", docs.page, name="docs-page"),
    path("docs/reference/<slug:slug>/", docs.chapter, name="docs-reference"),
    path("dashboard/", views.dashboard, name="dashboard"),
    path("welcome/", views.welcome, name="welcome"),
    path("theme/", views.theme, name="theme"),
    path("healthz", machines.healthz, name="healthz"),
    path("readyz", machines.readyz, name="readyz"),
    path("csp/", machines.csp, name="csp"),
]
if settings.DEMO:
    urlpatterns.append(path("mail/", views.mail, name="mail"))
