"""Customers and their tax ids."""

import re
from typing import Any

from apps.billing.sandbox import events, rows
from apps.billing.sandbox.refusals import Impossible
from apps.billing.sandbox.rows import Data

ADDRESS = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))
FIELDS = ("address", "description", "email", "name", "phone", "shipping", "tax_exempt", "preferred_locales")


# How Stripe's page of supported types writes an example, as far as tests here need it.
FORMS = {
    "eu_vat": r"[A-Z]{2}[0-9A-Z+*]{2,12}",
    "gb_vat": r"GB(\d{9}|\d{12})",
    "us_ein": r"\d{2}-\d{7}",
}


def blank() -> Data:
    return {
        "address": None,
        "balance": 0,
        "currency": None,
        "default_source": None,
        "delinquent": False,
        "description": None,
        "email": None,
        "invoice_prefix": None,
        "invoice_settings": {
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        "metadata": {},
        "name": None,
        "next_invoice_sequence": 1,
        "phone": None,
        "preferred_locales": [],
        "shipping": None,
        "tax_exempt": "none",
        "test_clock": None,
        "_tax_ids": {"object": "list", "data": [], "has_more": False, "url": "/v1/customers/tax_ids"},
    }


def create(params: Data) -> Data:
    customer = rows.add("customer", blank())
    customer["invoice_prefix"] = customer["id"][-8:].upper()
    _change(customer, params)
    for wanted in params.get("tax_id_data", []):
        _add_tax_id(customer, wanted["type"], wanted["value"])
    rows.put(customer)
    events.tell("customer.created", customer)
    return customer


def update(params: Data, identifier: str) -> Data:
    customer = rows.get("customer", identifier)
    _change(customer, params)
    save(customer)
    return customer


def create_tax_id(params: Data, identifier: str) -> Data:
    """A tax id of a form that its type has not is refused; whether it is in force is asked later, and tells nobody here."""
    customer = rows.get("customer", identifier)
    if not re.fullmatch(FORMS.get(params["type"], ".+"), params["value"]):
        raise Impossible("Invalid value for tax ID.", param="value", code="tax_id_invalid")
    made = _add_tax_id(customer, params["type"], params["value"])
    rows.put(customer)
    events.tell("customer.tax_id.created", made)
    return made


def retrieve(params: Data, identifier: str) -> Data:
    return rows.get("customer", identifier)


def index(params: Data) -> Data:
    return rows.page("customer", params, url="/v1/customers", email=params.get("email"))


def save(customer: Data) -> None:
    """Store it; an event says what differs, if anything does. In a transaction."""
    before = rows.get("customer", customer["id"])
    previous = {name: value for name, value in before.items() if customer[name] != value}
    if previous:
        rows.put(customer)
        shown = {name: value for name, value in previous.items() if not name.startswith("_")}
        events.tell("customer.updated", customer, previous=shown)


def tax_ids(customer: Data) -> list[Data]:
    return [{"type": tax_id["type"], "value": tax_id["value"]} for tax_id in customer["_tax_ids"]["data"]]


def set_tax_id(customer: Data, kind: str, value: str) -> None:
    """What a customer typed on the checkout page; the same one again changes nothing."""
    if {"type": kind, "value": value} not in tax_ids(customer):
        _add_tax_id(customer, kind, value)


def replace_tax_id(customer: Data, kind: str, value: str) -> None:
    """The only one from now on; none where it is empty."""
    if [each["value"] for each in tax_ids(customer)] != [value]:
        customer["_tax_ids"]["data"] = []
        if value:
            _add_tax_id(customer, kind, value)


def _add_tax_id(customer: Data, kind: str, value: str) -> Data:
    tax_id = rows.add(
        "tax_id",
        {
            "country": value[:2].upper() if kind == "eu_vat" else None,
            "customer": customer["id"],
            "type": kind,
            "value": value,
            "verification": {"status": "unavailable", "verified_address": None, "verified_name": None},
        },
    )
    customer["_tax_ids"]["data"].append(tax_id)
    return tax_id


def _change(customer: Data, params: Data) -> None:
    for name in FIELDS:
        if name in params:
            customer[name] = params[name] or None
    if customer["address"]:
        customer["address"] = {**ADDRESS, **customer["address"]}
    customer["tax_exempt"] = customer["tax_exempt"] or "none"
    customer["metadata"] = merged(customer["metadata"], params.get("metadata"))
    if "default_payment_method" in params.get("invoice_settings", {}):
        chosen = params["invoice_settings"]["default_payment_method"]
        if chosen:
            rows.get("payment_method", chosen, param="invoice_settings[default_payment_method]")
        customer["invoice_settings"]["default_payment_method"] = chosen or None


def merged(metadata: dict[str, str], given: Any) -> dict[str, str]:
    """An empty value takes its key away, an empty string all of them: docs.stripe.com/api/metadata."""
    if given is None:
        return metadata
    if given == "":
        return {}
    return {name: value for name, value in {**metadata, **given}.items() if value != ""}
