"""No page asks the database more often because there is more: of everything it lists there are a few rows, then many."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.http import HttpResponse
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.accounts import audit
from apps.accounts.models import Membership
from apps.batches.models import Batch, Shard
from apps.core.ids import uuid7
from apps.files.models import File
from apps.jobs.models import Refusal
from apps.ledger import services as ledger
from apps.operations.models import Availability, Incident
from apps.portal.models import Export
from apps.webhooks import services as webhooks
from tests import make

pytestmark = [pytest.mark.django_db, pytest.mark.story]
NOW = datetime.now(UTC)
PAGES = [
    "/models/", "/models/acme/first/", "/pricing/", "/status/", "/docs/", "/docs/?q=limit", "/docs/quick-start/", "/data/",
    "/privacy/", "/mail/",
    "/dashboard/", "/dashboard/?range=30d", "/playground/", "/jobs/", "/jobs/?state=failed", "/jobs/?q=team%3Dred", "/jobs/?q=bread", "/jobs/{job}/",
    "/batches/", "/batches/new/", "/batches/{batch}/", "/batches/{batch}/rows/1/", "/batches/{batch}/again/?rows=all", "/usage/", "/usage/?range=90d&group=member", "/usage/?range=365d&group=day", "/usage/?group=site",
    "/keys/", "/keys/new/", "/keys/{key}/", "/keys/{key}/change/", "/keys/{key}/replace/",
    "/keys/{key}/revoke/", "/keys/places/", "/billing/add/", "/billing/automatic/", "/billing/", "/billing/movements/", "/billing/payments/",
    "/billing/invoices/", "/billing/plan/", "/billing/limits/", "/billing/limits/organization/",
    "/billing/limits/members/{user}/", "/billing/limits/warnings/", "/settings/webhooks/", "/settings/webhooks/new/",
    "/settings/webhooks/{webhook}/", "/settings/webhooks/{webhook}/edit/", "/settings/organization/", "/settings/organization/export/",
    "/settings/organization/delete/", "/settings/members/", "/settings/members/invite/", "/settings/members/{member}/",
    "/settings/members/{member}/remove/", "/settings/audit/", "/settings/account/", "/settings/security/", "/settings/notifications/",
]  # fmt: skip


class Shop:
    def __init__(self) -> None:
        self.owner = make.user()
        self.organization = make.organization(owner=self.owner, credit_microusd=400_000_000)
        self.first = make.model(name="acme/first")
        self.pool = make.pool(model=self.first)
        self.key, _ = make.api_key(self.organization)
        self.add(2)
        self.job = self.organization.jobs.filter(state="succeeded").latest("pk")
        self.batch = self.organization.batches.filter(state="completed").latest("pk")
        self.webhook = self.organization.webhooks.earliest("pk")
        self.member = self.organization.memberships.latest("pk")
        self.client = Client()
        self.client.force_login(self.owner)

    def add(self, count: int) -> None:
        """So many more of everything."""
        for n in range(count):
            model = make.model()
            pool = make.pool(model=model)
            key, _ = make.api_key(self.organization)
            member = make.user()
            Membership.objects.create(organization=self.organization, user=member, role="developer")
            for state in ("succeeded", "failed", "running", "queued"):
                make.job(
                    organization=self.organization, model=model, pool=pool, api_key=key, user=member, state=state, text="bread",
                    request={"messages": []}, metadata={"team": "red"}, prompt_tokens=5, completion_tokens=5,
                )  # fmt: skip
            Refusal.objects.create(
                organization=self.organization, model_name=model.name, code="key_limit", message="No."
            )
            file = File.objects.create(
                organization=self.organization, purpose="batch", name=f"{n}.jsonl", content_type="", size_bytes=1, path="nothing"
            )  # fmt: skip
            ended = Batch.objects.create(
                organization=self.organization, user=member, endpoint="/v1/chat/completions", input_file_id=file.pk, state="completed",
                model=model, price=model.prices.get(), total=2, completed=2, created_at=NOW, in_progress_at=NOW, finalizing_at=NOW,
                completed_at=NOW, expires_at=NOW + timedelta(days=1),
            )  # fmt: skip
            Shard.objects.create(batch=ended, number=1, first_line=1, lines=2, path="", ceilings_microusd=[1, 1])
            running = Batch.objects.create(
                organization=self.organization, user=member, endpoint="/v1/chat/completions", input_file_id=file.pk, state="in_progress",
                model=model, price=model.prices.get(), total=2, completed=1, created_at=NOW, in_progress_at=NOW,
                expires_at=NOW + timedelta(days=1),
            )  # fmt: skip
            make.job(organization=self.organization, model=model, pool=pool, state="running", batch_id=running.pk)
            if n < 6:  # ten are the most
                webhooks.create(
                    organization=self.organization, url=f"https://example.com/{uuid7()}", event_types=[], user=self.owner
                )  # fmt: skip
            webhooks.notify(organization=self.organization, type="job.succeeded", data={}, key=f"{uuid7()}")
            Export.objects.create(organization=self.organization, user=member, state="done", finished_at=NOW)
            audit.record(organization=self.organization, actor=member, action="key.created", target=key.public_id)
            ledger.grant(organization=self.organization, microusd=5, key=f"gift:{uuid7()}", reason="Test", actor="test")
            for ago in range(3):
                Availability.objects.create(
                    model=model, country="US", region=f"R{n}", day=NOW.date() - timedelta(days=ago), looks=9, up=8, looked_at=NOW
                )  # fmt: skip
            Incident.objects.create(
                title="Slow", effect="Slow", severity="degraded", public=True, began_at=NOW
            ).affected.add(model)

    def get(self, page: str) -> HttpResponse:
        address = page.format(
            job=self.job.public_id, batch=self.batch.public_id, key=self.key.pk, webhook=self.webhook.public_id,
            member=self.member.pk, user=self.member.user_id,
        )  # fmt: skip
        answer = self.client.get(address)
        assert answer.status_code == 200, (address, answer.status_code)
        return answer

    def queries(self, page: str) -> int:
        with CaptureQueriesContext(connection) as captured:
            self.get(page)
        return len(captured)


def test_no_page_asks_more_often_where_there_is_more() -> None:
    shop = Shop()
    for page in PAGES:
        shop.queries(page)  # what is read once for a process
    few = {page: shop.queries(page) for page in PAGES}
    shop.add(9)
    many = {page: shop.queries(page) for page in PAGES}
    assert {page: (few[page], many[page]) for page in PAGES if many[page] > few[page]} == {}
