from django.urls import URLPattern, path

from apps.billing import door
from apps.billing.pages import adding, automatic, limits, overview, plans, portal, refunding

app_name = "billing"
urlpatterns: list[URLPattern] = [
    path("webhooks/stripe/", door.stripe_webhook, name="stripe_webhook"),
    path("billing/", overview.overview, name="overview"),
    path("billing/movements/", overview.statement, name="statement"),
    path("billing/movements.csv", overview.statement_csv, name="statement_csv"),
    path("billing/payments/", overview.payments, name="payments"),
    path("billing/payments/<str:public_id>/receipt/", overview.receipt, name="receipt"),
    path("billing/payments/<str:public_id>/pay/", adding.pay, name="pay"),
    path("billing/payments/<str:public_id>/refund/", refunding.refund, name="refund"),
    path("billing/invoices/", overview.invoices, name="invoices"),
    path("billing/invoices/<str:key>/", overview.invoice, name="invoice"),
    path("billing/invoices/<str:key>/pdf/", overview.invoice, {"form": "pdf"}, name="invoice_pdf"),
    path("billing/add/", adding.add, name="add"),
    path("billing/return/<str:public_id>/", adding.returned, name="return"),
    path("billing/automatic/", automatic.change, name="automatic"),
    path("billing/automatic/stop/", automatic.stop, name="automatic_stop"),
    path("billing/portal/", portal.portal, name="portal"),
    path("billing/plan/", plans.index, name="plan"),
    path("billing/plan/cancel/", plans.cancel, name="plan_cancel"),
    path("billing/plan/resume/", plans.resume, name="plan_resume"),
    path("billing/plan/<slug:code>/", plans.choose, name="plan_choose"),
    path("billing/limits/", limits.index, name="limits"),
    path("billing/limits/organization/", limits.of_organization, name="organization_limits"),
    path("billing/limits/members/<int:user_id>/", limits.of_member, name="member_limits"),
    path("billing/limits/warnings/", limits.warnings, name="warnings"),
]
