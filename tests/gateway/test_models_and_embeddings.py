import base64
import math
import struct
from types import SimpleNamespace

import openai
import pytest

from apps.ledger.models import Hold
from tests import make
from tests.gateway.portal import Attempt, ScriptedSite


def vector(*values: float) -> str:
    return base64.b64encode(struct.pack(f"<{len(values)}f", *values)).decode()


@pytest.fixture
def embed(shop):
    model = make.model(kind="embeddings", name="sentence-transformers/mini", output=0, dimensions=3, context_tokens=512)
    with ScriptedSite(make.pool(model=model).code) as site:

        def script(attempt: Attempt) -> None:
            attempt.claim()
            count = len(attempt.order.body["input"]) if isinstance(attempt.order.body["input"], list) else 1
            attempt.usage = attempt.usage.model_copy(update={"prompt_tokens": 4 * count})
            data = [{"index": n, "embedding": vector(n, 0.5, 0.25)} for n in reversed(range(count))]
            attempt.finish(result={"data": data})

        site.script = script
        yield SimpleNamespace(model=model, site=site)


@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/{name}"])
def test_head_is_get_without_the_body(http, shop, path):
    path, headers = path.format(name=shop.model.name), {"authorization": f"Bearer {shop.secret}"}
    got, headed = http.get(path, headers=headers), http.head(path, headers=headers)
    assert (got.status_code, headed.status_code, headed.content) == (200, 200, b"")
    assert headed.headers["content-length"] == str(len(got.content))
    assert headed.headers["content-type"] == got.headers["content-type"]


def test_models_are_listed(client, shop):
    make.model(name="hidden/one", listed=False)
    (model,) = client.models.list().data
    assert (model.id, model.object, model.owned_by) == (shop.model.name, "model", "acme")
    assert model.created == int(shop.model.created_at.timestamp())
    assert model.kind == "chat"
    assert model.pricing["input_microusd_per_mtok"] == 120_000


def test_one_model_by_its_name_with_a_slash(client, shop):
    assert client.models.retrieve(shop.model.name).id == shop.model.name
    for name in ("acme/none", "none", "a/b/c", "%00", "é"):
        with pytest.raises(openai.NotFoundError) as refused:
            client.models.retrieve(name)
        assert (refused.value.code, refused.value.param) == ("model_not_found", "model")


def test_embeddings_as_the_client_asks_for_them(client, embed):
    answer = client.embeddings.create(model=embed.model.name, input=["cat", "feline"])  # the client asks for base64
    assert [item.index for item in answer.data] == [0, 1]
    assert answer.data[1].embedding == [1.0, 0.5, 0.25]
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (8, 8)
    assert answer.usage.cost_microusd == math.ceil(8 * 0.12)
    assert answer.site
    assert embed.site.orders[0].body == {"input": ["cat", "feline"]}
    assert not Hold.objects.filter(state="open").exists()


@pytest.mark.parametrize("given", ["cat", [1, 2, 3], [[1, 2], [3]]])
def test_inputs_may_be_text_or_tokens_and_answers_floats(client, embed, given):
    answer = client.embeddings.create(model=embed.model.name, input=given, encoding_format="float")
    assert answer.data[0].embedding == [0.0, 0.5, 0.25]


def test_a_shorter_vector_is_asked_of_the_site(client, embed):
    embed.model.shorter_dimensions = [2]
    embed.model.save()
    for dimensions in (2, 3):
        client.embeddings.create(model=embed.model.name, input="cat", dimensions=dimensions)
    assert [order.body for order in embed.site.orders] == [{"input": "cat", "dimensions": 2}, {"input": "cat"}]


def test_each_kind_has_its_own_door(client, shop, embed):
    with pytest.raises(openai.BadRequestError) as refused:
        client.embeddings.create(model=shop.model.name, input="cat")
    assert (refused.value.code, refused.value.param) == ("wrong_model_kind", "model")
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(model=embed.model.name, messages=[{"role": "user", "content": "hi"}])
    assert "/v1/embeddings" in refused.value.message
