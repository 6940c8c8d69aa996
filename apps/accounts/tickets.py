"""The id of what a page's form will make, signed and put on the form: the form sent twice makes it once."""

from uuid import UUID

from django.core.signing import BadSignature, Signer

from apps.core.ids import uuid7


def new(purpose: str) -> str:
    return Signer(salt=f"ticket.{purpose}").sign(str(uuid7()))


def read(purpose: str, ticket: str) -> UUID:
    """The id on the form; a new one where it has none of ours for this purpose."""
    try:
        return UUID(Signer(salt=f"ticket.{purpose}").unsign(ticket))
    except BadSignature:
        return uuid7()
