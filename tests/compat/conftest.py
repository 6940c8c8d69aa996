"""One running portal for all clients. `client` is the official one, unchanged but for base URL and key, without retries."""

from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.started import Portal

CHAT = "cango/demo-chat"  # a real Llama file
MOCK = "engine/mock-chat"  # an engine whose pace a test sets
EMBEDDINGS = "sentence-transformers/all-minilm-l6-v2"


@pytest.fixture(scope="session")
def client(portal: Portal) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{portal.base_url}/v1", api_key=portal.demo["api_key"], max_retries=0) as made:
        yield made


@pytest.fixture(scope="session")
def keys(portal: Portal) -> dict[str, str]:
    """Secrets of keys that are refused something: `broke` has no budget, `narrow` may use vectors alone, `slow` asks once a minute."""
    (demo,) = portal.sql("SELECT id, scopes FROM keys_apikey ORDER BY created_at, id LIMIT 1")
    widen = "UPDATE keys_apikey SET scopes = %s WHERE id = %s"
    wanted: dict[str, dict[str, Any]] = {
        "broke": {"limits": {"total_microusd": 0}},
        "narrow": {"allowed_models": [EMBEDDINGS]},
        "slow": {"requests_per_minute": 1},
    }
    portal.sql(widen, [*demo["scopes"], "manage"], demo["id"])
    try:
        with portal.client() as http:
            made = {
                name: http.post("/api/v1/keys", json={"name": name, "scopes": ["inference"], **limits})
                for name, limits in wanted.items()
            }
    finally:
        portal.sql(widen, demo["scopes"], demo["id"])
    assert {answer.status_code for answer in made.values()} == {201}, [answer.text for answer in made.values()]
    return {name: answer.json()["secret"] for name, answer in made.items()}
