"""Invitations: offered by an owner, taken or declined by whoever has the mail. Each step is one locked row.

The address in a mail is signed and names the row, which says what is still open: sending again makes no other address.
"""

from __future__ import annotations

import logging
import smtplib
from datetime import datetime, timedelta
from functools import partial
from uuid import UUID

from allauth.account.models import EmailAddress
from django.core import signing
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext

from apps.accounts import audit, letters, rights
from apps.accounts.models import Invitation, Membership, Organization, User
from apps.accounts.rights import Right
from apps.accounts.roles import BY_VALUE
from apps.core.errors import NotAllowed, PortalError
from apps.core.ids import parse

log = logging.getLogger(__name__)

SALT = "accounts.invitation"
LASTS = timedelta(days=7)
AGAIN_AFTER = timedelta(minutes=1)
A_DAY = 50  # mails of one organization: strangers get them
TIMES = 5  # one invitation is sent


class InvitationState(PortalError):
    """It cannot be done to this invitation, or not any more. Nothing was changed."""

    code, status = "invitation_state", 409


class TooManyInvitations(PortalError):
    code, status = "too_many_invitations", 429


class OtherAddress(NotAllowed):
    """The invitation is for an address that is not this person's. Nothing was changed."""

    code = "other_address"


class BeyondRole(NotAllowed):
    """Nobody gives or takes a role that may more than their own. Nothing was changed."""

    code = "beyond_role"

    def __init__(self, role: str) -> None:
        super().__init__(
            gettext(
                "The role '%(role)s' may more than yours, so you cannot give or take it. Nothing was changed. An owner can."
            )
            % {"role": role},
            param="role",
        )


@transaction.atomic
def invite(*, organization: Organization, email: str, role: str, user: User) -> Invitation:
    """Offer a role to an address; the mail leaves after the commit. One that nobody took in time is offered anew.

    Raises InvitationState, TooManyInvitations, and NotAllowed for whose role may not give this one.
    """
    address, now = email.strip().lower(), timezone.now()
    inviter(organization, user, role)
    if Membership.objects.filter(organization=organization, user__email=address).exists():
        raise InvitationState(
            gettext("%(address)s is a member already. Change the role on the page of members.") % {"address": address},
            param="email",
        )
    earlier = organization.invitations.pending().filter(email=address).first()
    if earlier is not None and not earlier.is_over:
        raise InvitationState(
            gettext("%(address)s is invited already. Send that invitation again, or withdraw it.")
            % {"address": address},
            param="email",
        )
    few_enough(organization, now)
    if earlier is not None:
        end(earlier, Invitation.State.WITHDRAWN, now)
    made = Invitation.objects.create(
        organization=organization, email=address, role=role, invited_by=user, sent_at=now, expires_at=now + LASTS
    )
    recorded(made, "member.invited", user, role=role)
    transaction.on_commit(partial(send, made))
    return made


@transaction.atomic
def send_again(*, invitation: Invitation, user: User) -> Invitation:
    """The same mail once more, and seven days from now. Raises as `invite`."""
    inviter(invitation.organization, user, invitation.role)
    locked, now = pending(invitation.pk), timezone.now()
    if now < locked.sent_at + AGAIN_AFTER:
        raise TooManyInvitations(
            gettext("This invitation was sent less than a minute ago. Wait a minute."), retry_after_seconds=60
        )
    if locked.sent >= TIMES:
        raise TooManyInvitations(
            gettext("This invitation was sent %(times)s times. Withdraw it, or ask whether the address is right.")
            % {"times": TIMES}
        )
    few_enough(locked.organization, now)
    locked.sent, locked.sent_at, locked.expires_at = locked.sent + 1, now, now + LASTS
    locked.save(update_fields=["sent", "sent_at", "expires_at"])
    recorded(locked, "invitation.sent_again", user)
    transaction.on_commit(partial(send, locked))
    return locked


@transaction.atomic
def withdraw(*, invitation: Invitation, user: User) -> None:
    """From now on its address leads nowhere. Raises InvitationState, and NotAllowed as `invite`."""
    inviter(invitation.organization, user, invitation.role)
    locked = pending(invitation.pk)
    end(locked, Invitation.State.WITHDRAWN, timezone.now())
    recorded(locked, "invitation.withdrawn", user)


def withdraw_of(*, organization: Organization, inviter: User, user: User | None, role: str = "") -> None:
    """Whoever may not give a role any more leaves no invitation to it behind. `role` is the inviter's now; none: they left.

    In the transaction that takes the right.
    """
    for each in organization.invitations.pending().filter(invited_by=inviter).select_for_update().order_by("pk"):
        if rights.allows(role, Right.MEMBERS) and rights.covers(role, each.role):
            continue
        end(each, Invitation.State.WITHDRAWN, timezone.now())
        recorded(each, "invitation.withdrawn", user)


