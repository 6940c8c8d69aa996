"""What the lean door asks of a key before it looks at the request."""

import threading
import time

import httpx
import openai
import pytest

from apps.files.models import File
from apps.jobs.models import Job, Refusal
from apps.keys import services as keys
from apps.ledger.models import Hold
from tests import make
from tests.gateway.portal import serving

ASK = [{"role": "user", "content": "Say hello"}]


def test_a_key_without_the_scope_is_refused_once_and_leaves_nothing(openai_client, shop):
    _, secret = make.api_key(shop.organization, scopes=["usage"])
    client = openai_client.with_options(api_key=secret, max_retries=2)
    with pytest.raises(openai.PermissionDeniedError) as refused:
        client.chat.completions.create(model=shop.model.name, messages=[{"role": "user", "content": "Hi"}])
    assert refused.value.code == "insufficient_scope"
    assert "scope inference" in refused.value.message
    assert [model.objects.count() for model in (Job, Hold, Refusal)] == [0, 0, 0]
    assert [model.id for model in client.models.list()] == [shop.model.name]


def test_files_ask_for_their_own_scope(openai_client, shop):
    _, secret = make.api_key(shop.organization, scopes=["inference"])
    client = openai_client.with_options(api_key=secret, max_retries=0)
    for asking in (
        lambda: client.files.create(file=("a", b"x"), purpose="batch"),
        client.files.list,
        lambda: client.files.content("file_0"),
        lambda: client.files.delete("file_0"),
    ):
        with pytest.raises(openai.PermissionDeniedError) as refused:
            asking()
        assert "scope batches" in refused.value.message
    assert not File.objects.exists()


def test_a_key_for_some_models_sees_and_uses_those(openai_client, shop, site):
    other = make.model(name="acme/other")
    make.pool(model=other)
    key, secret = make.api_key(shop.organization, allowed_models=(shop.model.name,))
    client = openai_client.with_options(api_key=secret, max_retries=2)
    assert [model.id for model in client.models.list()] == [shop.model.name]
    assert client.models.retrieve(shop.model.name).id == shop.model.name
    for asking in (
        lambda: client.models.retrieve(other.name),
        lambda: client.chat.completions.create(model=other.name, messages=ASK),
    ):
        with pytest.raises(openai.PermissionDeniedError) as refused:
            asking()
        assert (refused.value.code, refused.value.param) == ("model_not_allowed", "model")
        assert f"/keys/{key.pk}/" in refused.value.message
    assert (Job.objects.count(), Hold.objects.count()) == (0, 0)
    assert client.chat.completions.create(model=shop.model.name, messages=ASK).choices[0].message.content


def test_a_key_for_other_addresses_is_refused(http, shop, settings):
    _, secret = make.api_key(shop.organization, ip_ranges=("203.0.113.0/24",))
    headers = {"authorization": f"Bearer {secret}", "x-forwarded-for": "203.0.113.7"}
    refused = http.get("/v1/models", headers=headers)  # anybody can write that header
    assert (refused.status_code, refused.json()["error"]["code"]) == (401, "ip_not_allowed")
    assert "127.0.0.1" in refused.json()["error"]["message"]
    settings.ALLAUTH_TRUSTED_PROXY_COUNT = 1
    assert http.get("/v1/models", headers=headers).status_code == 200
    spoofed = {**headers, "x-forwarded-for": "203.0.113.7, 198.51.100.1"}
    assert http.get("/v1/models", headers=spoofed).status_code == 401


def test_a_revoked_key_is_refused_everywhere_at_once_and_its_stream_ends_whole(client, shop, site, http):
    """Two doors of their own beside the one that revokes: neither keeps a key. What was accepted goes on."""
    said = threading.Event()

    def script(attempt) -> None:
        attempt.claim()
        attempt.say("before")
        said.wait(20)
        attempt.say(" after")
        attempt.finish()

    site.script = script
    with serving() as second:
        doors = [str(http.base_url), second.url]
        headers = {"authorization": f"Bearer {shop.secret}"}
        stream = client.chat.completions.create(model=shop.model.name, messages=ASK, stream=True)
        texts = [next(iter(stream)).choices[0].delta.content or ""]
        assert [httpx.get(f"{door}/v1/models", headers=headers, timeout=20).status_code for door in doors] == [200, 200]
        keys.revoke(key=shop.key, user=None)
        began = time.monotonic()
        answers = [httpx.get(f"{door}/v1/models", headers=headers, timeout=20).status_code for door in doors]
        assert answers == [401, 401]  # the first request after the commit: within a second by construction
        assert time.monotonic() - began < 10
        with pytest.raises(openai.AuthenticationError):
            client.chat.completions.create(model=shop.model.name, messages=ASK)
        said.set()
        texts += [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert "".join(texts) == "before after"
    assert Job.objects.count() == 1


def test_a_key_that_may_not_read_usage_sees_only_what_it_sent(openai_client, shop, site):
    """Stored chats and responses of another key are as unknown to it as its jobs are."""
    mine, other = (make.api_key(shop.organization, scopes=["inference"])[1] for _ in range(2))
    sender, stranger, reader = (
        openai_client.with_options(api_key=secret, max_retries=0) for secret in (mine, other, shop.secret)
    )
    chat = sender.chat.completions.create(model=shop.model.name, messages=ASK, store=True)
    response = sender.responses.create(model=shop.model.name, input="Say hello")
    for client, seen in ((sender, True), (reader, True), (stranger, False)):
        assert [each.id for each in client.chat.completions.list()] == ([chat.id] if seen else [])
        for asking in (
            lambda client=client: client.chat.completions.retrieve(chat.id),
            lambda client=client: client.responses.retrieve(response.id),
        ):
            if seen:
                asking()
            else:
                with pytest.raises(openai.NotFoundError):
                    asking()
    for asking in (
        lambda: stranger.chat.completions.update(chat.id, metadata={"a": "b"}),
        lambda: stranger.chat.completions.delete(chat.id),
        lambda: stranger.responses.delete(response.id),
    ):
        with pytest.raises(openai.NotFoundError):
            asking()
    with pytest.raises(openai.BadRequestError) as unknown:
        stranger.responses.create(model=shop.model.name, input="More", previous_response_id=response.id)
    assert unknown.value.param == "previous_response_id"
    assert Job.objects.count() == 2
