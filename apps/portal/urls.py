from django.conf import settings
from django.urls import path

from apps.portal import audit, crawlers, invitation, leaving, machines, members, organization, views
from apps.portal.docs import views as docs
from apps.portal.feeds import StatusFeed

app_name = "portal"
urlpatterns = [
    path("", views.front, name="front"),
    path("models/", views.models, name="models"),
    path("models/<str:publisher>/<str:name>/", views.model, name="model"),
    path("pricing/", views.pricing, name="pricing"),
    path("docs/", docs.index, name="docs"),
    path("docs/<slug:slug>/", docs.page, name="docs-page"),
    path("docs/reference/<slug:slug>/", docs.chapter, name="docs-reference"),
    path("status/", views.status_page, name="status"),
    path("status/feed/", StatusFeed(), name="status-feed"),
    path("terms/", views.terms, name="terms"),
    path("privacy/", views.privacy, name="privacy"),
    path("data/", views.data, name="data"),
    path("dashboard/", views.dashboard, name="dashboard"),
    path("settings/organization/", organization.organization, name="organization"),
    path("settings/members/", members.index, name="members"),
    path("settings/members/invite/", members.invite, name="invite"),
    path("settings/members/invitations/<str:public_id>/send/", members.send_again, name="invitation-send"),
    path("settings/members/invitations/<str:public_id>/withdraw/", members.withdraw, name="invitation-withdraw"),
    path("settings/members/<int:number>/", members.member, name="member"),
    path("settings/members/<int:number>/remove/", members.remove, name="member-remove"),
    path("settings/organization/delete/", leaving.delete, name="delete"),
    path("settings/organization/delete/undo/", leaving.undo, name="undo"),
    path("settings/organization/export/", leaving.exports, name="exports"),
    path("settings/organization/export/<str:public_id>.zip", leaving.download, name="export-download"),
    path("settings/audit/", audit.index, name="audit"),
    path("settings/audit.csv", audit.export, name="audit-export"),
    path("settings/switch/", invitation.switch, name="switch"),
    path("invite/<str:token>/", invitation.invitation, name="invitation"),
    path("welcome/", views.welcome, name="welcome"),
    path("theme/", views.theme, name="theme"),
    path("language/", views.language, name="language"),
    path("healthz", machines.healthz, name="healthz"),
    path("readyz", machines.readyz, name="readyz"),
    path("csp/", machines.csp, name="csp"),
    path("robots.txt", crawlers.robots, name="robots"),
    path("sitemap.xml", crawlers.sitemap, name="sitemap"),
]
if settings.DEMO:
    urlpatterns.append(path("mail/", views.mail, name="mail"))
