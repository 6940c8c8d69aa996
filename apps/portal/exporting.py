"""An organization's data as one ZIP file of JSON Lines, made by a task beside everything else.

Any number of workers may be told of the same export: each take has a number, and only the newest writes. What a dead worker
left is taken anew. Nothing that opens anything is in it: no digests of keys, no secrets of webhooks.
"""

from __future__ import annotations

import io
import json
import logging
import tempfile
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import IO, Any
from uuid import UUID

from celery import current_app
from django.conf import settings
from django.core.files import File as Opened
from django.core.files.storage import default_storage
from django.core.serializers.json import DjangoJSONEncoder
from django.db import IntegrityError, models, transaction
from django.db.models import F, Q
from django.utils import timezone
from django.utils.translation import gettext
from kombu.exceptions import OperationalError

from apps.accounts import audit
from apps.accounts.models import AuditEvent, Invitation, Membership, Organization, User
from apps.batches.models import Batch
from apps.billing.models import Company, Invoice, Refund, TopUp
from apps.core.errors import PortalError
from apps.core.ids import public
from apps.files.models import File
from apps.jobs.models import Content, Job
from apps.keys.models import APIKey
from apps.ledger.models import Budget, Transfer
from apps.live import bell
from apps.portal.models import Export
from apps.webhooks.models import Endpoint
from cango_portal import valkey

log = logging.getLogger(__name__)

WORK = timedelta(seconds=60)  # a take that says nothing for so long is dead
SAID_EVERY = 1.0  # seconds
KEPT = timedelta(days=7)
TAKES = 5
CHUNK = 500
TASK = "portal.export"
STORING = "storing"  # the part after the last one
ABOUT = """All that Cango Portal holds for {name} ({id}), as of {at} UTC.

Each .jsonl file has one JSON object a line. Money is in micro-USD (a millionth of a dollar), energy in Wh, time in UTC.
texts.jsonl holds what jobs were sent and answered, as far as it is still kept. Files you uploaded and results of batches are
listed in files.jsonl; GET /v1/files/<id>/content brings them. Secrets are not part of it.
"""


class ExportState(PortalError):
    """One export of an organization is made at a time, and a few a day. Nothing was begun."""

    code, status = "export_state", 409


class Stopped(Exception):
    """A newer take writes this export."""


@dataclass(frozen=True, slots=True)
class Part:
    """A file of the export: rows, and how one is written."""

    name: str
    rows: models.QuerySet[Any]
    written: Callable[[Any], dict[str, Any]]


def begin(*, organization: Organization, user: User) -> Export:
    """Raises ExportState."""
    try:
        with transaction.atomic():
            if organization.exports.filter(created_at__gt=timezone.now() - timedelta(days=1)).count() >= TAKES:
                raise ExportState(
                    gettext(
                        "An organization makes at most %(takes)s exports a day. Nothing was begun; try again tomorrow."
                    )
                    % {"takes": TAKES}
                )
            made = Export.objects.create(organization=organization, user=user)
            audit.record(organization=organization, actor=user, action="organization.exported", target=made.public_id)
            transaction.on_commit(lambda: told(made))
    except IntegrityError as error:
        raise ExportState(gettext("An export is being made already. Its page shows how far it is.")) from error
    return made


def topic(organization_id: UUID) -> str:
    """What the page of an organization's exports listens to, and what rings when one of them changed."""
    return f"exports.{public('org', UUID(str(organization_id)))}"


def ring(export: Export) -> None:
    """After the commit."""
    bell.ring(topic(export.organization_id))


def told(export: Export) -> None:
    tell_worker(export.pk)
    ring(export)


def tell_worker(export_id: UUID) -> None:
    """Where the broker is away, the sweep does it."""
    try:
        current_app.send_task(TASK, args=(str(export_id),), retry=False)
    except (OperationalError, *valkey.Away):
        log.warning("broker away, an export waits for the sweep")


def run(export_id: UUID) -> None:
    """Make the file. A second worker that is told meanwhile does nothing."""
    export = take(export_id)
    if export is None:
        return
    settings.UPLOADS.mkdir(parents=True, exist_ok=True)
    path = f"exports/{export.organization_id}/{export.pk}-{export.take}.zip"
    try:
        with tempfile.TemporaryFile(dir=settings.UPLOADS) as file:
            write(export, file)
            size = file.tell()
            file.seek(0)
            say(export, part=STORING, done=F("total"))
            stored = default_storage.save(path, Opened(file))
    except Stopped:
        return
    now = timezone.now()
    ended = mine(export).update(
        state=Export.State.DONE,
        path=stored,
        size_bytes=size,
        part="",
        done=F("total"),
        working_until=None,
        finished_at=now,
        expires_at=now + KEPT,
    )
    if not ended:
        default_storage.delete(stored)
        return
    ring(export)


@transaction.atomic
def take(export_id: UUID) -> Export | None:
    now = timezone.now()
    free = Q(state=Export.State.WAITING) | Q(state=Export.State.RUNNING, working_until__lt=now)
    export = Export.objects.select_for_update(skip_locked=True, of=("self",)).filter(free, pk=export_id).first()
    if export is None:
        return None
    transaction.on_commit(lambda: ring(export))
    export.take += 1
    if export.take > TAKES:
        export.state, export.finished_at, export.working_until = Export.State.FAILED, now, None
        export.save(update_fields=["state", "finished_at", "working_until"])
        log.error("an export failed", extra={"export": export.public_id})
        return None
    export.state, export.working_until, export.begun_at = Export.State.RUNNING, now + WORK, now
    export.part, export.done, export.total = "", 0, 0
    export.save(update_fields=["take", "state", "working_until", "begun_at", "part", "done", "total"])
    return export


