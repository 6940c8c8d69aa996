"""Invariants of the whole ledger, checked after every test that moves money."""

from apps.ledger import auditing
from apps.ledger.models import Transfer


def balanced() -> None:
    """Every check of `audit_ledger` holds; a platform account's sum needs no row, so all transfers sum to zero by shape."""
    found = list(auditing.audit())
    assert found == []


def platform(name: str) -> int:
    """What a platform account has in the journal, micro-USD."""
    return sum(
        (transfer.credit == name) * transfer.amount_microusd - (transfer.debit == name) * transfer.amount_microusd
        for transfer in Transfer.objects.all()
    )
