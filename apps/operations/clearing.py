"""Ledger against Stripe: every balance transaction is explained by transfers of `stripe_clearing`, by id and amount.

Stripe names what moved (a charge, a refund, a dispute) and the fee of each move; the journal's keys carry the same ids:
`topup:` and `tax:` the payment, `invoice:` the invoice, `refund:` and `dispute:` themselves, `fee:` the transaction. Anything
else that staff books to explain a transaction names it: `<what>:<transaction>`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, NamedTuple

import stripe
from django.db.models import Q

from apps.billing.amounts import microusd
from apps.billing.client import client, identifier, plain
from apps.billing.models import Invoice, TopUp
from apps.ledger.models import Transfer
from apps.operations.differences import Found, Item
from apps.operations.usage import CHUNK, chunks, name

CLEARING = Transfer.Name.STRIPE_CLEARING
# Stripe tells of an event for three days and we ask for missed ones hourly: until then nothing is missing.
PENDING = timedelta(hours=3)
MARGIN = timedelta(days=35)  # how late a move may be booked, or how early, and still be found beside its other half
# Between Stripe and our bank: no customer's money, and not in the journal.
PAYOUTS = {"payout", "payout_cancel", "payout_failure", "payout_minimum_balance_hold", "payout_minimum_balance_release"}

item = partial(Item, "stripe")


class Moved(NamedTuple):
    """What something did to our balance at Stripe. `way` keeps a refund apart from its return."""

    what: str  # charge, refund, dispute, fee, transaction, transfer
    id: str
    way: str  # in, out

    def __str__(self) -> str:
        return f"{self.what} {self.id} {self.way}"


@dataclass(slots=True)
class Side:
    """One side's sum of a move, when it happened last, and whose it is where the side knows."""

    microusd: int
    at: datetime
    organization: str = ""


class Unreadable(Exception):
    """Stripe did not tell its balance transactions."""


def listed(*, since: datetime | None) -> list[dict[str, Any]]:
    """Stripe's balance transactions, a few fields of each. Network: before any transaction. Raises Unreadable."""
    params: Any = {"limit": 100}
    if since:
        params["created"] = {"gte": int((since - MARGIN).timestamp())}
    try:
        found = client().v1.balance_transactions.list(params)
        return [slim(plain(transaction)) for transaction in found.auto_paging_iter()]
    except stripe.StripeError as error:
        raise Unreadable(f"{type(error).__name__}: {error}"[:300]) from error


def slim(transaction: dict[str, Any]) -> dict[str, Any]:
    fields = ("id", "type", "amount", "fee", "net", "currency", "created")
    return {**{field: transaction[field] for field in fields}, "source": identifier(transaction.get("source"))}


def compare(found: Found, transactions: list[dict[str, Any]], *, since: datetime | None, now: datetime) -> None:
    """In the caller's transaction. What stands on one side alone is pending while it is younger than PENDING."""
    booked, clearing = journal(since=since)
    explained = {moved.id for moved in booked if moved.what == "transaction"}
    at_stripe, net = stripes(found, transactions, explained, since=since)
    found.checked["stripe_transactions"] = len(transactions)
    found.checked["stripe_transfers"] = clearing.pop("count")
    found.totals["stripe_net"] = net
    found.totals["stripe_clearing"] = clearing["microusd"]
    for moved in at_stripe.keys() | booked.keys():
        theirs, ours = at_stripe.get(moved), booked.get(moved)
        if theirs and ours and theirs.microusd == ours.microusd:
            continue
        at = max(side.at for side in (theirs, ours) if side)
        difference = item(
            "amount" if theirs and ours else "not booked" if theirs else "not at Stripe",
            str(moved),
            ours.organization if ours else "",
            str(theirs.microusd) if theirs else "nothing",
            str(ours.microusd) if ours else "nothing",
            "a balance transaction is explained by transfers of the same amount, and they by it",
        )
        if theirs and ours:
            found.differs(difference)
        elif at > now - PENDING:
            found.waits(difference)
        elif since is None or at >= since:
            found.differs(difference)


