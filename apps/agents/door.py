"""`/agent/v1/…`: what runners call. Each call carries its node's token; file and body URLs carry their own signature."""

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from functools import wraps
from typing import TypeVar
from uuid import UUID

from django.conf import settings
from psycopg.errors import DataError, IntegrityError, OperationalError
from psycopg_pool import PoolTimeout
from pydantic import BaseModel, ValidationError

from apps.agents.heartbeats import NOTHING, collector
from apps.agents.standing import standing
from apps.batches import collecting, shards
from apps.batches import services as batches
from apps.core.asgi import Handler, Request, door
from apps.core.errors import InvalidRequest, NotAllowed, NotFound, Unavailable
from apps.core.signing import verified
from apps.core.sql import Plan, Row, Statement
from apps.dispatch import outcomes, reporting
from apps.files import reading
from apps.files import statements as files
from apps.jobs import sealed
from apps.jobs import statements as jobs
from apps.jobs.statements import StaleState
from apps.keys.addresses import client_address
from apps.live import bell
from apps.runner.protocol import (
    BurnInResult,
    DrainWish,
    Enrolment,
    Heartbeat,
    Renewal,
    Report,
    ReportAnswer,
    Reports,
    ReportsAnswer,
    Telemetry,
    TelemetryAnswer,
)
from apps.sites import burning_in, drains, enrolment
from apps.telemetry import counting
from cango_portal import database

log = logging.getLogger(__name__)

REQUEST = f"SELECT {sealed.REQUEST} FROM jobs_content c WHERE c.job_id = %(id)s"  # noqa: S608 - a constant goes in
MAX_BEAT = 1024 * 1024
SAID_NOTHING = NOTHING.model_dump_json(exclude_none=True).encode()  # what nearly every beat hears
MAX_BODY = 64 * 1024 * 1024  # a batch of reports carries results
AT_ONCE = 4  # reports of one call that are written side by side: their commits share one flush of the disk

# Taken at its word such a report can never be written; it keeps no other report of its call back.
UNWRITABLE = (ValueError, OverflowError, DataError, IntegrityError, RuntimeError, StaleState)

Shape = TypeVar("Shape", bound=BaseModel)


def reachable(handler: Handler) -> Handler:
    """Without the database: 503, and the runner asks again."""

    @wraps(handler)
    async def guarded(request: Request) -> None:
        try:
            await handler(request)
        except (OperationalError, PoolTimeout) as error:
            raise Unavailable("The database is away; try again.", retry_after_seconds=1) from error

    return guarded


async def node_of(request: Request) -> int:
    right = enrolment.right(request.bearer, now=time.time())
    found = await database.run_async(enrolment.holders([right]))
    if right not in found:
        raise enrolment.unknown()
    return found[right]


async def read(request: Request, shape: type[Shape], *, limit: int = MAX_BODY) -> Shape:
    try:
        return shape.model_validate_json(await request.body(limit=limit))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise InvalidRequest(f"{first['msg']}.", param=".".join(str(part) for part in first["loc"])) from error


async def enrol(request: Request) -> None:
    """A machine becomes a node. Its one-time token is in the body, and no other is asked for."""
    given = await read(request, Enrolment)
    address = client_address(
        (request.scope.get("client") or (None,))[0],
        request.headers.get("x-forwarded-for"),
        proxies=settings.ALLAUTH_TRUSTED_PROXY_COUNT,
    )
    answer = await database.run_async(enrolment.enrol(given, address=address))
    log.warning("a machine was enrolled", extra={"node": answer.node, "state": answer.state, "reason": answer.reason})
    await request.json(answer.model_dump(mode="json"))


async def renew(request: Request) -> None:
    given = await read(request, Renewal)
    answer = await database.run_async(enrolment.renew(given, now=time.time()))
    await request.json(answer.model_dump(mode="json"))


async def heartbeat(request: Request) -> None:
    """The collector asks the database whose token it is, for many beats at once."""
    right = enrolment.right(request.bearer, now=time.time())
    beat = await read(request, Heartbeat, limit=MAX_BEAT)
    answer = await collector().add(right, beat)
    await request.answer(answer.model_dump_json(exclude_none=True).encode() if answer is not NOTHING else SAID_NOTHING)


async def node(request: Request) -> None:
    told = await database.run_async(standing(await node_of(request)))
    await request.json(told.model_dump(mode="json"))


async def drain(request: Request) -> None:
    """The machine asks to be taken out of work; the answer is how it stands then."""
    node_id = await node_of(request)
    wish = await read(request, DrainWish)
    await database.run_async(drains.ask(node_id, seconds=wish.seconds, reason=wish.reason))
    log.warning("a node asked to be drained", extra={"node": node_id, "seconds": wish.seconds})
    told = await database.run_async(standing(node_id))
    await request.json(told.model_dump(mode="json"))


async def telemetry(request: Request) -> None:
    """200 means counted. What was counted before is not counted again."""
    node_id = await node_of(request)
    told = await read(request, Telemetry)
    seq = await database.run_async(counting.count(node_id, told, now=time.time()))
    await request.json(TelemetryAnswer(seq=seq).model_dump(mode="json"))


async def burn_in(request: Request) -> None:
    node_id = await node_of(request)
    result = await read(request, BurnInResult)
    answer = await database.run_async(burning_in.record(node_id, result))
    log.info("a burn-in ended", extra={"node": node_id, "pool": result.pool[:63], "passed": result.passed})
    await request.json(answer.model_dump(mode="json"))


