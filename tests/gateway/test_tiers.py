"""`service_tier` and cached tokens, through the official client."""

import time

import openai
import pytest

from apps.catalog.models import PriceVersion
from apps.jobs.models import Job
from apps.ledger import services as ledger
from apps.ledger.models import Hold
from apps.runner.protocol import Usage
from tests.gateway.portal import Attempt

ASK = [{"role": "user", "content": "Say hello"}]


@pytest.fixture
def priced(shop):
    PriceVersion.objects.filter(model=shop.model).update(
        input_microusd_per_mtok=120_000_000, cached_input_microusd_per_mtok=30_000_000
    )
    return shop


def mostly_cached(attempt: Attempt) -> None:
    attempt.usage = Usage(prompt_tokens=5, cached_prompt_tokens=4)
    attempt.claim()
    attempt.say("Hello", " world")
    attempt.finish()


def test_a_flexible_answer_says_so_and_costs_less(client, priced, site):
    site.script = mostly_cached
    answer = client.chat.completions.create(model=priced.model.name, messages=ASK, service_tier="flex")
    job = Job.objects.get()
    assert answer.service_tier == "flex"
    assert (job.tier, job.interactive) == ("flexible", True)
    assert answer.usage.prompt_tokens_details.cached_tokens == 4
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (5, 7)
    # × 0.7: 120, 4 × 30, 2 × 0.36
    assert answer.usage.cost_microusd == job.charge_microusd == 84 + 84 + 1
    assert ledger.balance(priced.organization.pk).available_microusd == 1_000_000 - 169


def test_every_chunk_of_a_flexible_stream_says_so(client, priced, site):
    site.script = mostly_cached
    chunks = list(
        client.chat.completions.create(
            model=priced.model.name,
            messages=ASK,
            service_tier="flex",
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert {chunk.service_tier for chunk in chunks} == {"flex"}
    assert chunks[-1].usage.prompt_tokens_details.cached_tokens == 4
    assert chunks[-1].usage.cost_microusd == 169


@pytest.mark.parametrize("given", [{}, {"service_tier": "auto"}, {"service_tier": "default"}, {"service_tier": None}])
def test_other_words_mean_standard(client, priced, site, given):
    answer = client.chat.completions.create(model=priced.model.name, messages=ASK, **given)
    assert answer.service_tier == "default"
    assert answer.usage.prompt_tokens_details.cached_tokens == 0
    assert Job.objects.get().tier == "standard"
    assert answer.usage.cost_microusd == 600 + 1


def test_standard_by_its_own_name(client, priced, site):
    answer = client.chat.completions.create(
        model=priced.model.name, messages=ASK, extra_body={"service_tier": "standard"}
    )
    assert answer.service_tier == "default"
    assert Job.objects.get().tier == "standard"


def test_a_flexible_request_that_finds_no_slot_costs_nothing(client, shop, settings):
    """The model's own limit is a second; a flexible request waits as long as its own setting says."""
    settings.FLEXIBLE_QUEUE_SECONDS = 2
    shop.pool.ready = False
    shop.pool.save()
    began = time.monotonic()
    with pytest.raises(openai.InternalServerError) as refused:
        client.chat.completions.create(model=shop.model.name, messages=ASK, service_tier="flex")
    assert 1.9 < time.monotonic() - began < 6
    assert (refused.value.status_code, refused.value.code) == (503, "no_capacity")
    job = Job.objects.get()
    assert (job.state, job.tier, job.charge_microusd) == ("expired", "flexible", 0)
    assert not Hold.objects.filter(state="open").exists()
    assert ledger.balance(shop.organization.pk).available_microusd == 1_000_000


def test_the_models_show_every_price(client, priced):
    pricing = client.models.retrieve(priced.model.name).pricing
    assert pricing == {
        "input_microusd_per_mtok": 120_000_000,
        "cached_input_microusd_per_mtok": 30_000_000,
        "output_microusd_per_mtok": 360_000,
        "request_microusd": 0,
        "page_microusd": 0,
        "batch_basis_points": 5_000,
        "flexible_basis_points": 7_000,
    }
    PriceVersion.objects.update(cached_input_microusd_per_mtok=None)
    assert client.models.retrieve(priced.model.name).pricing["cached_input_microusd_per_mtok"] == 120_000_000
