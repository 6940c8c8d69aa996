"""What the lean door asks of a key before it looks at the request."""

import openai
import pytest

from apps.files.models import File
from apps.jobs.models import Job, Refusal
from apps.ledger.models import Hold
from tests import make


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
