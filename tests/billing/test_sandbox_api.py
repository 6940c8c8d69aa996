"""The double through the real library, over real HTTP: what Stripe refuses is refused, as the library's own errors."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import stripe as library
import time_machine

from apps.billing.client import client
from apps.billing.models import SandboxObject
from apps.billing.sandbox import wire
from tests.billing import till
from tests.stripe import Double
from tests.threads import run_in_threads


def other(key: str = "sk_sandbox_portal", version: str = "2026-10-28.endive", *, stripe: Double) -> Any:
    base = client()._requestor.base_addresses["api"]
    return library.StripeClient(key, stripe_version=version, base_addresses={"api": base}, max_network_retries=0).v1


def nothing_written() -> bool:
    return not SandboxObject.objects.exclude(kind="_idempotency").exists()


# Who calls ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["sk_test_somebody", "sk_sandbox_porta"])
def test_a_wrong_key_is_refused(stripe: Double, key: str) -> None:
    with pytest.raises(library.AuthenticationError) as refusal:
        other(key, stripe=stripe).customers.create({"name": "A"})
    assert refusal.value.http_status == 401
    assert key not in str(refusal.value)
    assert nothing_written()


def test_another_version_is_refused(stripe: Double) -> None:
    with pytest.raises(library.InvalidRequestError) as refusal:
        other(version="2024-06-20", stripe=stripe).customers.create({"name": "A"})
    assert refusal.value.param == "Stripe-Version"
    assert nothing_written()


def test_with_real_money_there_is_no_double(stripe: Double, settings: Any, client: Any) -> None:
    settings.SANDBOX_MONEY = False
    for path in ("stripe/v1/customers", "checkout/cs_test_1/", "invoices/in_1/", "receipts/ch_1/", "portal/bps_1/"):
        assert client.get(f"/sandbox/{path}").status_code == 404


# What is asked ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "param", "code"),
    [
        ({"colour": "red"}, "colour", "parameter_unknown"),
        ({"api_key": "sk_1"}, "api_key", "parameter_unknown"),
        ({"mode": "gift"}, "mode", None),
        ({"success_url": None}, "success_url", "parameter_missing"),
        ({"success_url": "javascript:alert(1)"}, "success_url", "url_invalid"),
        ({"customer_update": {"name": "auto", "phone": "auto"}}, "customer_update[phone]", "parameter_unknown"),
        ({"customer_update": {"address": "auto"}}, "tax_id_collection", None),
        ({"expires_at": 1_000_000_000}, "expires_at", None),
        ({"expires_at": "soon"}, "expires_at", "parameter_invalid_integer"),
        ({"automatic_tax": {"liability": {"type": "self"}}}, "automatic_tax[enabled]", "parameter_missing"),
        ({"automatic_tax": {"enabled": "perhaps"}}, "automatic_tax[enabled]", None),
        ({"line_items": []}, "line_items", "parameter_missing"),
        ({"subscription_data": {"description": "x"}}, "subscription_data", None),
    ],
)
def test_wrong_parameters_are_refused_by_name(
    stripe: Double, change: dict[str, Any], param: str, code: str | None
) -> None:
    buyer = till.customer()
    before = SandboxObject.objects.count()
    with pytest.raises(library.InvalidRequestError) as refusal:
        till.session(buyer, **change)
    assert (refusal.value.http_status, refusal.value.param, refusal.value.code) == (400, param, code)
    assert SandboxObject.objects.count() == before


@pytest.mark.parametrize(
    ("line", "param"),
    [
        ({"quantity": 0}, "line_items[0][quantity]"),
        ({"price": "price_1"}, "line_items[0][price]"),
        (
            {"price_data": {"currency": "eur", "unit_amount": 1, "product_data": {"name": "x"}}},
            "line_items[0][price_data][currency]",
        ),
        (
            {"price_data": {"currency": "usd", "unit_amount": 10.5, "product_data": {"name": "x"}}},
            "line_items[0][price_data][unit_amount]",
        ),
        (
            {"price_data": {"currency": "usd", "unit_amount": -500, "product_data": {"name": "x"}}},
            "line_items[0][price_data][unit_amount]",
        ),
        ({"price_data": {"unit_amount": 500, "product_data": {"name": "x"}}}, "line_items[0][price_data][currency]"),
        (
            {"price_data": {"currency": "usd", "unit_amount": 500, "product_data": {"description": "x"}}},
            "line_items[0][price_data][product_data][name]",
        ),
        ({"price_data": {"currency": "usd", "unit_amount": 49, "product_data": {"name": "x"}}}, "line_items"),
    ],
)
def test_wrong_lines_are_refused_by_their_place(stripe: Double, line: dict[str, Any], param: str) -> None:
    params = till.session_params(till.customer())
    params["line_items"][0] |= line
    with pytest.raises(library.InvalidRequestError) as refusal:
        client().v1.checkout.sessions.create(params)
    assert refusal.value.param == param
    assert stripe.every("checkout.session") == []


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"amount": 0, "currency": "usd"}, "amount"),
        ({"amount": -1, "currency": "usd"}, "amount"),
        ({"amount": 100_000_000, "currency": "usd"}, "amount"),
        ({"amount": 500, "currency": "eur"}, "currency"),
        ({"amount": 500}, "currency"),
        ({"amount": 500, "currency": "usd", "off_session": True}, "off_session"),
        ({"amount": 500, "currency": "usd", "capture_method": "sometimes"}, "capture_method"),
        ({"amount": 500, "currency": "usd", "payment_method": "pm_1"}, "payment_method"),
    ],
)
def test_wrong_payments_are_refused(stripe: Double, params: Any, param: str) -> None:
    with pytest.raises(library.InvalidRequestError) as refusal:
        client().v1.payment_intents.create(params)
    assert refusal.value.param == param
    assert nothing_written()


def test_what_a_parameter_names_is_there(stripe: Double) -> None:
    with pytest.raises(library.InvalidRequestError) as refusal:
        till.session("cus_nobody")
    assert (refusal.value.http_status, refusal.value.param, refusal.value.code) == (400, "customer", "resource_missing")
    assert nothing_written()


def test_unknown_objects_and_urls_are_404(stripe: Double) -> None:
    with pytest.raises(library.InvalidRequestError) as refusal:
        client().v1.customers.retrieve("cus_nobody")
    assert (refusal.value.http_status, refusal.value.code) == (404, "resource_missing")
    with pytest.raises(library.InvalidRequestError) as refusal:
        client().v1.coupons.list()
    assert refusal.value.http_status == 404
    assert "Unrecognized request URL" in str(refusal.value)


def test_forms_that_cannot_be_read_are_refused(stripe: Double, client: Any) -> None:
    headers = {"authorization": "Bearer sk_sandbox_portal", "stripe-version": "2026-10-28.endive"}

    def post(body: bytes, kind: str = "application/x-www-form-urlencoded") -> int:
        return int(client.post("/sandbox/stripe/v1/customers", body, content_type=kind, headers=headers).status_code)

    assert post(b"name=A") == 200
    wrong = [b"name[=A", b"name=%00", b"a=1&a[b]=2", b"name=\xff", b"x" * 300_000, b"a" + b"[b]" * 20 + b"=1"]
    assert [post(body) for body in wrong] == [400] * len(wrong)
    assert post(b'{"name": "A"}', "application/json") == 400
    assert len(stripe.every("customer")) == 1


def test_the_form_is_decoded() -> None:
    text = "a[0][b]=1&a[1][b]=2&c[d][e]=x&expand[]=one&expand[]=two&empty="
    assert wire.decode(text) == {
        "a": [{"b": "1"}, {"b": "2"}],
        "c": {"d": {"e": "x"}},
        "expand": ["one", "two"],
        "empty": "",
    }


# Idempotency --------------------------------------------------------------------------------------------------------------------


def test_a_key_replays_its_answer(stripe: Double) -> None:
    options: Any = {"idempotency_key": "once"}
    first = client().v1.customers.create({"name": "A"}, options)
    second = client().v1.customers.create({"name": "A"}, options)
    assert first.id == second.id
    assert second.last_response.headers["Idempotent-Replayed"] == "true"
    assert len(stripe.every("customer")) == 1


def test_a_key_with_other_parameters_is_refused(stripe: Double) -> None:
    client().v1.customers.create({"name": "A"}, {"idempotency_key": "once"})
    with pytest.raises(library.IdempotencyError):
        client().v1.customers.create({"name": "B"}, {"idempotency_key": "once"})
    assert len(stripe.every("customer")) == 1


def test_a_key_is_kept_for_a_day(stripe: Double) -> None:
    with time_machine.travel(datetime.now(UTC) - timedelta(hours=25)):
        client().v1.customers.create({"name": "A"}, {"idempotency_key": "once"})
    client().v1.customers.create({"name": "B"}, {"idempotency_key": "once"})
    assert len(stripe.every("customer")) == 2


def test_a_refused_card_is_replayed_but_a_wrong_request_is_not(stripe: Double) -> None:
    buyer = till.customer()
    method = stripe.save_card(buyer, "pays_once")
    for _ in range(2):
        with pytest.raises(library.CardError):
            till.off_session(buyer, method, key="automatic-1")
    assert len(stripe.every("charge")) == 1
    with pytest.raises(library.InvalidRequestError):
        till.off_session(buyer, method, cents=0, key="automatic-2")
    with pytest.raises(library.CardError):
        till.off_session(buyer, method, key="automatic-2")
    assert len(stripe.every("charge")) == 2


def test_one_key_in_many_threads_acts_once(stripe: Double) -> None:
    found = run_in_threads(8, lambda n: client().v1.customers.create({"name": "A"}, {"idempotency_key": "once"}).id)
    assert len(set(found)) == 1
    assert len(stripe.every("customer")) == 1


def test_refunds_in_many_threads_never_exceed_the_charge(stripe: Double) -> None:
    bought = till.session()
    stripe.pay(bought.id)
    intent = stripe.every("payment_intent")[0]["id"]
    outcomes = run_in_threads(8, lambda n: client().v1.refunds.create({"payment_intent": intent, "amount": 1000}).id)
    refused = [outcome for outcome in outcomes if isinstance(outcome, library.InvalidRequestError)]
    assert len(refused) == 6
    assert sum(refund["amount"] for refund in stripe.every("refund")) == 2000


# Lists and expansion -----------------------------------------------------------------------------------------------------------


def test_lists_page_by_cursor_newest_first(stripe: Double) -> None:
    made = [till.customer() for _ in range(5)]
    api = client().v1.customers
    first = api.list({"limit": 2})
    assert ([each.id for each in first.data], first.has_more) == (made[:2:-1], True)
    rest = api.list({"limit": 10, "starting_after": made[3]})
    assert ([each.id for each in rest.data], rest.has_more) == (made[2::-1], False)
    newer = api.list({"limit": 2, "ending_before": made[1]})
    assert ([each.id for each in newer.data], newer.has_more) == ([made[3], made[2]], True)
    assert [each.id for each in api.list({"limit": 2}).auto_paging_iter()] == made[::-1]
    for wrong in ({"limit": 0}, {"limit": 101}, {"starting_after": "cus_nobody"}):
        with pytest.raises(library.InvalidRequestError) as refusal:
            api.list(wrong)  # type: ignore[arg-type]
        assert refusal.value.param == next(iter(wrong))


def test_lists_are_cut_by_time(stripe: Double) -> None:
    with time_machine.travel(datetime(2026, 11, 1, 12, tzinfo=UTC), tick=False):
        old = till.customer()
    with time_machine.travel(datetime(2026, 11, 2, 12, tzinfo=UTC), tick=False):
        new = till.customer()
    second = int(datetime(2026, 11, 2, 12, tzinfo=UTC).timestamp())

    def found(**created: int) -> list[str]:
        return [each.id for each in client().v1.customers.list({"created": created}).data]  # type: ignore[typeddict-item]

    assert found(gte=second) == [new]
    assert found(gt=second) == []
    assert found(lt=second) == [old]
    assert found(lte=second) == [new, old]
    assert [each.id for each in client().v1.customers.list({"created": second}).data] == [new]


def test_expansion(stripe: Double) -> None:
    bought = till.session()
    stripe.pay(bought.id, tax_id="DE123456789", country="DE")
    path = "payment_intent.latest_charge.balance_transaction"
    read = client().v1.checkout.sessions.retrieve(bought.id, {"expand": [path, "customer.tax_ids", "line_items"]})
    assert read.payment_intent.latest_charge.balance_transaction.fee == 103  # type: ignore[union-attr]
    assert read.customer.tax_ids.data[0].value == "DE123456789"  # type: ignore[union-attr]
    assert read.line_items.data[0].amount_total == 2500  # type: ignore[union-attr]
    plain = client().v1.checkout.sessions.retrieve(bought.id)
    assert isinstance(plain.payment_intent, str)
    assert not any(name.startswith("_") for name in plain.to_dict())
    assert "line_items" not in plain.to_dict()
    listed = client().v1.payment_intents.list({"expand": ["data.latest_charge"]})
    assert listed.data[0].latest_charge.paid is True  # type: ignore[union-attr]
    for path in ("nothing", "metadata.top_up", "a.b.c.d.e"):
        with pytest.raises(library.InvalidRequestError) as refusal:
            client().v1.checkout.sessions.retrieve(bought.id, {"expand": [path]})
        assert refusal.value.param == "expand"


def test_metadata_is_merged_and_taken_away(stripe: Double) -> None:
    buyer = till.customer(metadata={"a": "1", "b": "2"})
    api = client().v1.customers
    assert api.update(buyer, {"metadata": {"a": "", "c": "3"}}).to_dict()["metadata"] == {"b": "2", "c": "3"}
    assert api.update(buyer, {"metadata": ""}).to_dict()["metadata"] == {}


# Outages, as the fixture plays them -----------------------------------------------------------------------------------------------


def test_an_outage_before_and_after_the_act(stripe: Double, settings: Any) -> None:
    stripe.fail_next("POST", "/v1/customers", 503)
    with pytest.raises(library.APIError):
        till.customer()
    assert nothing_written()
    stripe.fail_next("POST", "/v1/customers", 0, after=True)
    with pytest.raises(library.APIConnectionError):
        client().v1.customers.create({"name": "A"}, {"idempotency_key": "once"})
    again = client().v1.customers.create({"name": "A"}, {"idempotency_key": "once"})
    assert [each["id"] for each in stripe.every("customer")] == [again.id]
    asked = stripe.asked("POST", "/v1/customers")
    assert [each.params for each in asked] == [{"name": "Meridian Foods"}, {"name": "A"}, {"name": "A"}]
    assert asked[-1].headers["Idempotency-Key"] == "once"
