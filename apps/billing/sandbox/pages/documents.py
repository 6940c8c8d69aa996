"""Invoices, on a page and as PDF, and receipts."""

from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.http import require_GET, require_http_methods

from apps.billing.sandbox import documents, rows, subscriptions
from apps.billing.sandbox.forms import CardForm
from apps.billing.sandbox.pages.guard import sandbox


@sandbox
@require_http_methods(["GET", "POST"])
def show_invoice(request: HttpRequest, invoice: str) -> HttpResponse:
    """The document. POST pays an open one."""
    found = rows.get("invoice", invoice)
    form = CardForm(request.POST or None)
    status = 200
    if request.method == "POST" and found["status"] == "open":
        status = 422
        if form.is_valid():
            with rows.writing():
                done = subscriptions.pay_with(invoice, card=form.cleaned_data["card"])
            if done:
                return HttpResponseRedirect(request.path)
            form.add_error("card", "The card was declined, nothing was charged. Try another card.")
            found = rows.get("invoice", invoice)
    context = {
        "invoice": found,
        "form": form,
        "lines": [documents.written(line, line["amount"]) for line in found["lines"]["data"]],
        "tax": documents.dollars(sum(part["amount"] for part in found["total_taxes"])),
        "total": documents.dollars(found["total"]),
        "paid": documents.dollars(found["amount_paid"]),
        "due": documents.dollars(found["amount_remaining"]),
        "issued": documents.day(found["created"]),
    }
    return render(request, "billing/sandbox/invoice.html", context, status=status)


@sandbox
@require_GET
def show_pdf(request: HttpRequest, invoice: str) -> HttpResponse:
    found = rows.get("invoice", invoice)
    if not found["number"]:
        raise Http404
    answer = HttpResponse(documents.pdf(documents.invoice_lines(found)), content_type="application/pdf")
    answer["Content-Disposition"] = f'inline; filename="{found["number"]}.pdf"'
    return answer


@sandbox
@require_GET
def show_receipt(request: HttpRequest, charge: str) -> HttpResponse:
    found = rows.get("charge", charge)
    kind = found["payment_method_details"]["type"]
    context = {
        "charge": found,
        "amount": documents.dollars(found["amount"]),
        "refunded": documents.dollars(found["amount_refunded"]),
        "last4": found["payment_method_details"][kind]["last4"],
        "paid_on": documents.day(found["created"]),
        "customer": rows.find(found["customer"]) if found["customer"] else None,
    }
    return render(request, "billing/sandbox/receipt.html", context)
