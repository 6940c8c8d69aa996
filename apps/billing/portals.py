"""Stripe's Customer Portal: cards, addresses, tax ids and invoices are kept there."""

import stripe
from django.utils.translation import gettext

from apps.accounts.models import Organization, User
from apps.billing import customers
from apps.billing.client import PaymentsAway, client


def url(*, organization: Organization, actor: User, return_url: str) -> str:
    """A page of Stripe's for this customer, good for one visit. Raises PaymentsAway."""
    customer = customers.ensure(organization=organization, email=customers.email_of(organization, actor))
    try:
        made = client().v1.billing_portal.sessions.create({"customer": customer.stripe_id, "return_url": return_url})
    except stripe.StripeError as error:
        raise PaymentsAway(
            gettext("The payment service did not answer. Nothing was changed. Try again in a minute.")
        ) from error
    return made.url