def mine(export: Export) -> models.QuerySet[Export]:
    return Export.objects.filter(pk=export.pk, take=export.take, state=Export.State.RUNNING)


def say(export: Export, **fields: Any) -> None:
    """How far it is, and that it lives. Raises Stopped."""
    if not mine(export).update(working_until=timezone.now() + WORK, **fields):
        raise Stopped
    ring(export)


def write(export: Export, file: IO[bytes]) -> None:
    organization = export.organization
    every = parts(organization)
    say(export, total=sum(part.rows.count() for part in every))
    done, said = 0, time.monotonic()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        about = ABOUT.format(name=organization.name, id=organization.public_id, at=f"{timezone.now():%Y-%m-%d %H:%M}")
        archive.writestr("README.txt", about)
        archive.writestr("organization.json", line(whole(organization)))
        for part in every:
            say(export, part=part.name, done=done)
            with archive.open(f"{part.name}.jsonl", "w") as out, io.TextIOWrapper(out, "utf-8") as text:
                for row in part.rows.iterator(chunk_size=CHUNK):
                    text.write(line(part.written(row)))
                    done += 1
                    if time.monotonic() - said > SAID_EVERY:
                        said = time.monotonic()
                        say(export, done=done)


def line(row: dict[str, Any]) -> str:
    return json.dumps(row, cls=DjangoJSONEncoder, ensure_ascii=False, separators=(",", ":")) + "\n"


def whole(row: models.Model, *, but: tuple[str, ...] = ()) -> dict[str, Any]:
    """Every column, but bytes and those named; things with a public id have it as `public_id`."""
    found = {
        field.attname: field.value_from_object(row)
        for field in row._meta.concrete_fields
        if field.attname not in but and not isinstance(field, models.BinaryField)
    }
    shown = getattr(row, "public_id", None)
    return {"public_id": shown, **found} if shown else found


def parts(organization: Organization) -> list[Part]:
    own: dict[str, Any] = {"organization": organization}
    return [
        Part("members", Membership.objects.filter(**own).select_related("user").order_by("pk"), member),
        Part("invitations", Invitation.objects.filter(**own).order_by("pk"), whole),
        Part("api_keys", APIKey.objects.filter(**own).order_by("pk"), lambda row: whole(row, but=("sha256",))),
        Part("webhooks", Endpoint.objects.filter(**own).order_by("pk"), webhook),
        Part("limits", Budget.objects.filter(**own).order_by("pk"), whole),
        Part("company", Company.objects.filter(**own).order_by("pk"), whole),
        Part("payments", TopUp.objects.filter(**own).order_by("pk"), lambda row: whole(row, but=("checkout_url",))),
        Part("refunds", Refund.objects.filter(**own).order_by("pk"), whole),
        Part("invoices", Invoice.objects.filter(**own).order_by("pk"), whole),
        Part("transfers", Transfer.objects.filter(**own).order_by("pk"), whole),
        Part("batches", Batch.objects.filter(**own).order_by("pk"), whole),
        Part("files", File.objects.filter(**own, status=File.Status.PROCESSED).order_by("pk"), lambda row: whole(row, but=("path",))),
        Part("jobs", Job.objects.filter(**own).order_by("pk"), lambda row: whole(row, but=("fence", "claimant"))),
        Part("texts", Content.objects.filter(job__organization=organization).order_by("pk"), text),
        Part("audit", AuditEvent.objects.filter(**own).select_related("actor").order_by("pk"), event),
    ]  # fmt: skip


def member(row: Membership) -> dict[str, Any]:
    return {
        "email": row.user.email,
        "name": row.user.name,
        "role": row.role,
        "joined_at": row.created_at,
        "last_active_at": row.last_active_at,
    }


def webhook(row: Endpoint) -> dict[str, Any]:
    secrets = tuple(field.attname for field in row._meta.concrete_fields if "secret" in field.attname)
    return whole(row, but=secrets)


def text(row: Content) -> dict[str, Any]:
    try:
        return {"job_id": row.job_id, "request": row.asked or row.request, "text": row.text, "result": row.result}
    except PortalError:
        return {"job_id": row.job_id, "error": "The portal cannot read this text any more."}


def event(row: AuditEvent) -> dict[str, Any]:
    """Staff have no names for customers."""
    actor = None if row.actor is None else "staff" if row.actor.is_staff else row.actor.email
    return {**whole(row, but=("actor_id", "organization_id", "address")), "actor": actor}


def sweep(now: datetime | None = None) -> list[UUID]:
    """Take away files whose time is over. Returns the exports that a worker is to be told of."""
    now = now or timezone.now()
    for export in Export.objects.filter(expires_at__lte=now).exclude(path="")[:CHUNK]:
        default_storage.delete(export.path)
        Export.objects.filter(pk=export.pk).update(path="")
        ring(export)
    waiting = Q(state=Export.State.WAITING) | Q(state=Export.State.RUNNING, working_until__lt=now)
    return list(Export.objects.filter(waiting).order_by("pk").values_list("pk", flat=True)[:CHUNK])
