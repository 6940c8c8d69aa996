"""The catalog's page: filters, order, and what a line says; all of it from the address."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from tests import make

pytestmark = pytest.mark.django_db


@pytest.fixture
def shop():
    """Three models: one dear, fast and in Georgia; one cheap, frugal and in Bavaria, which sees and uses tools; one for pages."""
    organization, at = make.organization(owner=make.user()), datetime.now(UTC)
    dear = make.model(kind="chat", name="acme/dear", title="Dear", input=900_000, output=900_000, capabilities=[])
    cheap = make.model(
        kind="chat",
        name="acme/cheap",
        title="Cheap",
        input=10_000,
        output=10_000,
        capabilities=["tools", "image_input"],
    )
    reader = make.model(kind="ocr", name="acme/reader", title="Reader", input=0, output=0, page=1500, capabilities=[])
    georgia = make.node(site=make.site(name="Georgia 1", region="Georgia", country="US"))
    bavaria = make.node(site=make.site(name="Bayern 1", region="Bayern", country="DE"))
    for model, node in ((dear, georgia), (cheap, bavaria), (reader, bavaria)):
        make.pool(model=model, node=node)
    for model, jobs, seconds, wh in ((dear, 1, 1, 0.8), (cheap, 2, 4, 0.2), (reader, 3, 1, 9)):
        for _ in range(jobs):
            make.job(
                organization=organization, model=model, state="succeeded", created_at=at - timedelta(seconds=9), first_token_at=at - timedelta(seconds=seconds),
                finished_at=at, prompt_tokens=500, completion_tokens=500, pages=1 if model is reader else 0, energy_wh=wh, energy_quality="counter",
            )  # fmt: skip


def page(query: str = "", **headers) -> str:
    return Client().get(f"/models/{query}", headers=headers).content.decode()


def listed(query: str = "") -> list[str]:
    return re.findall(r"<code>(acme/\w+)</code>", page(query))


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["acme/reader", "acme/cheap", "acme/dear"]),
        ("?sort=price", ["acme/cheap", "acme/dear", "acme/reader"]),
        ("?sort=speed", ["acme/dear", "acme/cheap", "acme/reader"]),
        ("?sort=energy", ["acme/cheap", "acme/dear", "acme/reader"]),
        ("?sort=none", ["acme/reader", "acme/cheap", "acme/dear"]),
        ("?region=DE%2FBayern", ["acme/reader", "acme/cheap"]),
        ("?region=none", ["acme/reader", "acme/cheap", "acme/dear"]),
        ("?kind=tools", ["acme/cheap"]),
        ("?kind=ocr&region=US%2FGeorgia", []),
    ],
)
def test_the_address_says_which_and_in_which_order(shop, query, names):
    assert listed(query) == names


def test_a_line_says_what_a_model_can_do_and_compares_its_energy(shop):
    html = page()
    assert '<span class="tag">Chat</span> <span class="tag">Tools</span> <span class="tag">Vision</span>' in html
    assert re.findall(r'class="f-accent" x="0" width="([\d.]+)"', html) == ["25.00", "100.00"]  # none for pages
    assert '<option value="DE/Bayern">Bayern, DE</option>' in html
    assert '<option value="price" selected>Lowest price</option>' in page("?sort=price")


def test_the_list_fetches_itself_again_as_it_is(shop):
    asked = page("?sort=price", **{"hx-request": "true"})
    assert asked.lstrip().startswith('<section class="card" id="model-list"')
    assert 'hx-get="/models/?sort=price" hx-trigger="every 30s"' in asked


def test_a_model_can_be_asked_for_where_somebody_answers(shop, settings):
    assert "Ask for a model" not in page()
    settings.OPERATOR_EMAIL = "help@cango.example"
    assert (
        'href="mailto:help@cango.example?subject=A%20model%20we%20would%20use%20at%20Cango%20Portal">Ask for a model</a>'
        in page()
    )
