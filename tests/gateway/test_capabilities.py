"""What the engine behind a model cannot do is refused with the parameter's name, and nothing is written."""

from apps.wire.capabilities import Capability
from tests import make
from tests.gateway.test_refusals import ASK, error, nothing_written, post

__all__ = ["post"]  # a fixture

TOOL = {"type": "function", "function": {"name": "weather"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object"}}}
NEEDS = [
    (Capability.STOP, {"stop": ["a"]}, "stop"),
    (Capability.SEED, {"seed": 0}, "seed"),
    (Capability.PENALTIES, {"presence_penalty": 0.1}, "presence_penalty"),
    (Capability.PENALTIES, {"frequency_penalty": -1}, "frequency_penalty"),
    (Capability.TOOLS, {"tools": [TOOL]}, "tools"),
    (Capability.PARALLEL_TOOL_CALLS, {"tools": [TOOL], "parallel_tool_calls": True}, "parallel_tool_calls"),
    (Capability.JSON_OBJECT, {"response_format": {"type": "json_object"}}, "response_format"),
    (Capability.JSON_SCHEMA, {"response_format": SCHEMA}, "response_format"),
    (Capability.LOGPROBS, {"logprobs": True, "top_logprobs": 2}, "logprobs"),
]
ALL = {term.value for term in Capability}
NEUTRAL = {
    "n": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0.0,
    "stop": [],
    "logprobs": False,
    "response_format": {"type": "text"},
    "seed": None,
}


def test_what_the_engine_cannot_do_is_refused_by_name(shop, post):
    with nothing_written():
        for capability, asked, param in NEEDS:
            shop.model.capabilities = sorted(ALL - {capability.value})
            shop.model.save()
            response = post({"model": shop.model.name, "messages": ASK, **asked})
            assert response.status_code == 400, asked
            found = error(response)
            assert (found["code"], found["param"]) == ("unsupported_parameter", param)


def test_the_number_of_choices_is_the_models(shop, post):
    shop.model.max_choices = 2
    shop.model.save()
    with nothing_written():
        found = error(post({"model": shop.model.name, "messages": ASK, "n": 3}))
        assert (found["code"], found["param"]) == ("invalid_value", "n")
        assert "2 choices" in found["message"]
        found = error(post({"model": shop.model.name, "messages": ASK, "n": 129}))
        assert (found["code"], found["param"]) == ("invalid_value", "n")


def test_what_asks_for_nothing_needs_nothing(client, shop, site):
    shop.model.capabilities, shop.model.max_choices = [], 1
    shop.model.save()
    answer = client.chat.completions.create(model=shop.model.name, messages=ASK, **NEUTRAL)
    assert answer.choices[0].message.content == "Hello world"


def test_embeddings_take_tokens_and_sizes_where_the_model_says_so(shop, post):
    model = make.model(kind="embeddings", dimensions=384, capabilities=[], shorter_dimensions=[128, 256])
    with nothing_written():
        for changes, code, param in (
            ({"input": [1, 2]}, "unsupported_parameter", "input"),
            ({"input": [[1], [2]]}, "unsupported_parameter", "input"),
            ({"dimensions": 200}, "invalid_value", "dimensions"),
        ):
            found = error(post({"model": model.name, "input": "cat", **changes}, path="/v1/embeddings"))
            assert (found["code"], found["param"]) == (code, param)
        assert "128, 256, 384" in found["message"]


def test_models_say_what_they_do_cost_and_where(client, shop):
    node = make.node(site=make.site(code="elk", name="Elk River", region="Minnesota", country="US"))
    make.pool(model=shop.model, node=node, ready=False)
    shop.model.capabilities, shop.model.max_choices = ["tools", "image_input"], 3
    shop.model.save()
    ours = shop.pool.node.site
    (listed,) = client.models.list().data
    assert listed == client.models.retrieve(shop.model.name)
    assert listed.modalities == {"input": ["text", "image"], "output": ["text"]}
    assert listed.capabilities == ["image_input", "tools"]
    assert (listed.context_tokens, listed.max_choices) == (4096, 3)
    assert listed.tiers == [
        {"name": "default", "basis_points": 10_000},
        {"name": "flex", "basis_points": 7000},
        {"name": "batch", "basis_points": 5000},
    ]
    assert listed.sites == [
        {"code": "elk", "name": "Elk River", "region": "Minnesota", "country": "US", "ready": False},
        {"code": ours.code, "name": ours.name, "region": "Georgia", "country": "US", "ready": True},
    ]
