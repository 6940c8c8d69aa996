"""The end of an organization: asked, undone, done; what stops, what goes on, what stays."""

from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.core import mail
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import Client
from django.utils import timezone

from apps.accounts.models import AuditEvent, Invitation, Membership, Organization
from apps.files.models import File
from apps.jobs.models import Content, Job
from apps.keys import services as keys
from apps.keys.models import APIKey
from apps.ledger import services as ledger
from apps.ledger.models import Hold, Transfer
from apps.portal import closing
from apps.webhooks import services as webhooks
from apps.webhooks.models import Endpoint
from tests import make

PAGE, UNDO = "/settings/organization/delete/", "/settings/organization/delete/undo/"


@pytest.fixture
def shop(db, settings, tmp_path):
    settings.MEDIA_ROOT = tmp_path
    owner = make.user(email="lena@meridian.example")
    organization = make.organization(owner=owner, credit_microusd=5_000_000)
    key, secret = make.api_key(organization, user=owner)
    client = Client()
    client.force_login(owner, "allauth.account.auth_backends.AuthenticationBackend")
    return SimpleNamespace(owner=owner, organization=organization, key=key, secret=secret, client=client)


def ask(shop, django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(execute=True):
        return shop.client.post(PAGE, {"name": " Meridian  Foods "})


def passed(shop) -> None:
    Organization.objects.filter(pk=shop.organization.pk).update(closing_at=timezone.now() - timedelta(seconds=1))


def actions() -> list[str]:
    return [
        each for each in AuditEvent.objects.order_by("pk").values_list("action", flat=True) if "organization" in each
    ]


def test_the_page_says_what_goes_and_what_is_kept_and_asks_for_the_name(shop):
    page = shop.client.get(PAGE).content.decode()
    for words in (
        "1 API key stops",
        "Nothing runs now.",
        "Kept for 10 years",
        "commercial and tax law",
        "$5.00",
        "Refund what can be refunded before",
    ):
        assert words in page
    answer = shop.client.post(PAGE, {"name": "Meridian"})
    assert answer.status_code == 422
    assert "This is not the name." in answer.content.decode()
    shop.organization.refresh_from_db()
    assert (shop.organization.closing_at, mail.outbox, actions()) == (None, [], [])
    assert keys.authenticate(shop.secret).organization_id == shop.organization.pk


def test_keys_stop_at_once_and_work_again_when_it_is_undone(shop, django_capture_on_commit_callbacks):
    assert ask(shop, django_capture_on_commit_callbacks).headers["location"] == PAGE
    shop.organization.refresh_from_db()
    assert timedelta(days=13, hours=23) < shop.organization.closing_at - timezone.now() <= timedelta(days=14)
    with pytest.raises(keys.OrganizationClosing):
        keys.authenticate(shop.secret)
    answer = Client().get("/api/v1/jobs", headers={"authorization": f"Bearer {shop.secret}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "organization_closing")
    for path in ("/keys/new/", "/playground/", "/settings/members/invite/", "/api/v1/keys"):
        assert shop.client.post(path, {"name": "x", "scopes": ["inference"]}).status_code == 403
    assert APIKey.objects.count() == 1
    assert "is deleted on" in shop.client.get("/keys/").content.decode()
    assert [(each.to, each.subject.partition(" on ")[0]) for each in mail.outbox] == [
        ([shop.owner.email], "Meridian Foods will be deleted")
    ]
    ask(shop, django_capture_on_commit_callbacks)  # again: nothing new
    assert (len(mail.outbox), actions()) == (1, ["organization.deletion_asked"])
    assert closing.sweep() == 0  # its time has not come
    assert shop.client.post(UNDO).status_code == 302
    assert keys.authenticate(shop.secret).organization_id == shop.organization.pk
    assert actions() == ["organization.deletion_asked", "organization.deletion_undone"]
    passed_never = closing.sweep(timezone.now() + timedelta(days=30))
    assert (passed_never, Membership.objects.count()) == (0, 1)


def test_what_runs_ends_first_and_the_books_stay(shop, django_capture_on_commit_callbacks):
    organization, model = shop.organization, make.model()
    old = make.job(organization=organization, model=model, state="succeeded", text="Said in confidence")
    running = make.job(organization=organization, model=model)
    ledger.reserve(organization=organization, microusd=1000, key=f"job:{running.pk}")
    webhooks.create(organization=organization, url="https://hooks.example.com/", event_types=[], user=shop.owner)
    path = default_storage.save("kept.bin", ContentFile(b"x"))
    file = File.objects.create(
        organization=organization, name="a", content_type="x/y", size_bytes=1, sha256="", path=path, expires_at=None
    )
    shop.client.post("/settings/members/invite/", {"email": "sam@meridian.example", "role": "billing"})
    theirs = make.job(organization=make.organization(name="Theirs"), model=model, state="succeeded", text="Theirs")
    ask(shop, django_capture_on_commit_callbacks)
    passed(shop)
    assert closing.sweep() == 0  # a job is open, and its hold
    assert (Hold.objects.get().state, Membership.objects.filter(organization=organization).count()) == ("open", 1)
    Job.objects.filter(pk=running.pk).update(state="succeeded", finished_at=timezone.now(), charge_microusd=700)
    assert closing.sweep() == 0  # its hold still is
    ledger.settle(key=f"job:{running.pk}", cost_microusd=700)
    Job.objects.filter(organization=organization).update(
        finished_at=timezone.now() - timedelta(minutes=20)
    )  # answers were fetched
    before = list(Transfer.objects.order_by("pk").values())
    with django_capture_on_commit_callbacks(execute=True):
        assert (closing.sweep(), closing.sweep()) == (1, 0)
    organization.refresh_from_db()
    assert (organization.name, organization.closed_at is not None) == ("Deleted organization", True)
    assert list(Transfer.objects.order_by("pk").values()) == before
    assert Job.objects.filter(organization=organization).count() == 2
    assert ledger.balance(organization.pk).available_microusd == 5_000_000 - 700
    assert list(Content.objects.values_list("job", flat=True)) == [theirs.pk]
    assert not Content.objects.filter(job=old).exists()
    assert (
        APIKey.objects.filter(revoked_at=None).count(),
        Endpoint.objects.count(),
        Invitation.objects.get().state,
    ) == (0, 0, "withdrawn")
    assert not Membership.objects.filter(organization=organization).exists()
    assert not default_storage.exists(path)
    assert not File.objects.filter(pk=file.pk, status="processed").exists()
    assert actions()[-1] == "organization.deleted"
    assert mail.outbox[-1].subject == "Meridian Foods was deleted"
    assert shop.client.get("/dashboard/").headers["location"] == "/welcome/"
    with pytest.raises(closing.CannotClose):
        closing.undo(organization=organization, user=shop.owner)


def test_owners_only(shop):
    colleague = make.user()
    shop.organization.memberships.create(user=colleague, role="billing")
    client = Client()
    client.force_login(colleague, "allauth.account.auth_backends.AuthenticationBackend")
    for path in (PAGE, UNDO, "/settings/organization/export/"):
        assert client.post(path, {"name": "Meridian Foods"}).status_code == 403
    shop.organization.refresh_from_db()
    assert (shop.organization.closing_at, actions()) == (None, [])
