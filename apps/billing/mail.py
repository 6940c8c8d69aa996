"""Mails about money: to those who pay, and to staff. A template's first line is the subject."""

from collections.abc import Iterable
from functools import partial
from typing import Any

from django.db import transaction

from apps.accounts import letters
from apps.accounts.models import Organization, User
from apps.accounts.rights import Right, with_right


def to_payers(organization: Organization, name: str, **context: Any) -> None:
    """To owners and billing members, one mail each, after the commit."""
    payers = User.objects.filter(
        is_active=True,
        memberships__organization=organization,
        memberships__role__in=with_right(Right.PAY),
    )
    send(payers, name, organization=organization, **context)


def to_staff(name: str, **context: Any) -> None:
    send(User.objects.filter(is_active=True, is_staff=True).values_list("email", flat=True), name, **context)


def send(readers: Iterable[User | str], name: str, **context: Any) -> None:
    """A user's mail is in their language, one to an address in English."""
    for reader in sorted(set(readers), key=str):
        message = letters.letter(reader, f"billing/mail/{name}.txt", **context)
        transaction.on_commit(partial(message.send), robust=True)
