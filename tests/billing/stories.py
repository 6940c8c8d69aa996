"""What several stories of money share: buying, and the proof that the books agree with what Stripe holds."""

from datetime import UTC, datetime, timedelta

from apps.accounts.models import Membership, Organization
from apps.billing import top_ups
from apps.billing.client import client
from apps.billing.models import Event, Refund, TopUp
from apps.ledger import services as ledger
from apps.ledger.models import Transfer
from tests import make
from tests.ledger.books import balanced


def shop(**fields):
    """An organization with an owner: (organization, owner)."""
    owner = make.user()
    return make.organization(owner=owner, **fields), owner


def colleague(organization: Organization, role: str):
    user = make.user()
    Membership.objects.create(organization=organization, user=user, role=role)
    return user


def start(organization, owner, amount="25.00", **fields) -> TopUp:
    return top_ups.start(
        organization=organization,
        actor=owner,
        amount=amount,
        success_url="http://localhost/billing/?paid={top_up}",
        cancel_url="http://localhost/billing/add/",
        **fields,
    )


def buy(stripe, organization, owner, amount="25.00", *, save_card=False, card="pays") -> TopUp:
    """A top-up that was paid and booked."""
    row = start(organization, owner, amount, save_card=save_card)
    stripe.pay(row.checkout_session_id, card=card, save=save_card)
    stripe.deliver()
    row.refresh_from_db()
    assert row.state == "paid", Event.objects.exclude(error="").values_list("type", "error")
    return row


def clearing_microusd() -> int:
    """Σ stripe_clearing: what arrived there less what left it."""
    return sum(
        transfer.amount_microusd * ((transfer.credit == "stripe_clearing") - (transfer.debit == "stripe_clearing"))
        for transfer in Transfer.objects.all()
    )


def sum_of(account: str) -> int:
    return sum(
        transfer.amount_microusd * ((transfer.credit == account) - (transfer.debit == account))
        for transfer in Transfer.objects.all()
    )


def held_cents() -> int:
    """What the double says Stripe holds for us, after its fees."""
    entries = client().v1.balance_transactions.list({"limit": 100}).auto_paging_iter()
    return sum(entry.net for entry in entries)


def proved() -> None:
    """The journal is whole, and says of Stripe's money what Stripe says, to the cent."""
    balanced()
    assert clearing_microusd() == -held_cents() * 10_000


def credit_cents(organization) -> int:
    balance = ledger.balance(organization.pk)
    assert balance.credit_microusd % 10_000 == 0
    return balance.credit_microusd // 10_000


def owed_cents(organization) -> int:
    return ledger.balance(organization.pk).receivable_microusd // 10_000


def spend(organization, cents: int, key: str) -> None:
    ledger.reserve(organization=organization, microusd=cents * 10_000, key=key)
    ledger.settle(key=key, cost_microusd=cents * 10_000)


def failed() -> list[str]:
    return list(Event.objects.filter(state="failed").values_list("error", flat=True))


def nothing_written() -> None:
    assert not Transfer.objects.exclude(key__startswith="test:").exists()
    assert not TopUp.objects.exists()
    assert not Refund.objects.exists()


def later(**delta) -> datetime:
    return datetime.now(UTC) + timedelta(**delta)
