from django.urls import URLPattern, path

from apps.billing.sandbox import door
from apps.billing.sandbox.pages import checkout, documents, portal

app_name = "sandbox"
urlpatterns: list[URLPattern] = [
    path("sandbox/stripe/v1/<path:path>", door.api, name="api"),
    path("sandbox/checkout/<slug:session>/", checkout.show, name="checkout"),
    path("sandbox/invoices/<slug:invoice>/", documents.show_invoice, name="invoice"),
    path("sandbox/invoices/<slug:invoice>/pdf/", documents.show_pdf, name="invoice_pdf"),
    path("sandbox/receipts/<slug:charge>/", documents.show_receipt, name="receipt"),
    path("sandbox/portal/<slug:session>/", portal.show, name="portal"),
]
