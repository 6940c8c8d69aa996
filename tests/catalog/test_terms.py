"""What a job is charged by: version, tier and discount of its admission, whatever changes while it waits or runs."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, transaction

from apps.catalog import offers
from apps.catalog.models import Discount, PriceVersion
from apps.dispatch.dispatcher import Dispatcher
from apps.jobs.models import Job
from apps.ledger import services as ledger
from apps.ledger.services import InsufficientCredit
from apps.runner.protocol import Usage
from cango_portal import database
from tests import make
from tests.dispatch import site
from tests.ledger.books import balanced

USAGE = Usage(prompt_tokens=1_000, cached_prompt_tokens=600, completion_tokens=300)


@pytest.fixture
def priced(shop):
    """The shop's model with a cached price: $0.12, $0.03 cached, $0.36, $0.00001 a request; 70% flexible, 50% batch."""
    shop.price = PriceVersion.objects.create(
        model=shop.model,
        effective_at=datetime.now(UTC) - timedelta(hours=1),
        input_microusd_per_mtok=120_000,
        cached_input_microusd_per_mtok=30_000,
        output_microusd_per_mtok=360_000,
        request_microusd=10,
    )
    return shop


def charged(job: Job) -> int | None:
    job.refresh_from_db()
    return job.charge_microusd


@pytest.mark.parametrize(
    ("tier", "off", "hold", "charge"),
    [
        ("standard", 0, 10 + 121 + 180, 10 + 48 + 18 + 108),
        ("flexible", 0, 7 + 85 + 126, 7 + 34 + 13 + 76),  # 33.6, 12.6, 75.6
        ("batch", 0, 5 + 61 + 90, 5 + 24 + 9 + 54),
        ("standard", 1_000, 9 + 109 + 162, 9 + 44 + 17 + 98),  # 43.2, 16.2, 97.2
        ("flexible", 1_000, 7 + 77 + 114, 7 + 31 + 12 + 69),  # 6.3, 75.6 and 113.4; 30.24, 11.34, 68.04
        ("batch", 9_999, 1 + 2 + 1, 1 + 1 + 1 + 1),
    ],
)
def test_tiers_and_discounts_hold_and_charge_exactly(priced, tier, off, hold, charge):
    if off:
        make.discount(priced.organization, off=off)
    job = priced.submit(tier=tier)
    assert (job.price_id, job.tier, job.discount_basis_points) == (priced.price.pk, tier, off)
    assert job.hold_microusd == hold
    assert ledger.balance(priced.organization.pk).held_microusd == hold
    site.deliver(site.report(job, usage=USAGE))
    assert charged(job) == charge
    assert (job.prompt_tokens, job.cached_prompt_tokens, job.completion_tokens) == (1_000, 600, 300)
    assert ledger.balance(priced.organization.pk).credit_microusd == 1_000_000 - charge
    balanced()


def test_what_changes_after_the_admission_changes_nothing(priced):
    discount = make.discount(priced.organization, model=priced.model, off=2_500)
    job = priced.submit(tier="flexible")
    PriceVersion.objects.create(
        model=priced.model,
        effective_at=datetime.now(UTC),
        input_microusd_per_mtok=9_000_000,
        output_microusd_per_mtok=9_000_000,
        batch_basis_points=1,
        flexible_basis_points=10_000,
    )
    Discount.objects.filter(pk=discount.pk).update(ends_at=datetime.now(UTC))
    make.discount(priced.organization, off=9_000, starts_at=datetime.now(UTC) + timedelta(days=1))
    site.deliver(site.report(job, usage=USAGE))
    assert charged(job) == 6 + 26 + 10 + 57  # × 0.525: 5.25, 25.2, 9.45, 56.7
    later = priced.submit(tier="flexible", offer=database.run(offers.offer(priced.model.name)))
    assert later.price_id != priced.price.pk
    assert later.discount_basis_points == 0
    assert later.hold_microusd == 9_000 + 4_500


