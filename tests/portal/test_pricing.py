"""The page that says what work costs, as a browser without script gets it."""

import html
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from tests import make


@pytest.fixture
def shop(db):
    owner = make.user()
    organization = make.organization(owner=owner)
    client = Client()
    client.force_login(owner)
    return {
        "organization": organization,
        "client": client,
        "chat": make.model(name="acme/chat", title="Acme chat", cached=30_000, request=10),
        "vectors": make.model(kind="embeddings", name="acme/vectors", title="Acme vectors", output=0),
        "ocr": make.model(kind="ocr", name="acme/reader", title="Acme reader", input=0, output=0, page=1_500),
    }


def text(client: Client, query: str = "", status: int = 200) -> str:
    """What is read, spaces as one; values of inputs are not."""
    response = client.get(f"/pricing/{query}")
    assert response.status_code == status, response.content
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", response.content.decode())).split())


def test_every_price_of_every_tier_is_shown(shop):
    page = text(Client())
    assert "Acme chat Standard $0.12 $0.03 $0.36 $0.00001 –" in page
    assert "Acme chat Flexible 70% $0.084 $0.021 $0.252 $0.000007 –" in page
    assert "Acme chat Batch 50% $0.06 $0.015 $0.18 $0.000005 –" in page
    assert "Acme vectors Standard $0.12 $0.12 – – –" in page
    assert "Acme reader Flexible 70% – – – – $0.00105" in page
    assert "Your discount" not in page


def test_the_example_is_what_would_be_charged(shop):
    page = text(Client())
    # 70% of: the request; 1,034 × 0.12; 200 × 0.03; 89 × 0.36
    assert "Request 1 $0.00001 each $0.000007 $0.000007" in page
    assert "Input 1,034 $0.12 for 1M $0.000086856 $0.000087" in page
    assert "Cached input 200 $0.03 for 1M $0.0000042 $0.000005" in page
    assert "Output 89 $0.36 for 1M $0.000022428 $0.000023" in page
    assert "Charge – – – $0.000122" in page


def test_top_up_refunds_and_the_longest_wait_are_the_settings(shop, settings):
    settings.TOP_UP_MIN_CENTS, settings.REFUND_DAYS, settings.FLEXIBLE_QUEUE_SECONDS = 1_250, 30, 480
    page = text(Client())
    assert "Smallest top-up $12.50" in page
    assert "within 30 days of paying" in page
    assert "up to 8 min" in page


def test_an_organization_sees_its_own_discount(shop):
    make.discount(shop["organization"], model=shop["chat"], off=1_250)
    make.discount(shop["organization"], off=500)
    make.discount(shop["organization"], off=9_000, starts_at=datetime.now(UTC) + timedelta(days=1))
    page = text(shop["client"])
    assert "Acme chat Standard $0.12 $0.03 $0.36 $0.00001 – 12.5%" in page
    assert "Acme reader Batch 50% – – – – $0.00075 5%" in page
    assert "less your 12.5%" in page
    assert "Input 1,034 $0.12 for 1M $0.000075999 $0.000076" in page
    assert "Your discount" not in text(Client())
    model = shop["client"].get("/models/acme/chat/").content.decode()
    assert "Your discount" in model
    assert "12.5%" in model
    assert "Your discount" not in Client().get("/models/acme/chat/").content.decode()


@pytest.mark.parametrize(
    ("query", "total", "each"),
    [
        # at least 10 + 50 × 0.12 + 50 × 0.03 + 100 × 0.36, at most 10 + 100 × 0.12 + 500 × 0.36
        (
            "?model=acme/chat&tier=standard&requests=1000000&input=100&cached=50&least=100&most=500",
            "1,000,000 standard requests of Acme chat $54.00 to $202.00",
            "Each $0.000054 to $0.000202",
        ),
        ("?model=acme/chat&tier=batch&requests=2&input=100&least=7&most=7", "$0.000026", "Each $0.000013"),
        ("?model=acme/vectors&requests=1&input=1000000", "1 standard request of Acme vectors $0.12", "Each $0.12"),
        ("?model=acme/reader&requests=1000&pages=3", "1,000 standard requests of Acme reader $4.50", "Each $0.0045"),
    ],
)
def test_the_calculator_gives_a_range_by_the_real_prices(shop, query, total, each):
    page = text(Client(), query)
    assert total in page
    assert each in page


def test_the_calculator_takes_the_discount_off(shop):
    make.discount(shop["organization"], off=5_000)
    page = text(shop["client"], "?model=acme/reader&requests=1000&pages=3")
    assert "$2.25" in page
    assert "Discount already taken off 50%" in page


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("?model=acme/none", "Choose one of the models on offer."),
        ("?tier=priority", "Choose standard, flexible or batch."),
        ("?requests=0", "Enter a whole number from 1 to 1,000,000,000."),
        ("?requests=1.5", "Enter a whole number from 1 to 1,000,000,000."),
        ("?requests=", "Enter a whole number from 1 to 1,000,000,000."),
        ("?input=-1", "Enter a whole number from 0 to 10,000,000."),
        ("?input=99999999999999999999", "Enter a whole number from 0 to 10,000,000."),
        ("?cached=101", "Enter a whole number from 0 to 100."),
        ("?least=501&most=500", "This is less than the least. Enter that or more."),
        ("?pages=x", "Enter a whole number from 0 to 100,000."),
        ("?model=%00", "Choose one of the models on offer."),
    ],
)
def test_a_wrong_figure_is_named_and_nothing_is_calculated(shop, query, words):
    page = text(Client(), query, status=422)
    assert "No cost was calculated." in page
    assert words in page
    assert "Each $" not in page
    assert "<title>Error: Pricing" in Client().get(f"/pricing/{query}").content.decode()


def test_an_address_of_something_else_is_an_empty_form(shop):
    assert "No cost was calculated." not in text(Client(), "?utm_source=x")


def test_without_models_the_page_still_explains(db):
    page = text(Client())
    assert "No models on offer yet" in page
    assert "Charge – – – $0.000115" in page
    assert "There is nothing to calculate until a model is on offer." in page
    assert "No models on offer yet" in text(Client(), "?requests=5", status=422)


def test_it_is_linked_and_asks_the_database_little(shop, django_assert_max_num_queries):
    for url in ("/", "/models/", "/models/acme/chat/"):
        assert 'href="/pricing/"' in Client().get(url).content.decode()
    assert 'href="/pricing/"' in shop["client"].get("/models/").content.decode()
    with django_assert_max_num_queries(4):
        Client().get("/pricing/")
    assert Client().post("/pricing/").status_code == 405
