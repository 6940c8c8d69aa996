"""Who makes and changes keys: asked of rows that are locked until the commit, so a right that was taken meanwhile counts.

Whoever takes a role or narrows a key locks the same rows, and so is either heard or waits for us.
"""

from __future__ import annotations

from apps.accounts import rights
from apps.accounts.models import Membership, Organization, User
from apps.accounts.rights import WHY, Right
from apps.accounts.scopes import Scope, holds
from apps.core.errors import NotAllowed
from apps.keys import permits
from apps.keys.models import APIKey
from apps.keys.permits import Permit


def member(organization: Organization, user: User) -> Membership:
    """The member's row, locked. Raises NotAllowed where their role makes no keys, or they are no member."""
    own = Membership.objects.select_for_update(no_key=True).filter(organization=organization, user=user).first()
    if own is None or not own.may(Right.KEYS):
        raise NotAllowed(str(WHY[Right.KEYS]))
    return own


def of_others(own: Membership, key: APIKey) -> None:
    """Raises NotAllowed where the key is somebody else's and the role changes only its own."""
    if key.created_by_id != own.user_id and not own.may(Right.EVERY_KEY):
        raise NotAllowed(str(WHY[Right.EVERY_KEY]))


def calling(by: APIKey, permit: Permit) -> None:
    """The key that calls, locked, is still in force, manages, and has all that `permit` gives.

    Its maker is locked before it, as by whoever takes their role: that one then finds the key that we make.

    Raises NotAllowed and BeyondPermit.
    """
    maker(by)
    locked = APIKey.objects.select_for_update(of=("self",)).get(pk=by.pk)
    if locked.state != "active" or not holds(frozenset(locked.scopes), Scope.MANAGE):
        raise NotAllowed("This API key may not manage keys any more. Nothing was changed.", code="insufficient_scope")
    permits.given_by_key(permit, permits.of(locked))


def maker(by: APIKey) -> None:
    """Locked until the commit."""
    members = Membership.objects.select_for_update(no_key=True)
    members.filter(organization=by.organization_id, user=by.created_by_id).first()


def both(by: APIKey, key: APIKey) -> None:
    """The maker of the key that calls, and two keys that are asked about in one transaction, in the order of their ids."""
    maker(by)
    list(APIKey.objects.select_for_update(of=("self",)).filter(pk__in=(by.pk, key.pk)).order_by("pk"))


def role_of_maker(key: APIKey) -> str:
    """Of whoever made it; that of a viewer, who may nothing, where they are no member any more."""
    maker = Membership.objects.filter(organization=key.organization_id, user=key.created_by_id).first()
    return maker.role if maker else Membership.Role.VIEWER


def maker_may(key: APIKey, right: Right) -> bool:
    """A key does no more than its maker may; one that no person made is bound by its scopes alone."""
    return key.created_by_id is None or rights.allows(role_of_maker(key), right)
