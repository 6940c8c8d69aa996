"""Members and their keys: a key never keeps a scope that its maker could not give any more."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction
from django.db.models import Max

from apps.accounts import audit, invitations, rights
from apps.accounts.invitations import BeyondRole
from apps.accounts.models import Membership, Organization, User
from apps.accounts.rights import WHY, Right
from apps.accounts.scopes import USUAL, holds
from apps.core.errors import NotAllowed, PortalError
from apps.keys import permits, services
from apps.keys.givers import role_of_maker
from apps.keys.models import APIKey


class LastOwner(PortalError):
    """An organization without an owner could change nothing any more. Nothing was changed."""

    code, status = "last_owner", 409


class OwnersByOwners(NotAllowed):
    """Whoever holds a key of an owner's rights must not become, replace or remove one. Nothing was changed."""

    code = "owner_required"


def last_use(organization: Organization) -> dict[int, datetime]:
    """When a key that a person made was last used, of each person whose keys were: also keys that are revoked."""
    used = APIKey.objects.of(organization).filter(created_by__isnull=False, last_used_at__isnull=False).order_by()
    return dict(used.values_list("created_by").annotate(at=Max("last_used_at")))


@transaction.atomic
def change_role(
    *, membership: Membership, role: str, user: User | None, by: APIKey | None = None, reason: str = ""
) -> Membership:
    """Another role, in force with the member's next request, and fewer scopes on their keys where it may give fewer.

    With a `reason` the user is staff, whose own role counts for nothing. Raises LastOwner, NotAllowed and BeyondRole for a
    member, and for a key OwnersByOwners and BeyondPermit.
    """
    locked = locked_member(membership)
    if by is not None:
        spare_owners(locked, role)
        spare_above_maker(locked, by)
    elif user is not None and not reason:
        given_by_member(locked, role, user)
    if locked.role == role:
        return locked
    if by is not None:
        given_by_key(role, by)
    keep_an_owner(locked, role)
    old, locked.role = locked.role, role
    locked.save(update_fields=["role"])
    recorded(locked, "member.role_changed", user=user, by=by, reason=reason, data={"from": old, "to": role})
    narrow_keys(locked, permits.BY_ROLE[role] or frozenset(USUAL), user=user, by=by)
    invitations.withdraw_of(organization=locked.organization, inviter=locked.user, user=user, role=role)
    return locked


@transaction.atomic
def remove(*, membership: Membership, user: User | None, by: APIKey | None = None, reason: str = "") -> None:
    """End a membership. The keys they made go on for the organization, but manage nothing any more.

    Anybody may leave. With a `reason` the user is staff. Raises LastOwner, NotAllowed and BeyondRole for a member, and OwnersByOwners for a key.
    """
    locked = locked_member(membership)
    if by is not None:
        spare_owners(locked, "")
        spare_above_maker(locked, by)
    elif user is not None and user.pk != locked.user_id and not reason:
        given_by_member(locked, "", user)
    keep_an_owner(locked, "")
    recorded(locked, "member.removed", user=user, by=by, reason=reason, data={"role": locked.role})
    narrow_keys(locked, frozenset(USUAL), user=user, by=by)
    invitations.withdraw_of(organization=locked.organization, inviter=locked.user, user=user)
    locked.delete()


def locked_member(membership: Membership) -> Membership:
    """The row, with the organization's locked before it: two owners who leave at once leave one after the other."""
    Organization.objects.select_for_update(no_key=True).get(pk=membership.organization_id)
    return (
        Membership.objects.select_for_update(of=("self",)).select_related("organization", "user").get(pk=membership.pk)
    )


def given_by_member(membership: Membership, role: str, user: User) -> None:
    """Members give, change and take roles up to their own. Raises NotAllowed and BeyondRole."""
    own = Membership.objects.filter(organization=membership.organization, user=user).first()
    if own is None or not own.may(Right.MEMBERS):
        raise NotAllowed(str(WHY[Right.MEMBERS]))
    for each in filter(None, (membership.role, role)):
        if not rights.covers(own.role, each):
            raise BeyondRole(each)


def spare_owners(membership: Membership, role: str) -> None:
    """What a key may not do, whoever made it. Raises OwnersByOwners."""
    owner = Membership.Role.OWNER
    if membership.role == owner:
        what = f"{'change the role of' if role else 'remove'} the owner {membership.user.email}"
    elif role == owner:
        what = "make an owner"
    else:
        return
    raise OwnersByOwners(
        f"An API key may not {what}, whatever its scopes. Nothing was changed. An owner can, signed in.",
        param="role" if role else None,
    )


def spare_above_maker(membership: Membership, by: APIKey) -> None:
    """A key takes no role that its maker may not. Raises BeyondPermit."""
    if by.created_by_id is not None and not rights.covers(role_of_maker(by), membership.role):
        raise permits.BeyondPermit(
            f"An API key cannot change or remove {membership.user.email}, whose role may more than that of whoever made "
            "this key. Nothing was changed. An owner can, signed in.",
            param="role",
        )


def given_by_key(role: str, by: APIKey) -> None:
    """A key makes nobody more than its scopes cover, nor more than its maker. Raises BeyondPermit.

    No scope lets a key pay, so none gives the role that does.
    """
    scopes = frozenset(by.scopes)
    missing = sorted(scope for scope in permits.BY_ROLE[role] if not holds(scopes, scope))
    if rights.allows(role, Right.PAY):
        why = "may pay and set limits, which no key may"
    elif missing:
        why = f"may do what this key may not: {', '.join(missing)}"
    elif by.created_by_id is not None and not rights.covers(role_of_maker(by), role):
        why = "is not below that of whoever made this key"
    else:
        return
    raise permits.BeyondPermit(
        f"An API key cannot give the role '{role}': it {why}. Nothing was changed. An owner can, signed in.",
        param="role",
    )


def keep_an_owner(membership: Membership, role: str) -> None:
    owner = Membership.Role.OWNER
    others = Membership.objects.filter(organization=membership.organization, role=owner).exclude(pk=membership.pk)
    if membership.role == owner and role != owner and not others.exists():
        raise LastOwner(f"{membership.user.email} is the last owner. Make another member an owner first.")


def narrow_keys(membership: Membership, scopes: frozenset[str], *, user: User | None, by: APIKey | None) -> None:
    """A key that would keep none of its scopes is revoked: one without any cannot be made either."""
    keys = APIKey.objects.of(membership.organization).active().filter(created_by=membership.user).order_by("pk")
    for key in keys.select_for_update(of=("self",)).select_related("organization"):
        kept = [scope for scope in key.scopes if scope in scopes]
        if not kept and key.scopes:
            services.revoke(key=key, user=user, by=by, reason="its maker may give none of its scopes any more")
        elif kept != key.scopes:
            old, key.scopes = key.scopes, kept
            key.save(update_fields=["scopes"])
            changed = {"scopes": {"from": old, "to": kept}}
            services.recorded(key, "api_key.changed", user=user, by=by, data={"changed": changed})


def recorded(
    membership: Membership, action: str, *, user: User | None, by: APIKey | None, reason: str, data: dict[str, str]
) -> None:
    audit.record(
        organization=membership.organization,
        actor=user,
        action=action,
        target=membership.user.email,
        reason=reason,
        data={**data, **({"by_key": by.prefix} if by else {})},
    )
