"""Plans on offer: made known to Stripe when the first customer wants one, and bought on its checkout page."""

from typing import Any

import stripe
from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext

from apps.accounts.models import Organization, User
from apps.billing import customers
from apps.billing.client import PaymentsAway, client
from apps.billing.models import Plan, Subscription
from apps.core.errors import InvalidRequest, PortalError

OPEN_MINUTES = 30  # a checkout page; the least Stripe allows


class HasPlan(PortalError):
    """An organization has one plan at a time."""

    code, status, retryable = "has_plan", 409, False


def publish(plan: Plan) -> Plan:
    """Make sure that Stripe has the plan's product and price; its id is kept. Safe to repeat. Raises PaymentsAway.

    Stripe's price is found by the plan's code, its lookup key. An amount at Stripe never changes: where it differs, a new
    price takes the key over, and who subscribed before keeps the old one.
    """
    if plan.stripe_price_id:
        return plan
    try:
        found = client().v1.prices.list({"lookup_keys": [plan.code], "active": True, "limit": 1}).data
        plan.stripe_price_id = found[0].id if found and found[0].unit_amount == plan.price_cents else _made(plan)
    except stripe.StripeError as error:
        raise PaymentsAway(
            gettext("The payment service did not answer. Nothing was charged. Try again in a minute.")
        ) from error
    Plan.objects.filter(pk=plan.pk).update(stripe_price_id=plan.stripe_price_id)
    return plan


def _made(plan: Plan) -> str:
    name = f"plan:{plan.code}:{plan.price_cents}"
    product = client().v1.products.create(
        {"name": f"{plan.title} plan", "metadata": {"plan": plan.code}}, {"idempotency_key": f"{name}:product"}
    )
    price = client().v1.prices.create(
        {
            "product": product.id,
            "currency": "usd",
            "unit_amount": plan.price_cents,
            "recurring": {"interval": "month"},
            "tax_behavior": "exclusive",
            "lookup_key": plan.code,
            "transfer_lookup_key": True,
            "metadata": {"plan": plan.code},
        },
        {"idempotency_key": f"{name}:price"},
    )
    return price.id


def subscribe(
    organization: Organization, plan: Plan, user: User | None, *, success_url: str = "", cancel_url: str = ""
) -> str:
    """Open Stripe's checkout page for a plan; its address. The plan begins with Stripe's event, not with the return.

    Clicked twice it is the same page. Raises HasPlan, InvalidRequest for a plan that is not on offer, and PaymentsAway;
    then no page is open and nothing can be paid.
    """
    before = Subscription.objects.filter(organization=organization).first()
    if before is not None and before.state != Subscription.State.ENDED:
        raise HasPlan(gettext("This organization has a plan. Change it on the Billing page. Nothing was charged."))
    if not plan.listed:
        raise InvalidRequest(gettext("This plan is not on offer any more. Nothing was charged."), param="plan")
    customer = customers.ensure(organization=organization, email=customers.email_of(organization, user))
    publish(plan)
    metadata = {"organization": str(organization.pk), "plan": plan.code}
    back = f"{settings.BASE_URL}/billing/"
    now = int(timezone.now().timestamp())
    ended = before.stripe_id if before else ""  # after that one a page is another page
    window = now - now % (OPEN_MINUTES * 60 // 2)  # the same page for a quarter of an hour, open for as long again
    params: Any = {
        "mode": "subscription",
        "customer": customer.stripe_id,
        "customer_update": {"name": "auto", "address": "auto"},
        "client_reference_id": str(organization.pk),
        "metadata": metadata,
        "line_items": [{"price": plan.stripe_price_id, "quantity": 1}],
        "subscription_data": {"metadata": metadata},
        "tax_id_collection": {"enabled": True},
        "billing_address_collection": "required",
        "automatic_tax": {"enabled": settings.STRIPE_TAX},
        "expires_at": window + 2 * OPEN_MINUTES * 60,
        "success_url": success_url or back,
        "cancel_url": cancel_url or back,
    }
    try:
        session = client().v1.checkout.sessions.create(
            params, {"idempotency_key": f"subscribe:{organization.pk}:{plan.stripe_price_id}:{ended}:{window}"}
        )
    except stripe.StripeError as error:
        raise PaymentsAway(gettext("The payment page could not be opened. Nothing was charged. Try again.")) from error
    return session.url or ""