async def reports(request: Request) -> None:
    """200 means committed. Each report is a transaction of its own, so one that is refused keeps no other back."""
    node_id = await node_of(request)
    batch = await read(request, Reports)
    began = await starts(batch.reports, node_id)
    ends = ending(batch.reports)
    rows = await database.run_async(jobs.reads(ends)) if ends else {}
    turns = asyncio.Semaphore(AT_ONCE)

    async def take(news: Report) -> ReportAnswer:
        if news.kind == "started" and (news.job, news.attempt) in began:
            return ReportAnswer(job=news.job, attempt=news.attempt, accepted=True)
        async with turns:
            outcome, ready = await taken(news, node_id, rows)
        await outcome.announce_async()
        if ready is not None:
            await batches.hurry_async(ready)
        return ReportAnswer(job=news.job, attempt=news.attempt, accepted=outcome.accepted)

    # What is said of one job is taken in its order; the jobs do not wait for each other.
    by_job: dict[str, list[Report]] = {}
    for news in batch.reports:
        by_job.setdefault(news.job, []).append(news)

    async def take_all(said: list[Report]) -> list[ReportAnswer]:
        return [await take(news) for news in said]

    answers = await asyncio.gather(*(take_all(said) for said in by_job.values()))
    await request.json(ReportsAnswer(answers=[each for said in answers for each in said]).model_dump(mode="json"))


async def starts(reports: list[Report], node_id: int) -> set[tuple[str, int]]:
    """Write the starts among them together. Returns which began: nearly always all; each of the others is one for itself."""
    news = [each for each in reports if each.kind == "started"]
    if not news:
        return set()
    try:
        began = await database.run_async(reporting.starts(news, node_id=node_id))
    except (DataError, IntegrityError):  # one of them is malformed
        return set()
    await bell.ring_async(*{topic for outcome in began.values() for topic in outcome.topics})
    return set(began)


def ending(reports: list[Report]) -> list[UUID]:
    """The jobs whose end is told; one whose start is told with it has moved on before its end is taken."""
    told = [each for each in reports if each.kind == "finished" and not each.shard]
    moving = {each.job for each in reports if each.kind != "finished"}
    found = []
    for each in told:
        if each.job not in moving:
            with contextlib.suppress(ValueError):
                found.append(UUID(each.job))
    return found


async def taken(news: Report, node_id: int, rows: Mapping[UUID, Row]) -> tuple[outcomes.Outcome, UUID | None]:
    """What became of it, and the batch whose files are to be written now, where it was the last of one.

    `rows` are the jobs that end, as they were just read.
    """
    try:
        try:
            return await written(news, node_id, rows)
        except StaleState:  # its job was moved on at the same moment: as it stands now it may be taken
            return await written(news, node_id, {})
    except UNWRITABLE:
        log.exception("a report cannot be written", extra={"job": news.job[:40], "node": node_id})
        return outcomes.REFUSED, None


async def written(news: Report, node_id: int, read: Mapping[UUID, Row]) -> tuple[outcomes.Outcome, UUID | None]:
    job_id = UUID(news.job)
    if news.shard and news.kind != "started":
        rows = await database.run_async(collecting.report(news, node_id=node_id))
        return rows.outcome, rows.ready
    return await database.run_async(reporting.report(news, node_id=node_id, job=read.get(job_id))), None


def check_signature(request: Request) -> None:
    query = request.query
    if not verified(
        request.path,
        expires=query.get("expires", ""),
        given=query.get("signature", ""),
        secret=settings.SECRET_KEY,
        now=time.time(),
    ):
        raise NotAllowed("This address has expired or was changed.", code="invalid_signature")


def identifier(request: Request) -> UUID:
    try:
        return UUID(request.scope["path_params"]["id"])
    except ValueError:
        raise NotFound("There is nothing at this address.") from None


async def body(request: Request) -> None:
    check_signature(request)
    job_id = identifier(request)
    place = await database.run_async(shards.place_of(job_id))
    if place is not None:
        content_of_shard = await asyncio.to_thread(shards.tasks, place)
        return await request.answer(content_of_shard, content_type="application/jsonl")
    content = await database.run_async(request_of(job_id))
    if content is None:
        raise NotFound("This request is no longer kept.")
    return await request.json(content)


def request_of(job_id: UUID) -> Plan[dict[str, object] | None]:
    """Raises Unreadable."""
    rows = yield Statement(REQUEST, {"id": job_id}, alone=True)
    found: dict[str, object] | None = sealed.request_of(rows[0]).request if rows else None
    return found


async def file(request: Request) -> None:
    check_signature(request)
    stored = await database.run_async(files.stored(identifier(request)))
    if stored is None:
        raise NotFound("This file is no longer kept.")
    parts = reading.parts(stored["path"])
    part = await anext(parts, b"")  # one that cannot be read is refused before anything is answered
    await request.start(200, {"content-type": "application/octet-stream", "content-length": str(stored["size_bytes"])})
    while part:
        await request.send({"type": "http.response.body", "body": part, "more_body": True})
        part = await anext(parts, b"")
    await request.send({"type": "http.response.body", "body": b""})


application = door(
    {
        ("POST", "/agent/v1/enroll"): reachable(enrol),
        ("POST", "/agent/v1/renew"): reachable(renew),
        ("POST", "/agent/v1/heartbeat"): reachable(heartbeat),
        ("GET", "/agent/v1/node"): reachable(node),
        ("POST", "/agent/v1/drain"): reachable(drain),
        ("POST", "/agent/v1/burn-in"): reachable(burn_in),
        ("POST", "/agent/v1/telemetry"): reachable(telemetry),
        ("POST", "/agent/v1/reports"): reachable(reports),
        ("GET", "/agent/v1/files/{id}"): reachable(file),
        ("GET", "/agent/v1/bodies/{id}"): reachable(body),
    }
)
