"""The smallest shop that can sell: a pytest plugin."""

from types import SimpleNamespace

import pytest

from apps.catalog import offers
from apps.dispatch import services as dispatch
from apps.dispatch.work import Work
from apps.jobs.models import Job
from apps.keys.services import Caller
from cango_portal import database
from tests import make


@pytest.fixture
def shop(driver):
    """An organization with $1, one model at $0.12 and $0.36 per million tokens, one pool of two slots."""
    organization = make.organization(credit_microusd=1_000_000)
    model = make.model()
    pool = make.pool(model=model, slots=2)
    caller = Caller(organization_id=organization.pk, api_key_id=None, user_id=None)

    def work(**fields):
        return Work(
            **{
                "offer": database.run(offers.offer(model.name)),
                "body": {"messages": [{"role": "user", "content": "Hello"}]},
                "interactive": True,
                "streaming": True,
                "prompt_tokens_ceiling": 1000,
                "max_completion_tokens": 500,
                **fields,
            }
        )

    def submit(**fields):
        return Job.objects.get(pk=dispatch.submit(caller=caller, work=work(**fields)).job_id)

    return SimpleNamespace(organization=organization, model=model, pool=pool, caller=caller, work=work, submit=submit)
