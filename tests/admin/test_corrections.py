"""Staff correct a balance by a new transfer with a reason; nothing else of the ledger can be changed in the admin."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from apps.accounts.models import AuditEvent, User
from apps.ledger import services as ledger
from apps.ledger.models import Account, Budget, Grant, Hold, Transfer
from tests.admin.conftest import World
from tests.admin.test_actions import act
from tests.ledger.books import balanced, platform

ROWS = 1


def correct(client: Client, world: World, **fields: Any) -> Any:
    given = {"amount_usd": "-1.25", "reason": "Counted twice on Tuesday", "key": "0" * 32, **fields}
    return act(client, "accounts_organization", "correct_balance", world.organization, **given)


@pytest.mark.parametrize("amount", ["-1.25", "2.5"])
def test_a_correction_sent_twice_is_one_transfer(staff: Client, operator: User, world: World, amount: str) -> None:
    before = ledger.balance(world.organization.pk)
    for _ in range(2):
        assert correct(staff, world, amount_usd=amount).status_code == 302
    balance = ledger.balance(world.organization.pk)
    assert balance.credit_microusd - before.credit_microusd == int(Decimal(amount) * 1_000_000)
    (made,) = Transfer.objects.filter(key__startswith="correction:")
    assert (made.reason, made.actor) == ("Counted twice on Tuesday", f"user:{operator.pk}")
    assert platform("adjustments") == -int(Decimal(amount) * 1_000_000)
    assert AuditEvent.objects.get(action="balance.corrected").reason == "Counted twice on Tuesday"
    balanced()


@pytest.mark.parametrize(
    "fields", [{"amount_usd": "0"}, {"amount_usd": "-6"}, {"amount_usd": "x"}, {"reason": ""}, {"amount_usd": "10001"}]
)
def test_a_refused_correction_writes_nothing(staff: Client, world: World, fields: dict[str, str]) -> None:
    before = Transfer.objects.count()
    assert correct(staff, world, **fields).status_code == 200
    assert Transfer.objects.count() == before
    assert not AuditEvent.objects.filter(action="balance.corrected").exists()


def test_credit_is_granted_with_an_end(staff: Client, world: World) -> None:
    ends = datetime.now(UTC).date() + timedelta(days=30)
    given = {"amount_usd": "2", "reason": "Trial", "key": "1" * 32, "expires_on": f"{ends:%Y-%m-%d}"}
    assert act(staff, "accounts_organization", "grant_credit", world.organization, **given).status_code == 302
    grant = Grant.objects.get(key__startswith="grant:")
    assert grant.expires_at == datetime(ends.year, ends.month, ends.day, tzinfo=UTC)


def test_credit_is_not_granted_for_a_day_that_has_begun(staff: Client, world: World) -> None:
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    given = {"amount_usd": "2", "reason": "Trial", "key": "1" * 32, "expires_on": today}
    page = act(staff, "accounts_organization", "grant_credit", world.organization, **given)
    assert "This day has begun already." in page.content.decode()
    assert not Grant.objects.filter(key__startswith="grant:").exists()


@pytest.mark.parametrize("model", [Account, Budget, Grant, Hold, Transfer])
def test_the_journal_is_to_read(staff: Client, world: World, model: Any) -> None:
    row = model.objects.first()
    base = f"admin:ledger_{model._meta.model_name}"
    assert staff.get(reverse(f"{base}_changelist")).status_code == 200
    page = staff.get(reverse(f"{base}_change", args=[row.pk]))
    assert page.status_code == 200
    assert staff.get(reverse(f"{base}_add")).status_code == 403
    assert staff.post(reverse(f"{base}_delete", args=[row.pk]), {"post": "yes"}).status_code == 403
    assert staff.post(reverse(f"{base}_change", args=[row.pk]), {"amount_microusd": "1"}).status_code == 403
