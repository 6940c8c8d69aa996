"""What a new customer gets, in one transaction."""

from django.conf import settings
from django.db import transaction

from apps.accounts.models import Organization, User
from apps.accounts.services import create_organization
from apps.billing import customers
from apps.billing.tax_ids import TaxId
from apps.ledger import services as ledger


@transaction.atomic
def welcome(*, user: User, organization_name: str, country: str = "", tax_id: TaxId | None = None) -> Organization:
    """An organization with its credit account and the starter credit. `country`: as far as it is known (ISO 3166-1 alpha-2).

    Once for each person: whoever is in an organization already, or sends the form twice at once, gets that one back.
    """
    User.objects.select_for_update().get(pk=user.pk)
    existing = Organization.objects.filter(memberships__user=user).order_by("created_at").first()
    if existing is not None:
        return existing
    organization = create_organization(name=organization_name, owner=user)
    ledger.open_account(organization=organization)
    if country:
        customers.describe(organization=organization, country=country, tax_id=tax_id)
    if settings.STARTER_CREDIT_MICROUSD:
        ledger.grant(
            organization=organization,
            microusd=settings.STARTER_CREDIT_MICROUSD,
            key=f"starter:{organization.pk}",
            reason="Starter credit",
            actor="portal",
            promotional=True,
        )
    return organization
