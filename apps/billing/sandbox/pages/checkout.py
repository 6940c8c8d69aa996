"""The checkout page: what is bought, by which company, and a choice of test cards, each with its story."""

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from apps.billing.sandbox import cards, checkout, customers, documents, rows, sessions
from apps.billing.sandbox.forms import TITLES, PayForm
from apps.billing.sandbox.pages.guard import sandbox
from apps.billing.sandbox.refusals import Impossible
from apps.billing.sandbox.rows import Data


@sandbox
@require_http_methods(["GET", "POST"])
def show(request: HttpRequest, session: str) -> HttpResponse:
    """GET shows the page; POST with `step`: `total` (show the tax again), `pay`, `confirm` (the bank's question), `refuse`."""
    found = sessions.current(session)
    if found["status"] != "open":
        return render(request, "billing/sandbox/closed.html", {"session": found, "back": back(found)})
    customer = rows.find(found["customer"]) if found["customer"] else None
    known = {
        "name": (customer or {}).get("name") or "",
        "country": ((customer or {}).get("address") or {}).get("country") or "",
        "tax_id": next((tax_id["value"] for tax_id in customers.tax_ids(customer or customers.blank())), ""),
    }
    if request.method == "GET":
        total = found["amount_subtotal"] + sessions.tax_cents(found, known["country"])
        form = PayForm(session=found, initial={**known, "shown_cents": total})
        return page(request, found, form, country=known["country"])
    form = PayForm(request.POST, session=found)
    country = form.data.get("country", "")
    if not form.is_valid():
        return page(request, found, form, country=country, status=422)
    return answer(request, found, form, country)


def answer(request: HttpRequest, found: Data, form: PayForm, country: str) -> HttpResponse:
    """What a valid form comes to."""
    total = found["amount_subtotal"] + sessions.tax_cents(found, country)
    step, seen = request.POST.get("step"), form.cleaned_data["shown_cents"]
    if step == "refuse":
        return page(request, found, form, country=country, note="You did not confirm. Nothing was charged.")
    if step not in ("pay", "confirm") or seen != total:
        note = "" if step == "total" else "The total has changed with the tax. Nothing was charged yet."
        return page(request, found, form, country=country, note=note)
    card = cards.known(form.cleaned_data["card"])
    if card.absent == "authentication_required" and step == "pay":
        return render(request, "billing/sandbox/confirm.html", {"form": form, "total": documents.dollars(total)})
    return paid(request, found, form, country)


def paid(request: HttpRequest, session: Data, form: PayForm, country: str) -> HttpResponse:
    url = session["success_url"].replace("{CHECKOUT_SESSION_ID}", session["id"])
    try:
        with rows.writing():
            done = checkout.pay(
                session["id"],
                card=form.cleaned_data["card"],
                payer=form.payer(),
                save=bool(form.cleaned_data.get("save")),
            )
    except Impossible:  # sent twice: the first one did it
        return HttpResponseRedirect(url)
    if done:
        return HttpResponseRedirect(url)
    form.add_error("card", "The card was declined, nothing was charged. Try another card.")
    return page(request, session, form, country=country, status=422)


def page(
    request: HttpRequest, session: Data, form: PayForm, *, country: str, status: int = 200, note: str = ""
) -> HttpResponse:
    """The checkout page with the total for this country, which the form carries."""
    tax = sessions.tax_cents(session, country)
    total = session["amount_subtotal"] + tax
    if form.is_bound:
        form.data = {**form.data.dict(), "shown_cents": str(total)}  # type: ignore[attr-defined]
    context = {
        "session": session,
        "form": form,
        "lines": [
            {**documents.written(line, line["amount_subtotal"]), "monthly": line["price"]["recurring"]}
            for line in session["_line_items"]["data"]
        ],
        "tax": documents.dollars(tax),
        "total": documents.dollars(total),
        "taxed": session["automatic_tax"]["enabled"],
        "country": TITLES.get(country, ""),
        "kept": checkout.saves_card(session, wish=False),
        "note": note,
    }
    return render(request, "billing/sandbox/checkout.html", context, status=status)


def back(session: Data) -> str:
    done = session["status"] == "complete"
    url: str = session["success_url"] if done else session["cancel_url"] or session["success_url"]
    return url.replace("{CHECKOUT_SESSION_ID}", session["id"])
