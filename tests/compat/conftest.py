"""One running portal for all clients. `client` is the official one, unchanged but for base URL and key, without retries."""

from collections.abc import Iterator

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
