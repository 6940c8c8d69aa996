"""An organization as Stripe's customer: made once, kept in step with what its pages were told."""

import logging
from typing import Any

import stripe
from django.utils import timezone
from django.utils.translation import gettext

from apps.accounts.models import Membership, Organization, User
from apps.billing.client import PaymentsAway, Refused, client, plain
from apps.billing.models import Company, Customer
from apps.billing.tax_ids import TaxId

log = logging.getLogger(__name__)


def describe(*, organization: Organization, country: str, tax_id: TaxId | None) -> None:
    """Keep where an organization is and its tax id, for its customer at Stripe, which is made when it first pays."""
    kind, value = tax_id or ("", "")
    Company.objects.create(organization=organization, country=country, tax_id_type=kind, tax_id=value)


def ensure(*, organization: Organization, email: str = "") -> Customer:
    """The organization's customer, made at Stripe where it has none. Raises PaymentsAway.

    The idempotency key is the organization's, with nothing in the call that could differ, so two at once, or again after
    a crash, get the same customer. Name, address and tax id are told in calls of their own, whose failure costs only the
    wording: the payment page asks for what is missing.
    """
    found = Customer.objects.filter(organization=organization).first()
    if found:
        return found
    metadata = {"organization": str(organization.pk)}
    try:
        made = client().v1.customers.create({"metadata": metadata}, {"idempotency_key": f"customer:{organization.pk}"})
        customer, _ = Customer.objects.get_or_create(
            organization=organization, defaults={"stripe_id": made.id, "email": email, "name": organization.name}
        )
        tell(customer, organization=organization, email=email)
    except stripe.StripeError as error:
        found = Customer.objects.filter(organization=organization).first()
        if found:
            return found
        raise PaymentsAway(
            gettext("The payment service did not answer. Nothing was charged. Try again in a minute.")
        ) from error
    return customer


def tell(customer: Customer, *, organization: Organization, email: str) -> None:
    """Name, address and tax id, as we were told them. A tax id that Stripe refuses is left out. Raises StripeError."""
    company = Company.objects.filter(organization=organization).first()
    told: Any = {"name": organization.name, "email": email or ""}
    if company is not None:
        told["address"] = {"country": company.country}
    client().v1.customers.update(customer.stripe_id, told)
    if company is None:
        return
    customer.country = company.country
    if company.tax_id:
        tax_id: Any = {"type": company.tax_id_type, "value": company.tax_id}
        try:
            client().v1.customers.tax_ids.create(
                customer.stripe_id, tax_id, {"idempotency_key": f"tax_id:{organization.pk}"}
            )
            customer.tax_ids = [tax_id]
        except Refused as error:
            log.warning("a tax id was refused", extra={"customer": customer.stripe_id, "reason": error.code})
    customer.save(update_fields=["country", "tax_ids"])


def email_of(organization: Organization, actor: User | None) -> str:
    """Whom receipts go to: the one who pays first."""
    if actor is not None:
        return actor.email
    owners = Membership.objects.filter(organization=organization, role=Membership.Role.OWNER).select_related("user")
    owner = owners.order_by("pk").first()
    return owner.user.email if owner else ""


def of(stripe_id: str) -> Organization | None:
    found = Customer.objects.filter(stripe_id=stripe_id).select_related("organization").first() if stripe_id else None
    return found.organization if found else None


def read(stripe_id: str) -> dict[str, Any]:
    return plain(client().v1.customers.retrieve(stripe_id, {"expand": ["tax_ids"]}))


def refresh(read: dict[str, Any]) -> None:
    """Copy what our pages show. A customer deleted at Stripe keeps its copy."""
    if read.get("deleted"):
        return
    tax_ids = (read.get("tax_ids") or {}).get("data") or []
    Customer.objects.filter(stripe_id=read["id"]).update(
        email=(read.get("email") or "")[:254],
        name=(read.get("name") or "")[:200],
        country=((read.get("address") or {}).get("country") or "")[:2],
        tax_ids=[{"type": tax_id["type"], "value": tax_id["value"]} for tax_id in tax_ids],
        refreshed_at=timezone.now(),
    )


def saved_card(stripe_id: str) -> str | None:
    """The payment method an off-session payment takes: the card saved last. Asks Stripe."""
    cards = client().v1.customers.payment_methods.list(stripe_id, {"type": "card", "limit": 1})
    return cards.data[0].id if cards.data else None
