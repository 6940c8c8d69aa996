"""What has no answer, or all of it, once more: the lines of a batch's own file, as a new file and a new batch."""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.utils.translation import gettext

from apps.batches import services
from apps.batches.models import Batch, Row
from apps.core.errors import NotFound
from apps.files import services as files
from apps.files import statements as stored
from apps.files.models import File
from apps.keys.services import Caller
from apps.wire.batches import batch_request
from cango_portal import database

OK = 200


def repeat(batch: Batch, *, caller: Caller, batch_id: UUID, whole: bool = False) -> None:
    """Make the batch `batch_id` of the lines of `batch` that have no answer (`whole`: of all), on the same terms.

    Raises IntegrityError where it exists, NotFound where the input file is gone, StorageFull, and what `services.create`
    does; then nothing is kept.
    """
    source = database.run(stored.found(batch.organization_id, batch.input_file_id))
    answered = set() if whole else set(Row.objects.filter(batch=batch, status=OK).values_list("line", flat=True))
    with files.writer(
        organization_id=batch.organization_id, name=f"again-{source['name']}", purpose=File.Purpose.BATCH
    ) as out:
        with files.open_lines(source["path"], longest=settings.MAX_BODY_BYTES) as lines:
            for line in lines:
                if line.content and line.number not in answered:
                    out.write(line.content + b"\n")
        if not out.size_bytes:
            raise NotFound(gettext("Every row of this batch has an answer."), code="batch_state")
        file = out.commit()
    asked = batch_request(
        {
            "input_file_id": file.public_id,
            "endpoint": batch.endpoint,
            "completion_window": "24h",
            "metadata": batch.metadata,
            "max_power_usd_per_mwh": batch.max_power_usd_per_mwh,
        }
    )
    try:
        database.run(services.create(caller, asked, batch_id=batch_id))
    except BaseException:
        files.discard(file.pk, file.path)
        raise
    services.hurry(batch_id)
