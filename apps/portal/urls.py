from django.conf import settings
from django.urls import path

from apps.portal import machines, views

app_name = "portal"
urlpatterns = [
    path("", views.front, name="front"),
    path("models/", views.models, name="models"),
    path("models/<str:publisher>/<str:name>/", views.model, name="model"),
    path("pricing/", views.pricing, name="pricing"),
    path("dashboard/", views.dashboard, name="dashboard"),
    path("welcome/", views.welcome, name="welcome"),
    path("theme/", views.theme, name="theme"),
    path("healthz", machines.healthz, name="healthz"),
    path("readyz", machines.readyz, name="readyz"),
    path("csp/", machines.csp, name="csp"),
]
if settings.DEMO:
    urlpatterns.append(path("mail/", views.mail, name="mail"))
