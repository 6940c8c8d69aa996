"""A batch that is prepared on a page: its file kept, looked at, and sent when somebody says so."""

from __future__ import annotations

import logging
from datetime import datetime
from typing import Any

from django.conf import settings
from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.utils.translation import gettext
from kombu.exceptions import OperationalError

from apps.accounts.models import Organization, User
from apps.batches import services, tasks
from apps.batches.models import Draft
from apps.core.ids import public
from apps.files import services as files
from apps.files import statements as stored
from apps.files.models import File
from apps.keys.services import Caller
from apps.wire.batches import batch_request
from cango_portal import database

log = logging.getLogger(__name__)

MOST_CHECKING = 10  # of one organization


def upload(*, organization: Organization, given: UploadedFile[Any]) -> File:
    """Keep a file for batches, a piece at a time. Raises StorageFull and Unavailable; then nothing is kept."""
    with files.writer(organization_id=organization.pk, name=given.name or "", purpose=File.Purpose.BATCH.value) as out:
        for part in given.chunks():
            out.write(part)
        return out.commit()


def prepare(
    *,
    organization: Organization,
    user: User,
    file: File,
    endpoint: str,
    name: str = "",
    max_power_usd_per_mwh: float | None = None,
    deadline_at: datetime | None = None,
) -> Draft:
    """A draft whose file is checked from now on. Raises TooManyBatches."""
    checking = Draft.objects.filter(organization=organization, state=Draft.State.CHECKING)
    if checking.count() >= MOST_CHECKING:
        raise services.TooManyBatches(
            gettext("%(most)s files of this organization are being checked, the most at once. Wait until one is.")
            % {"most": MOST_CHECKING},
            retry_after_seconds=10,
        )
    draft = Draft.objects.create(
        organization=organization,
        user=user,
        name=name,
        endpoint=endpoint,
        input_file_id=file.pk,
        max_power_usd_per_mwh=max_power_usd_per_mwh,
        deadline_at=deadline_at,
    )
    try:
        tasks.check_draft.apply_async(args=(str(draft.pk),), retry=False)
    except OperationalError:
        log.warning("broker away, a draft waits for the sweep")
    return draft


def start(draft: Draft, *, caller: Caller, without_bad_lines: bool) -> None:
    """Make the batch of its id; without its bad lines of a new file, which has only the good ones. The draft is over.

    Raises IntegrityError where the batch exists, and what `services.create` does; then nothing is kept.
    """
    file_id, made = draft.input_file_id, None
    if without_bad_lines:
        made = mended(draft)
        file_id = made.pk
    asked = {
        "input_file_id": public("file", file_id),
        "endpoint": draft.endpoint,
        "completion_window": "24h",
        "metadata": {"name": draft.name} if draft.name else None,
        "max_power_usd_per_mwh": draft.max_power_usd_per_mwh,
        "deadline_at": int(draft.deadline_at.timestamp()) if draft.deadline_at else None,
    }
    try:
        with transaction.atomic():
            database.run(services.create(caller, batch_request(asked), batch_id=draft.pk))
            Draft.objects.filter(pk=draft.pk).delete()
    except BaseException:
        if made is not None:
            files.discard(made.pk, made.path)
        raise
    services.hurry(draft.pk)


def mended(draft: Draft) -> File:
    """The good lines of its file as a file of their own. Raises NotFound, StorageFull, Unavailable."""
    source = database.run(stored.found(draft.organization_id, draft.input_file_id))
    bad = set(draft.bad_lines or ())
    with files.writer(
        organization_id=draft.organization_id, name=f"good-{source['name']}", purpose=File.Purpose.BATCH.value
    ) as out:
        with files.open_lines(source["path"], longest=settings.MAX_BODY_BYTES) as lines:
            for line in lines:
                if line.content and line.number not in bad:
                    out.write(line.content + b"\n")
        return out.commit()
