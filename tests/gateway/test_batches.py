"""/v1/batches by the official client."""

import json
import uuid
from datetime import UTC, datetime

import openai
import pytest

from apps.batches import checking, finalizing
from apps.batches.models import Batch
from apps.core import ids
from apps.dispatch.dispatcher import Dispatcher
from apps.jobs.models import Job
from apps.ledger.models import Hold
from apps.sites.models import Node
from apps.wire.batches import MAX_LINES
from tests.batches.works import deliver, finished

CHAT = "/v1/chat/completions"


@pytest.fixture(autouse=True)
def _stored(settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path / "files"
    settings.UPLOADS = tmp_path / "uploads"


def lines(shop, count=3):
    body = {"model": shop.model.name, "messages": [{"role": "user", "content": "Capital?"}], "max_tokens": 20}
    return [{"custom_id": f"row-{n}", "method": "POST", "url": CHAT, "body": body} for n in range(1, count + 1)]


def upload(client, shop, count=3):
    content = "\n".join(json.dumps(line) for line in lines(shop, count)).encode()
    return client.files.create(file=("input.jsonl", content), purpose="batch")


def create(client, file_id, **fields):
    return client.batches.create(
        **{"input_file_id": file_id, "endpoint": CHAT, "completion_window": "24h", "metadata": {"of": "test"}, **fields}
    )


def test_from_the_upload_to_the_output(client, shop):
    file = upload(client, shop)
    batch = create(client, file.id)
    assert (batch.object, batch.status, batch.input_file_id, batch.metadata) == (
        "batch",
        "validating",
        file.id,
        {"of": "test"},
    )
    assert batch.expires_at - batch.created_at in (86_399, 86_400)
    pk = ids.parse("batch", batch.id)
    with pytest.raises(openai.ConflictError, match="read by a batch"):
        client.files.delete(file.id)
    checking.check(pk)
    assert client.batches.retrieve(batch.id).status == "in_progress"
    Node.objects.update(heartbeat_at=datetime.now(UTC))
    Dispatcher().feed()
    deliver(finished(Job.objects.get(batch_id=pk)))
    finalizing.finalize(pk)
    batch = client.batches.retrieve(batch.id)
    assert (batch.status, batch.model) == ("completed", shop.model.name)
    assert batch.request_counts.model_dump() == {"total": 3, "completed": 3, "failed": 0}
    assert (batch.usage.input_tokens, batch.usage.output_tokens, batch.usage.total_tokens) == (30, 60, 90)
    assert batch.usage.model_extra["cost_microusd"] == 15
    output = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    assert [line["custom_id"] for line in output] == ["row-1", "row-2", "row-3"]
    assert output[0]["response"]["body"]["choices"][0]["message"]["content"] == "Paris"
    assert batch.error_file_id is None
    assert client.files.delete(file.id).deleted
    assert client.batches.retrieve(batch.id).input_file_id == file.id
    assert [found.id for found in client.batches.list()] == [batch.id]


def test_what_is_wrong_with_a_request_is_named_and_leaves_nothing(client, shop):
    file = upload(client, shop)
    other = client.files.create(file=("a.txt", b"abc"), purpose="user_data")
    for fields, param in [
        ({"endpoint": "/v1/images/generations"}, "endpoint"),
        ({"completion_window": "1h"}, "completion_window"),
        ({"input_file_id": other.id}, "input_file_id"),
        ({"metadata": {"k" * 65: "v"}}, "metadata"),
        ({"extra_body": {"deadline_at": 10}}, "deadline_at"),
        ({"extra_body": {"max_power_usd_per_mwh": "cheap"}}, "max_power_usd_per_mwh"),
        ({"extra_body": {"output_expires_after": {"anchor": "created_at", "seconds": 1}}}, "output_expires_after"),
    ]:
        with pytest.raises(openai.BadRequestError) as refused:
            create(client, **{"file_id": file.id, **fields})
        assert (refused.value.param or "").startswith(param)
    with pytest.raises(openai.NotFoundError):
        create(client, "file-1")
    with pytest.raises(openai.NotFoundError):
        client.batches.retrieve(ids.public("batch", uuid.uuid4()))
    assert (Batch.objects.count(), Hold.objects.count()) == (0, 0)
    assert client.files.delete(file.id).deleted  # nothing reads it


def test_the_same_request_again_makes_no_second_batch(client, shop):
    file = upload(client, shop)
    keyed = {"extra_headers": {"Idempotency-Key": "once"}}
    first = create(client, file.id, **keyed)
    assert create(client, file.id, **keyed).id == first.id
    with pytest.raises(openai.ConflictError):
        create(client, file.id, metadata={"other": "yes"}, **keyed)
    bare = create(client, file.id)
    again = create(client, file.id, extra_headers={"x-stainless-retry-count": "1"})
    assert again.id == bare.id
    assert Batch.objects.count() == 2


def test_cancel_lists_and_pages(client, shop):
    file = upload(client, shop)
    made = [create(client, file.id, metadata={"n": str(n)}) for n in range(3)]
    assert client.batches.cancel(made[0].id).status == "cancelling"
    assert client.batches.cancel(made[0].id).status == "cancelling"
    finalizing.finalize(ids.parse("batch", made[0].id))
    assert client.batches.retrieve(made[0].id).status == "cancelled"
    page = client.batches.list(limit=2)
    assert [batch.id for batch in page.data] == [made[2].id, made[1].id]
    assert page.has_more
    assert [batch.id for batch in client.batches.list(limit=2)] == [batch.id for batch in reversed(made)]
    with pytest.raises(openai.BadRequestError):
        client.batches.list(limit=101)


def test_bad_lines_are_listed(client, shop):
    file = client.files.create(file=("bad.jsonl", b"{}\nno\n"), purpose="batch")
    batch = create(client, file.id)
    checking.check(ids.parse("batch", batch.id))
    batch = client.batches.retrieve(batch.id)
    assert batch.status == "failed"
    assert [(error.line, error.code) for error in batch.errors.data] == [
        (1, "missing_required_parameter"),
        (2, "invalid_json_line"),
    ]
    assert MAX_LINES == 50_000
