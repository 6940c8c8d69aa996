"""Verbs on people and organizations that write."""

from django.db import transaction

from apps.accounts import audit
from apps.accounts.models import Membership, Organization, User


@transaction.atomic
def create_organization(*, name: str, owner: User) -> Organization:
    """An organization with its first owner. It has no credit account yet: that is `portal.services.welcome`."""
    organization = Organization.objects.create(name=name)
    Membership.objects.create(organization=organization, user=owner, role=Membership.Role.OWNER)
    audit.record(organization=organization, actor=owner, action="organization.created", target=organization.public_id)
    return organization
