"""An export holds all that is an organization's and nothing that opens anything, once, whatever dies."""

import io
import json
import zipfile
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.core.files.storage import default_storage
from django.test import Client
from django.utils import timezone

from apps.accounts.models import AuditEvent
from apps.portal import exporting, tasks
from apps.portal.models import Export
from apps.webhooks import services as webhooks
from apps.webhooks.models import Endpoint
from tests import make

PAGE = "/settings/organization/export/"


@pytest.fixture
def shop(db, settings, tmp_path, monkeypatch):
    settings.MEDIA_ROOT, settings.UPLOADS = tmp_path / "files", tmp_path / "uploads"
    told: list[str] = []
    monkeypatch.setattr(exporting.current_app, "send_task", lambda name, args, retry: told.append(args[0]))
    owner = make.user(email="lena@meridian.example")
    organization = make.organization(owner=owner, credit_microusd=5_000_000)
    key, secret = make.api_key(organization, user=owner)
    model = make.model()
    make.job(organization=organization, model=model, state="succeeded", text="Said in confidence", api_key=key)
    webhooks.create(organization=organization, url="https://hooks.example.com/", event_types=[], user=owner)
    make.job(
        organization=make.organization(name="Theirs", owner=make.user()),
        model=model,
        state="succeeded",
        text="Not ours",
    )
    client = Client()
    client.force_login(owner, "allauth.account.auth_backends.AuthenticationBackend")
    return SimpleNamespace(owner=owner, organization=organization, secret=secret, client=client, told=told)


def begun(shop, django_capture_on_commit_callbacks) -> Export:
    with django_capture_on_commit_callbacks(execute=True):
        assert shop.client.post(PAGE).headers["location"] == PAGE
    export = Export.objects.get(state="waiting")
    assert shop.told[-1] == str(export.pk)
    return export


def test_what_is_in_it(shop, django_capture_on_commit_callbacks):
    export = begun(shop, django_capture_on_commit_callbacks)
    waiting = shop.client.get(PAGE).content.decode()
    assert f'id="exports" data-part data-topic="exports.{shop.organization.public_id}" data-at="' in waiting
    assert "waiting for a worker" in waiting
    assert '<noscript><p class="run-meta">Reload the page to see how far it is.</p></noscript>' in waiting
    tasks.export(str(export.pk))
    export.refresh_from_db()
    assert (export.state, export.take, export.done, export.total) == ("done", 1, export.total, export.total)
    done = shop.client.get(PAGE).content.decode()
    assert "<noscript>" not in done
    assert done.count('form="export-form"') == 1
    answer = shop.client.get(f"{PAGE}{export.public_id}.zip")
    content = b"".join(answer.streaming_content)
    assert len(content) == export.size_bytes
    archive = zipfile.ZipFile(io.BytesIO(content))
    rows = {
        name.removesuffix(".jsonl"): [json.loads(line) for line in archive.read(name).decode().splitlines()]
        for name in archive.namelist()
        if name.endswith(".jsonl")
    }
    assert sum(map(len, rows.values())) == export.total
    assert [row["email"] for row in rows["members"]] == ["lena@meridian.example"]
    active = shop.organization.memberships.get().last_active_at
    assert [row["last_active_at"] for row in rows["members"]] == [f"{active:%Y-%m-%dT%H:%M:%S}.{active.microsecond // 1000:03d}Z"]  # fmt: skip
    assert [row["amount_microusd"] for row in rows["transfers"]] == [5_000_000]
    assert [(row["job_id"], row["text"]) for row in rows["texts"]] == [(rows["jobs"][0]["id"], "Said in confidence")]
    assert [row["action"] for row in rows["audit"]][-1] == "organization.exported"
    assert json.loads(archive.read("organization.json"))["public_id"] == shop.organization.public_id
    everything = b"".join(archive.read(name) for name in archive.namelist()).decode()
    for secret in (shop.secret, Endpoint.objects.get().secret, "sha256", "Not ours", "Theirs"):
        assert secret not in everything


def test_one_at_a_time_a_few_a_day_for_its_owners(shop, django_capture_on_commit_callbacks):
    export = begun(shop, django_capture_on_commit_callbacks)
    shop.client.post(PAGE)
    assert (Export.objects.count(), len(shop.told)) == (1, 1)
    tasks.export(str(export.pk))
    for _ in range(4):
        tasks.export(str(begun(shop, django_capture_on_commit_callbacks).pk))
    shop.client.post(PAGE)
    assert Export.objects.count() == 5
    assert AuditEvent.objects.filter(action="organization.exported").count() == 5
    stranger = Client()
    stranger.force_login(
        make.organization(owner=make.user()).memberships.get().user,
        "allauth.account.auth_backends.AuthenticationBackend",
    )
    assert stranger.get(f"{PAGE}{export.public_id}.zip").status_code == 404


def test_a_dead_worker_is_followed_by_another_and_writes_nothing_any_more(
    shop, django_capture_on_commit_callbacks, monkeypatch
):
    export = begun(shop, django_capture_on_commit_callbacks)
    stalled = exporting.take(export.pk)
    assert exporting.take(export.pk) is None  # one works
    assert exporting.sweep() == []
    Export.objects.update(working_until=timezone.now() - timedelta(seconds=1))
    assert exporting.sweep() == [export.pk]
    tasks.export(str(export.pk))
    export.refresh_from_db()
    assert (export.state, export.take) == ("done", 2)
    with pytest.raises(exporting.Stopped):
        exporting.say(stalled, done=1)
    monkeypatch.setattr(exporting, "take", lambda _: stalled)
    tasks.export(str(export.pk))  # comes back to life
    kept = export.path
    export.refresh_from_db()
    assert (export.state, export.path, export.take) == ("done", kept, 2)
    assert default_storage.exists(kept)


def test_what_never_succeeds_fails_and_files_go(shop, django_capture_on_commit_callbacks):
    export = begun(shop, django_capture_on_commit_callbacks)
    for _ in range(exporting.TAKES):
        assert exporting.take(export.pk) is not None
        Export.objects.update(working_until=timezone.now() - timedelta(seconds=1))
    assert exporting.take(export.pk) is None
    export.refresh_from_db()
    assert export.state == "failed"
    second = begun(shop, django_capture_on_commit_callbacks)
    tasks.export(str(second.pk))
    second.refresh_from_db()
    exporting.sweep(timezone.now() + exporting.KEPT + timedelta(seconds=1))
    assert not default_storage.exists(second.path)
    assert shop.client.get(f"{PAGE}{second.public_id}.zip").status_code == 404