@transaction.atomic
def accept(*, invitation: Invitation, user: User) -> Membership:
    """Join. Whoever is a member already keeps their role. Raises InvitationState and OtherAddress."""
    locked, now = pending(invitation.pk), timezone.now()
    if locked.is_over:
        raise InvitationState(gettext("The invitation has ended. Ask for another."))
    if not is_for(locked, user):
        raise OtherAddress(
            gettext("This invitation is for %(email)s. You are signed in as %(email_2)s.")
            % {"email": locked.email, "email_2": user.email}
        )
    membership, made = Membership.objects.get_or_create(
        organization=locked.organization, user=user, defaults={"role": locked.role}
    )
    end(locked, Invitation.State.ACCEPTED, now)
    if made:
        recorded(locked, "member.joined", user, role=locked.role, invited_by=locked.invited_by.email)
    return membership


@transaction.atomic
def decline(*, invitation: Invitation, user: User | None) -> None:
    """By whoever has the mail, signed in or not. Safe to repeat. Raises InvitationState where it was taken."""
    locked = Invitation.objects.select_for_update(of=("self",)).select_related("organization").get(pk=invitation.pk)
    if locked.state == Invitation.State.DECLINED:
        return
    if locked.state != Invitation.State.PENDING:
        raise InvitationState(gettext("The invitation is not open any more."))
    end(locked, Invitation.State.DECLINED, timezone.now())
    recorded(locked, "invitation.declined", user)


def is_for(invitation: Invitation, user: User) -> bool:
    """Is it this person's address, and do we know it to be theirs?"""
    return bool(EmailAddress.objects.filter(user=user, email=invitation.email, verified=True).exists())


def inviter(organization: Organization, user: User, role: str) -> None:
    """Locks the organization: two who invite the same address do so one after the other. Raises NotAllowed."""
    Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)
    own = Membership.objects.filter(organization=organization, user=user).first()
    if own is None or not own.may(Right.MEMBERS):
        raise NotAllowed(
            gettext("Members are invited by the owners and admins of your organization. Nothing was changed.")
        )
    if not rights.covers(own.role, role):
        raise BeyondRole(role)


def pending(pk: UUID) -> Invitation:
    rows = Invitation.objects.select_for_update(of=("self",)).select_related("organization", "invited_by")
    locked = rows.get(pk=pk)
    if locked.state != Invitation.State.PENDING:
        raise InvitationState(gettext("The invitation is not open any more."))
    return locked


def few_enough(organization: Organization, now: datetime) -> None:
    if organization.invitations.filter(sent_at__gt=now - timedelta(days=1)).count() >= A_DAY:
        raise TooManyInvitations(
            gettext("An organization sends at most %(a_day)s invitations a day. Try again tomorrow.") % {"a_day": A_DAY}
        )


def end(invitation: Invitation, state: str, now: datetime) -> None:
    invitation.state, invitation.ended_at = state, now
    invitation.save(update_fields=["state", "ended_at"])


def recorded(invitation: Invitation, action: str, user: User | None, **data: str) -> None:
    audit.record(organization=invitation.organization, actor=user, action=action, target=invitation.email, data=data)


def token(invitation: Invitation) -> str:
    return signing.Signer(salt=SALT).sign(invitation.public_id)


def found(given: str) -> Invitation | None:
    """What an address of a mail names; None for what is not ours."""
    try:
        pk = parse("inv", signing.Signer(salt=SALT).unsign(given))
    except signing.BadSignature:
        return None
    if pk is None:
        return None
    return Invitation.objects.select_related("organization", "invited_by").filter(pk=pk).first()


def open_to(user: User) -> list[tuple[Invitation, str]]:
    """What a person may accept now, each with the token of its page."""
    addresses = EmailAddress.objects.filter(user=user, verified=True).values("email")
    rows = Invitation.objects.pending().filter(email__in=addresses, expires_at__gt=timezone.now())
    return [(each, token(each)) for each in rows.select_related("organization", "invited_by").order_by("pk")]


def send(invitation: Invitation) -> None:
    """A mail that cannot be sent is logged: the page of members lists the invitation, and sends it again."""
    role = BY_VALUE[invitation.role]
    message = letters.letter(
        invitation.email, "accounts/mail/invitation.txt", invitation=invitation, token=token(invitation), role=role
    )
    try:
        message.send()
    except (OSError, smtplib.SMTPException) as error:
        log.warning("invitation not sent", extra={"error": type(error).__name__})
