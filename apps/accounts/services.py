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


@transaction.atomic
def describe(*, organization: Organization, name: str, keep_text_days: int, user: User) -> bool:
    """Its name, and for how long it keeps text, from now on and for what it has. False where nothing differs."""
    locked = Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    old = {"name": locked.name, "keep_text_days": locked.keep_text_days}
    new = {"name": name, "keep_text_days": keep_text_days}
    changed = [field for field in new if old[field] != new[field]]
    if not changed:
        return False
    locked.name, locked.keep_text_days = name, keep_text_days
    locked.save(update_fields=changed)
    audit.record(
        organization=locked,
        actor=user,
        action="organization.changed",
        target=locked.public_id,
        data={field: {"from": old[field], "to": new[field]} for field in changed},
    )
    return True
