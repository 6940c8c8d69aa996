"""Chats sent with `store` true can be asked for again, described and deleted, by their organization alone."""

import openai
import pytest

from apps.jobs.models import Job
from tests import make
from tests.gateway.portal import chat

ASK = [{"role": "user", "content": "Hello"}]


@pytest.fixture
def made(client, shop, site):
    site.script = chat("Hi ", "there")
    return [
        client.chat.completions.create(model=shop.model.name, messages=ASK, store=True, metadata={"n": str(n)})
        for n in range(3)
    ]


def test_a_stored_chat_is_read_described_and_deleted(client, shop, made, site):
    first = made[0]
    again = client.chat.completions.retrieve(first.id)
    assert again.choices[0].message.content == "Hi there"
    assert (again.choices[0].finish_reason, again.created, again.model) == ("stop", first.created, shop.model.name)
    assert (again.usage.total_tokens, again.usage.cost_microusd) == (
        first.usage.total_tokens,
        first.usage.cost_microusd,
    )
    assert again.metadata == {"n": "0"}
    assert again.model_extra["site"] == first.model_extra["site"]
    (message,) = client.chat.completions.messages.list(first.id).data
    assert (message.id, message.role, message.content) == (f"{first.id}-0", "user", "Hello")
    assert client.chat.completions.update(first.id, metadata={"n": "9"}).metadata == {"n": "9"}
    assert Job.objects.get(metadata={"n": "9"}).stored

    assert client.chat.completions.delete(first.id).deleted
    job = Job.objects.get(metadata={"n": "9"})
    assert (job.stored, hasattr(job, "content"), job.charge_microusd) == (False, False, 2)
    for call in (
        lambda: client.chat.completions.retrieve(first.id),
        lambda: client.chat.completions.delete(first.id),
        lambda: client.chat.completions.update(first.id, metadata={}),
        lambda: client.chat.completions.messages.list(first.id),
    ):
        with pytest.raises(openai.NotFoundError) as refused:
            call()
        assert refused.value.code == "completion_not_found"


def test_they_are_listed_by_page_model_and_metadata(client, made):
    ids = [each.id for each in made]
    assert [each.id for each in client.chat.completions.list()] == ids
    page = client.chat.completions.list(limit=2, order="desc")
    assert ([each.id for each in page.data], page.has_more) == ([ids[2], ids[1]], True)
    assert [each.id for each in page] == ids[::-1]  # the client asks for the next page
    assert [each.id for each in client.chat.completions.list(metadata={"n": "1"})] == [ids[1]]
    assert [each.id for each in client.chat.completions.list(model="acme/none")] == []
    for wrong in ({"limit": 0}, {"limit": 101}, {"order": "up"}):
        with pytest.raises(openai.BadRequestError) as refused:
            client.chat.completions.list(**wrong)
        assert refused.value.param in wrong


def test_what_was_not_stored_or_is_anothers_is_not_there(client, openai_client, shop, made, site):
    quiet = client.chat.completions.create(model=shop.model.name, messages=ASK, metadata={"a": "b"})
    assert Job.objects.get(metadata={"a": "b"}).stored is False
    stranger = openai_client.with_options(api_key=make.api_key(make.organization())[1], max_retries=0)
    assert stranger.chat.completions.list().data == []
    for who, name in ((client, quiet.id), (stranger, made[0].id), (client, "chatcmpl-1"), (client, "job_1")):
        for call in (who.chat.completions.retrieve, who.chat.completions.delete):
            with pytest.raises(openai.NotFoundError):
                call(name)
    assert client.chat.completions.retrieve(made[0].id).choices[0].message.content == "Hi there"