def test_the_terms_survive_a_second_attempt(priced):
    make.discount(priced.organization, off=1_000)
    job = priced.submit(tier="flexible", streaming=False)
    site.deliver(site.report(job, state="failed", failure=site.ENGINE_AWAY, usage=Usage()))
    Discount.objects.update(ends_at=datetime.now(UTC))
    Dispatcher().feed()
    site.deliver(site.report(job, usage=USAGE))
    assert (job.attempt, charged(job)) == (2, 7 + 31 + 12 + 69)


def test_the_largest_discount_in_force_counts_alone(priced):
    now, day = datetime.now(UTC), timedelta(days=1)
    other = make.model()
    make.discount(priced.organization, model=priced.model, off=1_000)
    make.discount(priced.organization, off=2_500)
    make.discount(priced.organization, model=other, off=5_000)
    make.discount(make.organization(), off=9_000)
    make.discount(priced.organization, off=8_000, starts_at=now - 2 * day, ends_at=now - day)
    make.discount(priced.organization, off=8_000, starts_at=now + day)
    assert priced.submit().discount_basis_points == 2_500
    found = database.run(offers.discounts(priced.organization.pk))
    assert found == {priced.model.pk: 2_500, other.pk: 5_000}
    for model_id, points in found.items():
        assert database.run(offers.discount(priced.organization.pk, model_id)) == points


@pytest.mark.parametrize(
    ("cached", "kept", "charge"),
    [(0, 0, 10 + 120 + 108), (1_000, 1_000, 10 + 30 + 108), (5_000, 1_000, 10 + 30 + 108), (-5, 0, 10 + 120 + 108)],
)
def test_cached_tokens_are_within_the_prompt_whatever_a_site_says(priced, cached, kept, charge):
    job = priced.submit()
    site.deliver(site.report(job, usage=Usage(prompt_tokens=1_000, cached_prompt_tokens=cached, completion_tokens=300)))
    assert charged(job) == charge
    assert job.cached_prompt_tokens == kept


def test_without_a_cached_price_cached_tokens_cost_what_input_costs(shop):
    job = shop.submit()
    assert job.hold_microusd == 120 + 180
    site.deliver(site.report(job, usage=USAGE))
    assert charged(job) == 120 + 108
    assert job.cached_prompt_tokens == 600


def test_a_discount_admits_what_the_list_price_would_not(priced):
    ledger.reserve(organization=priced.organization, microusd=1_000_000 - 200, key="test:rest")
    with pytest.raises(InsufficientCredit):
        priced.submit()
    assert Job.objects.count() == 0
    assert ledger.balance(priced.organization.pk).held_microusd == 1_000_000 - 200
    make.discount(priced.organization, off=5_000)
    assert priced.submit().hold_microusd == 5 + 61 + 90


@pytest.mark.parametrize("fields", [{"off": 0}, {"off": 10_000}, {"ends_at": datetime(2020, 1, 1, tzinfo=UTC)}])
def test_the_database_keeps_no_discount_that_cannot_be(shop, fields):
    with pytest.raises(IntegrityError), transaction.atomic():
        make.discount(shop.organization, **fields)
    assert Discount.objects.count() == 0


@pytest.mark.parametrize("share", [0, 10_001])
@pytest.mark.parametrize("tier", ["batch_basis_points", "flexible_basis_points"])
def test_the_database_keeps_no_tier_that_costs_nothing_or_more(shop, tier, share):
    with pytest.raises(IntegrityError), transaction.atomic():
        PriceVersion.objects.filter(model=shop.model).update(**{tier: share})


@pytest.mark.parametrize("fields", [{"prompt_tokens": 1, "cached_prompt_tokens": 2}, {"discount_basis_points": 10_000}])
def test_the_database_keeps_no_terms_that_cannot_be(shop, fields):
    with pytest.raises(IntegrityError), transaction.atomic():
        make.job(organization=shop.organization, model=shop.model, **fields)
    assert Job.objects.count() == 0
