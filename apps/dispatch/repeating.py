"""The same work once more: a background job with what an earlier one was asked."""

from __future__ import annotations

from dataclasses import replace

from apps.catalog import offers
from apps.catalog.models import Model, Tier
from apps.core.errors import PortalError
from apps.dispatch import intake
from apps.dispatch.work import Work
from apps.jobs.models import Job
from cango_portal import database


class NotRepeatable(PortalError):
    """What it was asked is not kept any more. Nothing was started."""

    code, status, retryable = "job_not_repeatable", 409, False


def work(job: Job) -> Work:
    """By the model's prices and limits of now, at the places of then. Raises NotRepeatable, NotFound where the model left, InvalidRequest."""
    offer = intake.found(database.run(offers.offer(job.model.name)), job.model.name)
    tier = Tier.FLEXIBLE.value if job.tier == Tier.FLEXIBLE else Tier.STANDARD.value
    rule = None if job.residency is None else tuple(job.residency)
    if job.kind == Model.Kind.OCR:
        if job.file is None:
            raise NotRepeatable("The file of this job is no longer kept. Send it again to /api/v1/jobs.")
        return replace(intake.ocr_work(offer, job.file, tier=tier), residency=rule)
    content = getattr(job, "content", None)
    request = content.request if content and isinstance(content.request, dict) else {}
    if not request:
        raise NotRepeatable("What this job was asked is no longer kept. Send the request again.")
    return replace(intake.background_work(offer, request, tier=tier), residency=rule)
