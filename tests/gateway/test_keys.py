"""What the lean door asks of a key before it looks at the request."""

import openai
import pytest

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
