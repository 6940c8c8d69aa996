"""A site's part in a job, step by step: what a runner would write and report."""

import time
from datetime import timedelta
from typing import Any
from uuid import UUID

import redis
from django.utils import timezone

from apps.core.sql import Plan, Statement
from apps.dispatch import reporting
from apps.dispatch.outcomes import Outcome
from apps.jobs.models import Job
from apps.runner.protocol import End, Energy, Entry, Failure, Report, Usage, stream
from apps.sites.models import Listening
from cango_portal import database


def report(job: Job, kind: str = "finished", *, claimant: str = "runner-1", **fields: Any) -> Report:
    job.refresh_from_db()
    given = {"state": "succeeded", "usage": Usage(prompt_tokens=10, completion_tokens=20)} if kind == "finished" else {}
    return Report(
        **{
            "kind": kind,
            "job": str(job.pk),
            "attempt": job.attempt,
            "fence": str(job.fence),
            "claimant": claimant,
            "at": time.time(),
            **given,
            **fields,
        }
    )


def deliver(news: Report, **kwargs: Any) -> Outcome:
    outcome = database.run(reporting.report(news, **kwargs))
    outcome.announce()
    return outcome


def write(
    client: redis.Redis,
    job: Job,
    *texts: str,
    claimant: str = "runner-1",
    completion_tokens: int = 0,
    end: End | None = None,
) -> None:
    """The claim and some chunks on the job's stream."""
    key = stream(job.pool.code, str(job.pk), job.attempt)
    common = {"claimant": claimant, "fence": str(job.fence)}
    client.xadd(key, {"e": Entry(**common).model_dump_json()})
    for seq, text in enumerate(texts):
        entry = Entry(
            **common,
            seq=seq,
            chunks=[[{"index": 0, "delta": {"content": text}}]],
            usage=Usage(prompt_tokens=10, completion_tokens=completion_tokens),
            end=end,
        )
        client.xadd(key, {"e": entry.model_dump_json()})


def heard(*, since: float = 3600, at: float = 0) -> None:
    """The portal's doors have heard runners since so many seconds, and said so last so many seconds ago.

    A server of an earlier test may still say it for itself, and since when it does.
    """
    now = timezone.now()
    given = {"since": now - timedelta(seconds=since), "at": now - timedelta(seconds=at)}
    Listening.objects.update_or_create(pk=1, defaults=given)


def lose(job: Job) -> None:
    """Let the lease run out, of a runner that is silent."""
    heard()
    database.run(
        _run("UPDATE jobs_job SET lease_expires_at = clock_timestamp() - interval '1 second' WHERE id = %(id)s", job.pk)
    )


def pass_deadline(job: Job) -> None:
    database.run(
        _run("UPDATE jobs_job SET deadline_at = clock_timestamp() - interval '1 second' WHERE id = %(id)s", job.pk)
    )


def _run(sql: str, pk: UUID) -> Plan[None]:
    yield Statement(sql, {"id": pk})


ENERGY = Energy(gpu_energy_mj=3_600, quality="counter")
ENGINE_AWAY = Failure(code="engine_unavailable", message="The engine stopped.", status=503, retryable=True)
BAD_REQUEST = Failure(code="context_length_exceeded", message="The prompt is too long for this model.", status=400)
