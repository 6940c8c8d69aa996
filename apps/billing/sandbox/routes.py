"""Which request is which verb of a noun, and the library's type of its parameters."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from stripe import params as p
from stripe.params import billing_portal as bp
from stripe.params import checkout as c

from apps.billing.sandbox import (
    balance,
    cards,
    customers,
    disputes,
    events,
    invoices,
    payments,
    portals,
    prices,
    refunds,
    sessions,
    subscriptions,
)
from apps.billing.sandbox.rows import Data


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: re.Pattern[str]
    verb: Callable[..., Data]
    shape: Any


def route(method: str, path: str, verb: Callable[..., Data], shape: Any) -> Route:
    return Route(method, re.compile(path.replace("{id}", "([A-Za-z0-9_]+)")), verb, shape)


ROUTES = [
    route("GET", "balance_transactions", balance.index, p.BalanceTransactionListParams),
    route("GET", "balance_transactions/{id}", balance.retrieve, p.BalanceTransactionRetrieveParams),
    route("POST", "billing_portal/sessions", portals.create, bp.SessionCreateParams),
    route("GET", "charges", payments.index_charges, p.ChargeListParams),
    route("GET", "charges/{id}", payments.retrieve_charge, p.ChargeRetrieveParams),
    route("GET", "checkout/sessions", sessions.index, c.SessionListParams),
    route("POST", "checkout/sessions", sessions.create, c.SessionCreateParams),
    route("GET", "checkout/sessions/{id}", sessions.retrieve, c.SessionRetrieveParams),
    route("POST", "checkout/sessions/{id}/expire", sessions.expire, c.SessionExpireParams),
    route("GET", "checkout/sessions/{id}/line_items", sessions.line_items, c.SessionLineItemListParams),
    route("GET", "customers", customers.index, p.CustomerListParams),
    route("POST", "customers", customers.create, p.CustomerCreateParams),
    route("GET", "customers/{id}", customers.retrieve, p.CustomerRetrieveParams),
    route("POST", "customers/{id}", customers.update, p.CustomerUpdateParams),
    route("POST", "customers/{id}/tax_ids", customers.create_tax_id, p.CustomerTaxIdCreateParams),
    route("GET", "customers/{id}/payment_methods", cards.index, p.CustomerPaymentMethodListParams),
    route("GET", "disputes", disputes.index, p.DisputeListParams),
    route("GET", "disputes/{id}", disputes.retrieve, p.DisputeRetrieveParams),
    route("GET", "events", events.index, p.EventListParams),
    route("GET", "events/{id}", events.retrieve, p.EventRetrieveParams),
    route("GET", "invoices", invoices.index, p.InvoiceListParams),
    route("GET", "invoices/{id}", invoices.retrieve, p.InvoiceRetrieveParams),
    route("GET", "payment_intents", payments.index, p.PaymentIntentListParams),
    route("POST", "payment_intents", payments.create, p.PaymentIntentCreateParams),
    route("GET", "payment_intents/{id}", payments.retrieve, p.PaymentIntentRetrieveParams),
    route("POST", "payment_intents/{id}/cancel", payments.cancel, p.PaymentIntentCancelParams),
    route("GET", "payment_methods/{id}", cards.retrieve, p.PaymentMethodRetrieveParams),
    route("GET", "prices", prices.index, p.PriceListParams),
    route("POST", "prices", prices.create, p.PriceCreateParams),
    route("GET", "prices/{id}", prices.retrieve, p.PriceRetrieveParams),
    route("POST", "prices/{id}", prices.update, p.PriceUpdateParams),
    route("GET", "products", prices.index_products, p.ProductListParams),
    route("POST", "products", prices.create_product, p.ProductCreateParams),
    route("GET", "products/{id}", prices.retrieve_product, p.ProductRetrieveParams),
    route(
        "GET",
        "radar/early_fraud_warnings/{id}",
        disputes.retrieve_warning,
        p.radar.EarlyFraudWarningRetrieveParams,
    ),
    route("GET", "refunds", refunds.index, p.RefundListParams),
    route("POST", "refunds", refunds.create, p.RefundCreateParams),
    route("GET", "refunds/{id}", refunds.retrieve, p.RefundRetrieveParams),
    route("POST", "refunds/{id}", refunds.update, p.RefundUpdateParams),
    route("GET", "subscriptions", subscriptions.index, p.SubscriptionListParams),
    route("GET", "subscriptions/{id}", subscriptions.retrieve, p.SubscriptionRetrieveParams),
    route("POST", "subscriptions/{id}", subscriptions.update, p.SubscriptionUpdateParams),
    route("DELETE", "subscriptions/{id}", subscriptions.cancel, p.SubscriptionCancelParams),
]
