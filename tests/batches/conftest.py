from types import SimpleNamespace

import pytest

from apps.keys.services import Caller
from tests import make
from tests.batches.works import Works


@pytest.fixture
def works(transactional_db, settings, tmp_path) -> Works:
    """An organization with $1 and a key, a model at $0.12 and $0.36 per million tokens (half of it in a batch), a pool."""
    settings.MEDIA_ROOT = tmp_path / "files"
    settings.UPLOADS = tmp_path / "uploads"
    organization = make.organization(credit_microusd=1_000_000)
    key, secret = make.api_key(organization)
    model = make.model(engine_name="mock")
    pool = make.pool(model=model, slots=4)
    caller = Caller(
        organization_id=organization.pk,
        api_key_id=key.pk,
        user_id=None,
        budgets=(key.budget_id,) if key.budget_id else (),
    )
    return Works(
        organization=organization,
        key=key,
        secret=secret,
        model=model,
        pool=pool,
        caller=caller,
        media=tmp_path / "files",
        told=SimpleNamespace(),
    )
