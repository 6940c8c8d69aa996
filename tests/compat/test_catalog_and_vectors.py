"""Models and embeddings with the official client for Python."""

import base64
import math
import struct

import pytest

from tests.compat.conftest import CHAT, EMBEDDINGS


def test_models_are_listed_and_found(client):
    names = [model.id for model in client.models.list()]
    assert {CHAT, EMBEDDINGS} <= set(names)
    found = client.models.retrieve(CHAT)
    assert (found.id, found.object, found.owned_by) == (CHAT, "model", "cango")
    assert found.created > 1_700_000_000
    assert found.model_extra["pricing"]["output_microusd_per_mtok"] > 0


@pytest.mark.parametrize("given", ["one text", ["one", "two", "three"]])
def test_vectors_of_texts(client, given):
    answer = client.embeddings.create(model=EMBEDDINGS, input=given)
    assert [item.index for item in answer.data] == list(range(len(answer.data)))
    assert all(len(item.embedding) == 384 for item in answer.data)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 0


def test_floats_and_base64_are_the_same_vector(client):
    whole = client.embeddings.create(model=EMBEDDINGS, input="the same", encoding_format="float").data[0].embedding
    packed = client.embeddings.create(model=EMBEDDINGS, input="the same", encoding_format="base64").data[0].embedding
    unpacked = struct.unpack(f"<{len(whole)}f", base64.b64decode(packed)) if isinstance(packed, str) else packed
    assert all(math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-5) for a, b in zip(whole, unpacked, strict=True))
