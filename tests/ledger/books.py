"""Invariants of the whole journal, checked after every ledger test that moves money."""

from collections import Counter

from apps.ledger.models import Account, Hold, Transfer


def balanced() -> None:
    """Each balance equals its journal, everything sums to zero, and what is held is the open holds."""
    for account in Account.objects.all():
        journal: Counter[str] = Counter()
        for transfer in Transfer.objects.filter(organization=account.organization_id):
            journal[transfer.debit] -= transfer.amount_microusd
            journal[transfer.credit] += transfer.amount_microusd
        assert sum(journal.values()) == 0
        for name in ("credit", "promotional", "held", "receivable"):
            assert getattr(account, f"{name}_microusd") == journal[name], name
        held = sum(
            hold.amount_microusd for hold in Hold.objects.filter(organization=account.organization_id, state="open")
        )
        assert account.held_microusd == held
