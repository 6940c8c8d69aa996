"""The customer's own page: cards, company, plan, invoices."""

from collections.abc import Callable
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from apps.billing.sandbox import cards, checkout, customers, documents, rows, subscriptions
from apps.billing.sandbox.forms import CardForm, CompanyForm, PlanForm
from apps.billing.sandbox.pages.guard import sandbox
from apps.billing.sandbox.refusals import Impossible
from apps.billing.sandbox.rows import Data


@sandbox
@require_http_methods(["GET", "POST"])
def show(request: HttpRequest, session: str) -> HttpResponse:
    """Cards, company, plan, invoices. POST with `act` changes one of them."""
    found = rows.get("billing_portal.session", session)
    forms = portal_forms(found["customer"], request)
    failed = ""
    if request.method == "POST":
        act = request.POST.get("act", "")
        form = forms.get(act)
        if form is None or form.is_valid():
            try:
                with rows.writing():
                    ACTS[act](found["customer"], form.cleaned_data if form else request.POST)
                return HttpResponseRedirect(request.path)
            except KeyError:
                failed = "This page does not know that act. Nothing was changed."
            except Impossible as refusal:
                failed = f"{refusal.message} Nothing was changed."
        elif act in forms:
            failed = "Something is missing. Nothing was changed."
    customer = rows.get("customer", found["customer"])
    context = {
        "session": found,
        "customer": customer,
        "default": customer["invoice_settings"]["default_payment_method"],
        "cards": [method for method in cards.saved(customer["id"]) if method["type"] == "card"],
        "invoices": [
            {**invoice, "day": documents.day(invoice["created"]), "written": documents.dollars(invoice["total"])}
            for invoice in reversed(rows.every("invoice", customer=customer["id"]))
            if invoice["number"]
        ],
        "subscription": subscription_of(customer["id"]),
        "forms": forms,
        "failed": failed,
    }
    return render(request, "billing/sandbox/portal.html", context, status=422 if failed else 200)


def subscription_of(customer: str) -> Data | None:
    found = rows.every("subscription", customer=customer, status__in=list(subscriptions.LIVING))
    if not found:
        return None
    item = found[-1]["items"]["data"][0]
    product = rows.find(item["price"]["product"] or "") or {"name": "Subscription"}
    return {
        **found[-1],
        "title": product["name"],
        "price": documents.dollars(item["price"]["unit_amount"] * item["quantity"]),
        "ends_on": documents.day(item["current_period_end"]),
        "item": item,
    }


def portal_forms(customer: str, request: HttpRequest) -> dict[str, Any]:
    """The form of each act; only the one that was sent is bound."""
    act = request.POST.get("act")
    row = rows.get("customer", customer)
    kept = subscription_of(customer)
    initial = {
        "name": row["name"] or "",
        "country": (row["address"] or {}).get("country", ""),
        "tax_id": next((tax_id["value"] for tax_id in customers.tax_ids(row)), ""),
    }
    forms: dict[str, Any] = {
        "add": CardForm(request.POST if act == "add" else None),
        "company": CompanyForm(request.POST if act == "company" else None, initial=initial),
    }
    if kept:
        choices = [
            (price["id"], f"{product['name']} · {documents.dollars(price['unit_amount'])} a month")
            for price in rows.every("price", type="recurring", active=True)
            if (product := rows.find(price["product"]) or {"name": "Subscription"})
        ]
        forms["plan"] = PlanForm(
            request.POST if act == "plan" else None, choices=choices, initial={"price": kept["item"]["price"]["id"]}
        )
    return forms


def add_card(customer: str, given: Any) -> None:
    method = cards.add(cards.known(given["card"]))
    cards.attach(method, customer)
    make_default(customer, {"method": method["id"]})


def remove_card(customer: str, given: Any) -> None:
    cards.detach(given.get("method", ""), customer=customer)
    row = rows.get("customer", customer)
    if row["invoice_settings"]["default_payment_method"] == given.get("method"):
        row["invoice_settings"]["default_payment_method"] = None
        customers.save(row)


def make_default(customer: str, given: Any) -> None:
    method = cards.belonging(given.get("method", ""), customer)
    row = rows.get("customer", customer)
    row["invoice_settings"]["default_payment_method"] = method["id"]
    customers.save(row)
    kept = subscription_of(customer)
    if kept:
        subscriptions.update({"default_payment_method": method["id"]}, kept["id"])


def change_company(customer: str, given: Any) -> None:
    row = rows.get("customer", customer)
    row["name"], row["address"] = given["name"], checkout.address(given["country"])
    customers.replace_tax_id(row, checkout.tax_id_type(given["country"]), given["tax_id"])
    customers.save(row)


def change_plan(customer: str, given: Any) -> None:
    kept = subscription_of(customer)
    if kept is None:
        raise Impossible("There is no subscription.")
    change = [{"id": kept["item"]["id"], "price": given["price"]}]
    subscriptions.update({"items": change, "proration_behavior": "always_invoice"}, kept["id"])


def end_or_keep(customer: str, given: Any) -> None:
    kept = subscription_of(customer)
    if kept is None:
        raise Impossible("There is no subscription.")
    subscriptions.update({"cancel_at_period_end": given.get("act") == "end"}, kept["id"])


ACTS: dict[str, Callable[[str, Any], None]] = {
    "add": add_card,
    "remove": remove_card,
    "default": make_default,
    "company": change_company,
    "plan": change_plan,
    "end": end_or_keep,
    "keep": end_or_keep,
}
