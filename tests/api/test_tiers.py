"""Tiers and cached tokens of /api/v1/jobs."""

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile

from apps.jobs.models import Job
from apps.runner.protocol import Usage
from tests import make
from tests.api.test_management import CHAT, error, post, written
from tests.dispatch import site


def test_a_flexible_job_of_each_kind(shop, picture):
    standard = post(shop.client, CHAT).json()
    flexible = post(shop.client, {**CHAT, "tier": "flexible"}).json()
    assert (standard["tier"], flexible["tier"]) == ("standard", "flexible")
    assert flexible["hold_microusd"] < standard["hold_microusd"]
    vectors = post(shop.client, {"model": "acme/vectors", "input": {"input": "cat"}, "tier": "flexible"})
    assert vectors.json()["tier"] == "flexible"
    upload = SimpleUploadedFile("a.png", picture, "image/png")
    read = shop.client.post("/api/v1/jobs", {"model": "acme/ocr", "file": upload, "tier": "flexible"})
    assert (read.status_code, read.json()["tier"], read.json()["hold_microusd"]) == (202, "flexible", 700)
    assert post(shop.client, {**CHAT, "tier": "standard"}).json()["tier"] == "standard"
    assert post(shop.client, {**CHAT, "tier": None}).json()["tier"] == "standard"


def test_the_request_may_say_it_in_openais_word(shop):
    flex = {**CHAT, "input": {**CHAT["input"], "service_tier": "flex"}}
    assert post(shop.client, flex).json()["tier"] == "flexible"
    assert post(shop.client, {**flex, "tier": "flexible"}).json()["tier"] == "flexible"
    auto = {**CHAT, "input": {**CHAT["input"], "service_tier": "auto"}, "tier": "flexible"}
    assert post(shop.client, auto).json()["tier"] == "flexible"
    assert [job.content.request.get("service_tier") for job in Job.objects.all()] == [None] * 3


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"tier": "batch"}, "invalid_value", "tier"),
        ({"tier": "flex"}, "invalid_value", "tier"),
        ({"tier": ""}, "invalid_value", "tier"),
        ({"tier": 1}, "invalid_type", "tier"),
        ({"tier": ["flexible"]}, "invalid_type", "tier"),
        ({"service_tier": "flex"}, "unknown_parameter", "service_tier"),
        ({"input": {**CHAT["input"], "service_tier": "scale"}}, "invalid_value", "service_tier"),
        ({"input": {**CHAT["input"], "service_tier": "flex"}, "tier": "standard"}, "invalid_value", "tier"),
        ({"input": {**CHAT["input"], "service_tier": "default"}, "tier": "flexible"}, "invalid_value", "tier"),
    ],
)
def test_a_wrong_tier_is_named_and_leaves_nothing(shop, settings, fields, code, param):
    before = written(settings)
    assert error(post(shop.client, {**CHAT, **fields})) == (code, param)
    assert written(settings) == before


def test_a_wrong_tier_of_a_form_keeps_no_file(shop, settings, picture):
    before = written(settings)
    upload = SimpleUploadedFile("a.png", picture, "image/png")
    response = shop.client.post("/api/v1/jobs", {"model": "acme/ocr", "file": upload, "tier": "batch"})
    assert error(response) == ("invalid_value", "tier")
    assert written(settings) == before


def test_a_job_shows_its_terms_and_its_cached_tokens(shop):
    make.discount(shop.organization, off=1_000)
    make.pool(model=shop.chat)
    body = post(shop.client, {**CHAT, "tier": "flexible"}).json()
    site.deliver(
        site.report(Job.objects.get(), usage=Usage(prompt_tokens=1_000, cached_prompt_tokens=400, completion_tokens=5))
    )
    body = shop.client.get(f"/api/v1/jobs/{body['id']}").json()
    assert (body["tier"], body["discount_basis_points"]) == ("flexible", 1_000)
    assert body["usage"] == {
        "prompt_tokens": 1_000,
        "cached_prompt_tokens": 400,
        "completion_tokens": 5,
        "total_tokens": 1_005,
        "pages": 0,
        "total_pages": 0,
    }
    (found,) = shop.client.get("/api/v1/jobs").json()["data"]
    assert found["tier"] == "flexible"


def test_the_models_show_every_price(shop):
    pricing = {model["id"]: model["pricing"] for model in shop.client.get("/api/v1/models").json()["data"]}
    assert pricing["acme/chat"] == {
        "input_microusd_per_mtok": 120_000,
        "cached_input_microusd_per_mtok": 120_000,
        "output_microusd_per_mtok": 360_000,
        "request_microusd": 0,
        "page_microusd": 0,
        "batch_basis_points": 5_000,
        "flexible_basis_points": 7_000,
    }
