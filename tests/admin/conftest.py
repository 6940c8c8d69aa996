import hashlib
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest
from django.db import transaction
from django.test import Client
from pytest_django import DjangoDbBlocker

from apps.accounts import audit, invitations
from apps.accounts.models import Organization, User
from apps.batches.models import Batch
from apps.catalog.models import Model
from apps.core.ids import uuid7
from apps.dispatch.models import Order
from apps.files.models import File
from apps.jobs.models import Job, Refusal
from apps.keys.models import APIKey, RateLimit
from apps.ledger import services as ledger
from apps.operations.models import Availability
from apps.portal.models import Export
from apps.sites.models import Node, Pool
from apps.webhooks import services as webhooks
from tests import make
from tests.admin import money

PROMPT = "What did our supplier say in confidence?"
NODE_TOKEN = "node-token-that-nobody-may-see"


@dataclass(frozen=True)
class World:
    """Rows of everything the admin lists, and the secrets that no page of it may hold.

    Three of each, so that a list that asks row by row is seen; one where a file says `ROWS = 1`, for they cost half a second.
    """

    organization: Organization
    owner: User
    model: Model
    key: APIKey
    pool: Pool
    node: Node
    job: Job
    secrets: list[str]


@pytest.fixture(scope="module")
def rows(request: pytest.FixtureRequest, django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[World]:
    """Made once for a file, in a transaction around those of its tests."""
    around = transaction.atomic()
    around._from_testcase = True  # type: ignore[attr-defined] # what is durable stands inside, as in any test
    with django_db_blocker.unblock():
        around.__enter__()
        made = populate(getattr(request.module, "ROWS", 3))
    yield made
    with django_db_blocker.unblock():
        transaction.set_rollback(True)
        around.__exit__(None, None, None)


@pytest.fixture
def world(rows: World, db: None) -> World:
    return deepcopy(rows)  # what a test changes is rolled back in the database alone


def populate(count: int) -> World:
    secrets = [PROMPT, NODE_TOKEN]
    for number in range(count):
        owner = make.user()
        organization = make.organization(credit_microusd=5_000_000, promotional_microusd=1_000_000, owner=owner)
        invitations.invite(organization=organization, email="sam@example.org", role="developer", user=owner)
        Export.objects.create(organization=organization, user=owner)
        key, secret = make.api_key(organization)
        model = make.model()
        make.discount(organization, model=model, by=owner)
        RateLimit.objects.create(organization=organization, api_key=key, requests_per_minute=60)
        node = make.node(token=f"{NODE_TOKEN}{number}")
        pool = make.pool(model=model, node=node)
        make.fleet(node, model=model, by=owner)
        make.job(organization=organization, model=model, state="succeeded", api_key=key, text=PROMPT)
        make.job(organization=organization, model=model, state="running", pool=pool, api_key=key)
        job = make.job(organization=organization, model=model, api_key=key, request={"messages": PROMPT}, version=4)
        for step in (2, 3, 4):
            job.events.create(number=step, state="queued", attempt=0, at=datetime.now(UTC))
        ledger.reserve(organization=organization, microusd=1000, key=f"job:{job.pk}")
        ledger.reserve(organization=organization, microusd=2000, key=f"done:{number}")
        ledger.settle(key=f"done:{number}", cost_microusd=700)
        Order.objects.create(
            job=job, attempt=1, queue="pool.x", body={"messages": PROMPT}, created_at=datetime.now(UTC)
        )
        File.objects.create(
            organization=organization,
            name=f"scan-{number}.png",
            content_type="image/png",
            size_bytes=10,
            sha256=hashlib.sha256(b"x").hexdigest(),
            path=f"{uuid7()}",
            expires_at=datetime.now(UTC),
        )
        Batch.objects.create(
            organization=organization,
            api_key=key,
            endpoint="/v1/chat/completions",
            input_file_id=uuid7(),
            created_at=datetime.now(UTC),
            expires_at=datetime.now(UTC),
        )
        Refusal.objects.create(
            organization=organization, api_key=key, model_name=model.name, code="insufficient_credit", message="No"
        )
        endpoint, signing = webhooks.create(
            organization=organization, url="https://hooks.example.com/x", event_types=[], user=owner
        )
        webhooks.send_test(endpoint)
        secrets += [signing, endpoint.secret]
        today = datetime.now(UTC)
        Availability.objects.create(
            model=model, country="US", region="Georgia", day=today.date(), looks=3, up=2, looked_at=today
        )
        money.rows(organization, owner, number)
        audit.record(organization=organization, actor=owner, action="test.done", target=organization.public_id)
        secrets += [secret, key.sha256, node.token_sha256, owner.password]
    return World(organization, owner, model, key, pool, node, job, secrets)


@pytest.fixture
def operator(db: None) -> User:
    return make.user(email="operator@example.org", is_staff=True, is_superuser=True)


@pytest.fixture
def staff(operator: User) -> Client:
    client = Client()
    client.force_login(operator)
    return client
