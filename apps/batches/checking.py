"""The check of a batch's file: every bad line is named, and a good file becomes shards, a hold and `in_progress`."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import transaction

from apps.batches import finalizing, keeping, news, shards, statements
from apps.batches.claims import Claim, Stopped
from apps.batches.endpoints import ENDPOINTS
from apps.billing import entitlements
from apps.catalog import offers
from apps.catalog.models import Tier
from apps.catalog.offers import Offer
from apps.core.errors import InvalidRequest, PortalError
from apps.core.ids import public
from apps.core.sql import Plan, Row, Statement
from apps.dispatch import intake
from apps.dispatch.work import Work
from apps.files import services as files
from apps.files import statements as stored
from apps.files.reading import Line
from apps.files.sealing import Unreadable
from apps.jobs.models import Job
from apps.keys.services import Caller
from apps.ledger import statements as ledger
from apps.wire import batches as wire
from apps.wire import ceilings
from apps.wire.bodies import parse
from cango_portal import database

log = logging.getLogger(__name__)

MOST_ERRORS = 1000  # bad lines that are listed; the rest are counted
NAMES = 100  # of models a file may try
# A shard: enough rows to fill an engine, few enough that one lost with its site is soon done again.
SHARD_ROWS = 200
SHARD_BYTES = 4 * 1024 * 1024
SHARD_TOKENS, LEAST_ROWS = 200_000, 64  # output tokens at most, once it has rows enough for an engine

BUDGETS = """
SELECT array_remove(ARRAY[k.budget_id, m.id], NULL) AS budgets FROM (SELECT %(key)s::uuid AS key, %(user)s::bigint AS member) asked
LEFT JOIN keys_apikey k ON k.id = asked.key
LEFT JOIN ledger_budget m ON m.kind = 'member' AND m.organization_id = %(organization)s AND m.user_id = coalesce(asked.member, k.created_by_id)
"""
# As new files of an organization do: keys of foreign rows do not wait for it.
LOCK_ORGANIZATION = "SELECT 1 FROM accounts_organization WHERE id = %(organization)s FOR NO KEY UPDATE"
QUEUED = """
SELECT coalesce(sum(input_tokens_ceiling), 0)::bigint AS tokens FROM batches_batch
WHERE organization_id = %(organization)s AND model_id = %(model)s AND state = 'in_progress' AND id <> %(batch)s
"""


class TooManyTokens(PortalError):
    """As the official API calls its own limit. Nothing was held."""

    code, status, type = "token_limit_exceeded", 429, "rate_limit_error"


@dataclass(slots=True)
class Cutting:
    """One shard as it is being cut."""

    first_line: int
    parts: list[bytes] = field(default_factory=list)
    ceilings: list[int] = field(default_factory=list)
    size: int = 0
    tokens: int = 0

    @property
    def full(self) -> bool:
        return (
            len(self.parts) >= SHARD_ROWS
            or self.size >= SHARD_BYTES
            or (len(self.parts) >= LEAST_ROWS and self.tokens >= SHARD_TOKENS)
        )


class Check:
    """Reads one file. What it holds in memory: a digest of each `custom_id`, one shard, and the errors it lists."""

    def __init__(self, batch: Row, claim: Claim) -> None:
        self.batch = batch
        self.claim = claim
        self.endpoint: str = batch["endpoint"]
        self.errors: list[dict[str, Any]] = []
        self.bad = 0
        self.lines = 0
        self.inputs = 0
        self.seen: set[bytes] = set()
        self.known: dict[str, Offer | None] = {}
        self.offer: Offer | None = None
        self.discount = 0
        self.cutting: Cutting | None = None
        self.shards: list[dict[str, Any]] = []
        self.hold = 0
        self.input_tokens = 0  # at most
        allowed = batch["allowed_models"]
        self.caller = Caller(
            organization_id=batch["organization_id"],
            api_key_id=batch["api_key_id"],
            user_id=batch["user_id"],
            allowed_models=None if allowed is None else frozenset(allowed),
        )

    def run(self) -> None:
        """Read it all. Raises Stopped. Then either `errors` or `shards` are there."""
        file = database.run(stored.stored(self.batch["input_file_id"]))
        if file is None:
            self.wrong("file_not_found", "The input file is not stored any more. Upload it again.", "input_file_id")
        elif file["size_bytes"] > wire.MAX_BYTES:
            self.wrong(
                "file_too_large",
                f"The file has {file['size_bytes']:,} bytes and a batch takes {wire.MAX_BYTES:,}. Split it.",
                "input_file_id",
            )
        else:
            try:
                self.open(file["path"])
            except Unreadable as error:
                self.wrong(error.reason, f"{error.message} Upload it again.", "input_file_id")
        if not self.lines and not self.bad:
            self.wrong("empty_file", "The file has no lines. Each request is a line of JSON.", "input_file_id")
        if self.bad > len(self.errors):
            left = self.bad - len(self.errors)
            self.errors.append(
                {"code": "more_errors", "message": f"And {left:,} more lines are wrong.", "param": None, "line": None}
            )
        if self.errors:
            self.discard()
        else:
            self.store()

    def open(self, path: str) -> None:
        """Raises Stopped, Unreadable."""
        with files.open_lines(path, longest=settings.MAX_BODY_BYTES) as lines:
            if lines.bom:
                says = "The file begins with a byte order mark. Save it as UTF-8 without one."
                self.wrong("invalid_json_line", says, None, 1)
            self.read(lines)

    def read(self, lines: Iterable[Line]) -> None:
        blank = 0  # only at the end are blank lines nothing
        for line in lines:
            number = line.number
            self.claim.alive()
            if not line.content:
                blank += 1
            elif blank:
                says = (
                    "This line is empty. Take it out." if blank == 1 else f"{blank:,} lines are empty. Take them out."
                )
                self.wrong("invalid_json_line", says, None, number - blank)
                blank = 0
            if (number if line.content else blank) > wire.MAX_LINES:
                self.wrong(
                    "too_many_requests",
                    f"A batch has at most {wire.MAX_LINES:,} requests. Split the file.",
                    None,
                    number,
                )
                return
            if not line.content:
                continue
            self.lines += 1
            try:
                self.take(line)
            except InvalidRequest as error:
                code = "invalid_json_line" if error.reason == "invalid_json" else error.reason
                self.wrong(code, error.message, error.param, number)
            except PortalError as error:
                self.wrong(error.reason, error.message, error.param, number)

    def take(self, given: Line) -> None:
        if given.cut:
            raise InvalidRequest(
                f"This line has more than {settings.MAX_BODY_BYTES:,} bytes.", code="request_too_large"
            )
        line = wire.batch_line(parse(given.content), endpoint=self.endpoint)
        digest = hashlib.blake2b(line.custom_id.encode(), digest_size=16).digest()
        if digest in self.seen:
            raise InvalidRequest(
                f"The custom_id '{line.custom_id[:100]}' is used by an earlier line. Each must be its own.",
                param="custom_id",
                code="duplicate_custom_id",
            )
        self.seen.add(digest)
        self.good(given.number, line, self.work(line.body))

    def good(self, number: int, line: wire.BatchLine, work: Work) -> None:
        if not self.bad:
            kept = ENDPOINTS[self.endpoint].kept(work, line.body)
            self.cut(number, work, shards.line_of(number, line.custom_id, work, kept))

    def work(self, body: dict[str, Any]) -> Work:
        if body.get("stream"):
            raise InvalidRequest(
                "A batch is not streamed. Leave 'stream' out.", param="body.stream", code="invalid_value"
            )
        if body.get("service_tier") == "flex":
            raise InvalidRequest(
                "A batch has its own price. Leave 'service_tier' out.", param="body.service_tier", code="invalid_value"
            )
        offer = self.offered(body.get("model"))
        endpoint = ENDPOINTS[self.endpoint]
        if endpoint.models:
            intake.of_kind(offer, endpoint.models)
        try:
            work = replace(endpoint.work(offer, body), tier=Tier.BATCH.value)
        except InvalidRequest as error:
            error.param = f"body.{error.param}" if error.param else "body"
            raise
        if endpoint.kind == Job.Kind.EMBEDDINGS:
            self.inputs += len(ceilings.inputs(body["input"]))
            if self.inputs > wire.MAX_INPUTS:
                raise InvalidRequest(
                    f"A batch has at most {wire.MAX_INPUTS:,} inputs in all its requests. Split the file.",
                    param="body.input",
                    code="too_many_inputs",
                )
        return work

    def offered(self, name: Any) -> Offer:
        if not isinstance(name, str) or not name:
            raise InvalidRequest(
                "Missing required parameter: 'body.model'.", param="body.model", code="missing_required_parameter"
            )
        if self.offer is not None and name != self.offer.name:
            raise InvalidRequest(
                f"A batch has one model, and an earlier line names '{self.offer.name}'.",
                param="body.model",
                code="mismatched_model",
            )
        self.caller.require_model(name)
        if name not in self.known and len(self.known) < NAMES:
            self.known[name] = database.run(offers.offer(name))
        offer = intake.found(self.known.get(name), name)
        if self.offer is None:
            self.offer = offer
            self.discount = database.run(offers.discount(self.batch["organization_id"], offer.model_id))
        return offer

    def cut(self, number: int, work: Work, part: bytes) -> None:
        if self.cutting is not None and self.cutting.full:
            self.store()
        cutting = self.cutting = self.cutting or Cutting(first_line=number)
        ceiling = work.ceiling_microusd(discount_basis_points=self.discount)
        cutting.parts.append(part)
        cutting.ceilings.append(ceiling)
        cutting.size += len(part)
        cutting.tokens += work.max_completion_tokens
        self.hold += ceiling
        self.input_tokens += work.prompt_tokens_ceiling

    def store(self) -> None:
        """The shard that was being cut, into a file of its own."""
        cutting, self.cutting = self.cutting, None
        if cutting is None:
            return
        number = len(self.shards)
        path = shards.path_of(self.batch["organization_id"], self.batch["id"], self.claim.name, number)
        self.shards.append(
            {
                "number": number,
                "first_line": cutting.first_line,
                "lines": len(cutting.parts),
                "path": default_storage.save(path, ContentFile(b"".join(cutting.parts))),
                "ceilings": cutting.ceilings,
            }
        )

    def discard(self) -> None:
        for shard in self.shards:
            default_storage.delete(shard["path"])
        self.shards = []
        self.cutting = None

    def wrong(self, code: str, message: str, param: str | None, line: int | None = None) -> None:
        self.bad += 1
        if len(self.errors) < MOST_ERRORS:
            self.errors.append({"code": code, "message": message, "param": param, "line": line})


def check(batch_id: UUID) -> None:
    """Check one batch. Safe to run again after any crash, and at the same time: one of them begins it."""
    batch = database.run(statements.claim(batch_id, "validating"))
    if batch is None:
        return
    reader = Check(batch, Claim(batch))
    try:
        with reader.claim.kept():
            shards.remove(batch["organization_id"], batch_id, before=reader.claim.name)
            reader.run()
        if reader.errors:
            fail(reader, reader.errors)
            return
        database.run(begin(batch, reader))
    except Stopped:
        reader.discard()
        return
    except PortalError as refused:  # credit, a budget, or a payment that is owed: nothing was held
        reader.discard()
        fail(reader, [{"code": refused.reason, "message": refused.message, "param": None, "line": None}])
        return
    log.info("batch begins", extra={"batch": public("batch", batch_id), "rows": reader.lines})
    news.changed(batch_id, batch["organization_id"])


def begin(batch: Row, reader: Check) -> Plan[None]:
    """Shards, hold and state together. The account row is touched last. Raises Stopped, InsufficientCredit and its like."""
    assert reader.offer is not None
    begun = yield from statements.move(
        batch["id"],
        "in_progress",
        sources=("validating",),
        token=reader.claim.token,
        model_id=reader.offer.model_id,
        price_id=reader.offer.price.id,
        discount_basis_points=reader.discount,
        total=reader.lines,
        hold_microusd=reader.hold,
        input_tokens_ceiling=reader.input_tokens,
    )
    if not begun:
        raise Stopped
    yield from check_queue(batch, reader)
    yield from statements.cut(batch["id"], reader.shards)
    yield from shards.open_next(batch["id"])
    budgets = yield Statement(
        BUDGETS,
        {"key": batch["api_key_id"], "user": batch["user_id"], "organization": batch["organization_id"]},
    )
    yield from ledger.reserve(
        batch["organization_id"], reader.hold, shards.hold_key(batch["id"]), tuple(budgets[0]["budgets"])
    )


def check_queue(batch: Row, reader: Check) -> Plan[None]:
    """Raises TooManyTokens where the organization's batches of this model would have more to read than its plan allows.

    It goes through its batches one at a time: two that begin together never pass the limit.
    """
    assert reader.offer is not None
    plan = yield from entitlements.of(batch["organization_id"], datetime.now(UTC))
    most = plan.batch_input_tokens
    if most is None:
        return
    yield Statement(LOCK_ORGANIZATION, {"organization": batch["organization_id"]})
    params = {"organization": batch["organization_id"], "model": reader.offer.model_id, "batch": batch["id"]}
    others = (yield Statement(QUEUED, params))[0]["tokens"]
    if others + reader.input_tokens > most:
        raise TooManyTokens(
            f"Enqueued token limit reached for {reader.offer.name}: this batch has up to {reader.input_tokens:,} input tokens, "
            f"your organization's other batches of this model {others:,}, and {most:,} together are the most that its plan "
            f"“{plan.title}” allows. Nothing was held. "
            + ("Wait until one has ended." if reader.input_tokens <= most else "Split the file.")
        )


def fail(reader: Check, errors: list[dict[str, Any]]) -> None:
    batch = reader.batch
    with transaction.atomic():
        failed = database.run(
            statements.move(
                batch["id"],
                "failed",
                sources=("validating",),
                token=reader.claim.token,
                errors=errors,
                total=reader.lines,
            )
        )
        if failed:
            database.run(stored.end_reading(news.reader(batch["id"])))
            database.run(keeping.shorten(batch["organization_id"], batch_id=batch["id"]))
            news.ended(batch["id"], batch["organization_id"], "failed")
    news.changed(batch["id"], batch["organization_id"])
    finalizing.clean(batch["id"])
