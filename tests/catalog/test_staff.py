"""Prices and discounts in the admin: plain errors, a reason for everything, and nothing that counted is edited."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.accounts.models import AuditEvent
from apps.catalog.models import Discount, PriceVersion
from tests import make

ADD_PRICE = "admin:catalog_priceversion_add"
ADD_DISCOUNT = "admin:catalog_discount_add"


@pytest.fixture
def operator(db: None) -> Any:
    return make.user(email="operator@example.org", is_staff=True, is_superuser=True)


@pytest.fixture
def staff(operator: Any) -> Client:
    client = Client()
    client.force_login(operator)
    return client


@pytest.fixture
def model(db: None) -> Any:
    return make.model()


@pytest.fixture
def organization(db: None) -> Any:
    return make.organization()


def moment(name: str, minutes: float) -> dict[str, str]:
    at = timezone.now() + timedelta(minutes=minutes)
    return {f"{name}_0": f"{at:%Y-%m-%d}", f"{name}_1": f"{at:%H:%M:%S}"}


def price(model: Any, /, **fields: str) -> dict[str, Any]:
    return {
        "model": model.pk,
        **moment("effective_at", 1),
        "input_usd_per_mtok": "0.5",
        "cached_input_usd_per_mtok": "0.125",
        "output_usd_per_mtok": "2",
        "flexible_percent": "66.67",
        "batch_percent": "50",
        "staff_reason": "Cheaper power",
        **fields,
    }


def discount(organization: Any, /, **fields: Any) -> dict[str, Any]:
    return {
        "organization": organization.pk,
        "model": "",
        "percent_off": "12.5",
        **moment("starts_at", 1),
        "ends_at_0": "",
        "ends_at_1": "",
        "staff_reason": "A year's contract",
        **fields,
    }


def events(action: str) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(action=action))


def test_a_price_with_cached_input_and_tiers(staff, model):
    assert staff.post(reverse(ADD_PRICE), price(model)).status_code == 302
    made = model.prices.first()
    assert made.cached_input_microusd_per_mtok == 125_000
    assert (made.flexible_basis_points, made.batch_basis_points) == (6_667, 5_000)
    page = reverse("admin:catalog_priceversion_change", args=[made.pk])
    html = staff.get(page).content.decode()
    assert "$0.125" in html
    assert "66.67%" in html
    assert staff.post(page, price(model, cached_input_usd_per_mtok="0")).status_code == 403
    made.refresh_from_db()
    assert made.cached_input_microusd_per_mtok == 125_000


@pytest.mark.parametrize(("given", "kept"), [("", None), ("0", 0), ("0.5", 500_000)])
def test_cached_input_left_empty_costs_what_input_costs(staff, model, given, kept):
    assert staff.post(reverse(ADD_PRICE), price(model, cached_input_usd_per_mtok=given)).status_code == 302
    assert model.prices.first().cached_input_microusd_per_mtok == kept


SHARE = "Enter at least 0.01% and at most 100%."


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"cached_input_usd_per_mtok": "0.6"}, "Cached input may not cost more than input."),
        ({"cached_input_usd_per_mtok": "0.1", "input_usd_per_mtok": ""}, "Cached input may not cost more than input."),
        ({"cached_input_usd_per_mtok": "-0.1"}, "greater than or equal to 0"),
        ({"cached_input_usd_per_mtok": "0.0000001"}, "no more than 6 decimal places"),
        ({"flexible_percent": "0"}, SHARE),
        ({"flexible_percent": "100.01"}, SHARE),
        ({"batch_percent": "-5"}, SHARE),
        ({"batch_percent": "33.333"}, "no more than 2 decimal places"),
        ({"batch_percent": ""}, "This field is required."),
        ({"batch_percent": "NaN"}, "Enter a number."),
        ({"staff_reason": ""}, "This field is required."),
    ],
)
def test_a_bad_price_is_named_and_not_added(staff, model, fields, words):
    response = staff.post(reverse(ADD_PRICE), price(model, **fields))
    assert response.status_code == 200
    assert words in response.content.decode()
    assert PriceVersion.objects.count() == 1
    assert events("price_version.added") == []


def test_a_discount_is_given_with_a_reason(staff, operator, model, organization):
    assert staff.post(reverse(ADD_DISCOUNT), discount(organization, model=model.pk)).status_code == 302
    made = Discount.objects.get()
    assert (made.organization, made.model, made.basis_points) == (organization, model, 1_250)
    assert (made.ends_at, made.reason, made.created_by) == (None, "A year's contract", operator)
    (event,) = events("discount.added")
    assert (event.organization, event.reason) == (organization, "A year's contract")
    assert "12.5%" in staff.get(reverse("admin:catalog_discount_changelist")).content.decode()


OFF = "Enter at least 0.01% and at most 99.99%."


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"percent_off": "0"}, OFF),
        ({"percent_off": "100"}, OFF),
        ({"percent_off": "-1"}, OFF),
        ({"percent_off": "1.005"}, "no more than 2 decimal places"),
        ({"percent_off": ""}, "This field is required."),
        ({"organization": ""}, "This field is required."),
        ({"staff_reason": ""}, "This field is required."),
        (moment("starts_at", -60), "A discount begins now or later"),
        (moment("ends_at", -60), "It ends before it begins."),
    ],
)
def test_a_bad_discount_is_named_and_not_given(staff, organization, fields, words):
    response = staff.post(reverse(ADD_DISCOUNT), discount(organization, **fields))
    assert response.status_code == 200
    assert words in response.content.decode()
    assert Discount.objects.count() == 0
    assert events("discount.added") == []


def test_before_it_begins_a_discount_may_be_changed(staff, organization):
    made = make.discount(organization, starts_at=timezone.now() + timedelta(hours=1))
    page = reverse("admin:catalog_discount_change", args=[made.pk])
    assert 'value="10' in staff.get(page).content.decode()
    answer = staff.post(
        page, discount(organization, percent_off="20", staff_reason="As agreed", **moment("ends_at", 9))
    )
    assert answer.status_code == 302
    made.refresh_from_db()
    assert (made.basis_points, made.reason) == (2_000, "As agreed")
    assert made.ends_at is not None
    assert len(events("discount.changed")) == 1


def test_once_begun_only_its_end_may_change(staff, organization):
    made = make.discount(organization)
    page = reverse("admin:catalog_discount_change", args=[made.pk])
    html = staff.get(page).content.decode()
    assert 'name="percent_off"' not in html
    assert "End now" in html
    assert staff.post(page, discount(organization, percent_off="50")).status_code == 403
    made.refresh_from_db()
    assert (made.basis_points, made.ends_at) == (1_000, None)
    end(staff, made)
    ended_at = Discount.objects.get().ends_at
    assert ended_at is not None
    assert ended_at <= timezone.now()
    assert [event.reason for event in events("discount.ended")] == ["Contract over"]
    assert "It has ended already. Nothing was changed." in end(staff, made)
    assert Discount.objects.get().ends_at == ended_at
    assert len(events("discount.ended")) == 1


def test_one_that_has_not_begun_ends_before_it_does(staff, organization):
    made = make.discount(organization, starts_at=timezone.now() + timedelta(days=1))
    end(staff, made)
    made.refresh_from_db()
    assert made.ends_at == made.starts_at


def end(staff: Client, made: Discount) -> str:
    answer = staff.post(
        reverse("admin:catalog_discount_changelist"),
        {"action": "end", "_selected_action": made.pk, "confirm": "1", "reason": "Contract over"},
        follow=True,
    )
    return answer.content.decode()


def test_capabilities_are_ticked_and_an_image_needs_its_bound(staff: Client, model: Any) -> None:
    url = reverse("admin:catalog_model_change", args=[model.pk])
    page = staff.get(url).content.decode()
    assert "tools: Calls functions" in page
    form = {
        "title": "Seer",
        "description": "It sees.",
        "engine_name": "seer",
        "context_tokens": 4096,
        "max_output_tokens": 1024,
        "max_pages": 0,
        "dimensions": 0,
        "shorter_dimensions": "",
        "capabilities": ["tools", "image_input"],
        "max_choices": 2,
        "image_tokens": 0,
        "vocabulary_tokens": 0,
        "max_queue_seconds": 20,
        "listed": "on",
        "staff_reason": "Tried with the engine",
        "prices-TOTAL_FORMS": "0",
        "prices-INITIAL_FORMS": "0",
    }
    assert "Give the most tokens of an image" in staff.post(url, form).content.decode()
    assert staff.post(url, {**form, "image_tokens": 1500}).status_code == 302
    model.refresh_from_db()
    assert (model.capabilities, model.image_tokens, model.max_choices) == (["tools", "image_input"], 1500, 2)
    assert "Select a valid choice" in staff.post(url, {**form, "capabilities": ["magic"]}).content.decode()