def stripes(
    found: Found, transactions: list[dict[str, Any]], explained: set[str], *, since: datetime | None
) -> tuple[dict[Moved, Side], int]:
    """What moved at Stripe, and all of it together. Transactions that staff `explained` go by their own id."""
    sides: dict[Moved, Side] = {}
    net = 0
    for transaction in transactions:
        if transaction["type"] in PAYOUTS:
            continue
        at = datetime.fromtimestamp(transaction["created"], UTC)
        if transaction["currency"] != "usd":
            says = "the Stripe account settles in usd"
            found.differs(item("currency", transaction["id"], "", "usd", transaction["currency"], says))
            continue
        if since is None or at >= since:
            net += microusd(transaction["net"])
        if transaction["amount"]:
            moved = named(transaction) if transaction["id"] in explained else moved_by(transaction)
            add(sides, moved, microusd(transaction["amount"]), at)
        if transaction["fee"]:
            add(sides, directed("fee", transaction["id"], -transaction["fee"]), -microusd(transaction["fee"]), at)
    return sides, net


def moved_by(transaction: dict[str, Any]) -> Moved:
    source, amount = transaction["source"], transaction["amount"]
    what = {"ch": "charge", "py": "charge", "re": "refund", "pyr": "refund", "dp": "dispute", "du": "dispute"}.get(
        source.partition("_")[0]
    )
    return directed(what, source, amount) if what else named(transaction)


def named(transaction: dict[str, Any]) -> Moved:
    return directed("transaction", transaction["id"], transaction["amount"])


def directed(what: str, identifier: str, amount: int) -> Moved:
    return Moved(what, identifier, "in" if amount > 0 else "out")


def add(sides: dict[Moved, Side], moved: Moved, amount: int, at: datetime, organization: str = "") -> None:
    side = sides.setdefault(moved, Side(0, at, organization))
    side.microusd += amount
    side.at = max(side.at, at)


def journal(*, since: datetime | None) -> tuple[dict[Moved, Side], dict[str, int]]:
    """What the journal says came to Stripe and left it; and all of it together since then."""
    transfers = Transfer.objects.filter(Q(debit=CLEARING) | Q(credit=CLEARING)).order_by()
    if since:
        transfers = transfers.filter(at__gte=since - MARGIN)
    sides: dict[Moved, Side] = {}
    totals: dict[str, int] = defaultdict(int, count=0, microusd=0)
    for chunk in chunks(transfers.iterator(chunk_size=CHUNK), CHUNK):
        for transfer, moved, amount in told(chunk):
            if since is None or transfer.at >= since:
                totals["microusd"] -= amount
            add(sides, moved, amount, transfer.at, name(transfer.organization_id))
        totals["count"] += len(chunk)
    return sides, totals


def told(transfers: list[Transfer]) -> Iterator[tuple[Transfer, Moved, int]]:
    """Each transfer with the move its key names, and what that did to our balance at Stripe."""
    parts = {transfer.pk: (*transfer.key.split(":"), "")[:2] for transfer in transfers}
    ids: dict[str, set[str]] = defaultdict(set)
    for what, identifier_ in parts.values():
        ids[what].add(identifier_)
    paid = TopUp.objects.filter(payment_intent_id__in=ids["topup"] | ids["tax"])
    charges = {str(payment): charge for payment, charge in paid.values_list("payment_intent_id", "charge_id")}
    charges.update(Invoice.objects.filter(stripe_id__in=ids["invoice"]).values_list("stripe_id", "charge_id"))
    for transfer in transfers:
        what, identifier_ = parts[transfer.pk]
        amount = transfer.amount_microusd if transfer.debit == CLEARING else -transfer.amount_microusd
        if what in ("topup", "tax", "invoice"):
            yield transfer, directed("charge", charges.get(identifier_) or identifier_, amount), amount
        elif what in ("refund", "dispute", "fee"):
            yield transfer, directed(what, identifier_, amount), amount
        elif identifier_.startswith("txn_"):
            yield transfer, directed("transaction", identifier_, amount), amount
        else:
            yield transfer, directed("transfer", transfer.key, amount), amount
