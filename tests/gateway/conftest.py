from collections.abc import Iterator
from types import SimpleNamespace

import httpx
import openai
import pytest

from tests import make
from tests.gateway.portal import Portal, ScriptedSite, serving


@pytest.fixture(scope="session")
def portal(django_db_setup) -> Iterator[Portal]:
    """The portal's own ASGI application behind uvicorn, on a free port of the loopback."""
    with serving() as portal:
        yield portal


@pytest.fixture
def shop(transactional_db, portal):
    """An organization with $1 and a key; a chat model with one pool of two slots."""
    organization = make.organization(credit_microusd=1_000_000)
    key, secret = make.api_key(organization)
    model = make.model(max_queue_seconds=1)
    pool = make.pool(model=model, slots=2)
    return SimpleNamespace(organization=organization, key=key, secret=secret, model=model, pool=pool, url=portal.url)


@pytest.fixture(scope="session")
def openai_client(portal) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{portal.url}/v1", api_key="none", timeout=20) as client:
        yield client


@pytest.fixture
def client(openai_client, shop) -> openai.OpenAI:
    """The official client, with the shop's key and without its retries."""
    return openai_client.with_options(api_key=shop.secret, max_retries=0)


@pytest.fixture(scope="session")
def http(portal) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=portal.url, timeout=20, verify=False) as client:
        yield client


@pytest.fixture
def site(shop) -> Iterator[ScriptedSite]:
    with ScriptedSite(shop.pool.code) as site:
        yield site
