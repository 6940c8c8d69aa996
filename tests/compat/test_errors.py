"""What the official client for Python raises, by status, with the code and the parameter it names."""

import openai
import pytest

from tests.compat.conftest import CHAT, EMBEDDINGS

ASK = [{"role": "user", "content": "x"}]


@pytest.mark.parametrize(
    ("asked", "param", "code"),
    [
        ({"messages": []}, "messages", None),
        ({"max_tokens": -1}, "max_tokens", "invalid_value"),
        ({"temperature": 3}, "temperature", "invalid_value"),
        ({"extra_body": {"nonsense": 1}}, "nonsense", "unknown_parameter"),
        ({"model": EMBEDDINGS}, "model", "wrong_model_kind"),
        ({"stream_options": {"include_usage": True}}, "stream_options", "invalid_value"),
    ],
)
def test_a_wrong_request_names_its_parameter(client, asked, param, code):
    with pytest.raises(openai.BadRequestError) as refused:
        client.chat.completions.create(**{"model": CHAT, "messages": ASK, **asked})
    assert refused.value.param == param
    assert code is None or refused.value.code == code
    assert refused.value.type == "invalid_request_error"
    assert refused.value.request_id.startswith("req_")


def test_an_unknown_model_and_a_wrong_key(client):
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="nobody/nothing", messages=ASK)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.AuthenticationError) as stranger:
        client.with_options(api_key="cango_wrong").models.list()
    assert stranger.value.code == "invalid_api_key"
