"""By what a request is known again, so that sending it twice makes one job.

A request with an `Idempotency-Key` is known by it. One without is known by its bytes, where an official client says that
it tries again (`x-stainless-retry-count`); these clients send no key. The receipt is written with the job, in one
statement, so of two requests that come at the same moment one makes the job and the other finds it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from apps.core.errors import InvalidRequest, PortalError
from apps.core.sql import Plan, Row, Statement
from apps.dispatch.work import Submitted
from apps.jobs import sealed
from apps.jobs.models import FINAL
from apps.keys.services import Caller

KEPT_SECONDS = 24 * 3600
RETRY_SECONDS = 600  # how long after the first try a client without a key still tries again
LONGEST_KEY = 255
FORGOTTEN_AT_ONCE = 10_000

# The failure was ours and nothing was charged, or the client hung up before anything was: it runs anew.
ANEW = """
(j.charge_microusd = 0 AND (
    j.state = 'expired'
    OR j.state = 'failed' AND (coalesce(j.error_status, 500) >= 500 OR j.error_status IN (408, 429))
    OR j.state = 'cancelled' AND r.followers = 0
))
"""
FOUND = f"""
SELECT r.job_id, r.digest, r.followers, j.state, j.attempt, j.interactive, p.code AS pool, j.deadline_at,
    j.cancel_requested_at, {sealed.IS_KEPT} AS kept, {ANEW} AS anew
FROM dispatch_receipt r LEFT JOIN jobs_job j ON j.id = r.job_id LEFT JOIN jobs_content c ON c.job_id = r.job_id
LEFT JOIN sites_pool p ON p.id = j.pool_id
"""  # noqa: S608 - a constant goes in
BY_KEY = f"{FOUND} WHERE r.mark = %(mark)s AND r.created_at > clock_timestamp() - make_interval(secs => %(seconds)s)"
BY_BYTES = f"""{FOUND}
WHERE r.digest = %(digest)s AND r.mark IS NULL AND r.created_at > clock_timestamp() - make_interval(secs => %(seconds)s)
    AND (j.state = 'succeeded' AND {sealed.IS_KEPT}
        OR j.state IN ('queued', 'dispatched', 'running') AND j.cancel_requested_at IS NULL AND r.followers > 0)
ORDER BY r.job_id DESC LIMIT 1
"""
# The part of the statement that writes the job which goes first: without a row in `receipt` another one has the key.
WRITE = f"""
receipt AS (
    INSERT INTO dispatch_receipt AS r (job_id, mark, digest, followers, created_at)
    SELECT %(id)s::uuid, %(mark)s::bytea, %(digest)s::bytea, 1, now FROM clock
    ON CONFLICT (mark) WHERE mark IS NOT NULL DO UPDATE
    SET job_id = excluded.job_id, digest = excluded.digest, followers = 1, created_at = excluded.created_at
    WHERE r.created_at <= excluded.created_at - make_interval(secs => %(kept_seconds)s)
        OR r.digest = excluded.digest AND EXISTS (SELECT FROM jobs_job j WHERE j.id = r.job_id AND {ANEW})
    RETURNING job_id
)
"""  # noqa: S608 - a constant goes in
ATTACH = """
UPDATE dispatch_receipt SET followers = followers + 1 WHERE job_id = %(job)s AND followers > 0 RETURNING followers
"""
LEAVE = """
UPDATE dispatch_receipt SET followers = greatest(followers - 1, 0) WHERE job_id = %(job)s RETURNING followers
"""
FORGET = """
DELETE FROM dispatch_receipt WHERE job_id IN (
    SELECT job_id FROM dispatch_receipt WHERE job_id < %(oldest)s ORDER BY job_id LIMIT %(many)s
) RETURNING 1
"""


class KeyReused(PortalError):
    code, status, retryable = "idempotency_key_reused", 409, False


class AnswerNotKept(PortalError):
    code, status, retryable = "answer_not_kept", 409, False


class StillStopping(PortalError):
    """The first request with the key was hung up on, and its job has not come to its end yet."""

    code, status, retryable = "idempotency_key_in_use", 409, True


class Taken(Exception):
    """Another request with the same key was admitted first. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """`digest` stands for caller, method, path and body; `mark` for caller and Idempotency-Key, None without one.

    `retried`: the client says that it sent these bytes before.
    """

    digest: bytes
    mark: bytes | None = None
    retried: bool = False

    @property
    def is_repeat(self) -> bool:
        """Whether there may be a job of it already."""
        return self.mark is not None or self.retried


def ticket(caller: Caller, headers: Mapping[str, str], digest: bytes) -> Ticket:
    """Of a request whose method, path and body hash to `digest`; `headers` by lower-case names.

    A key is known for its organization and API key (or the member) alone. Raises InvalidRequest.
    """
    scope = f"{caller.organization_id} {caller.api_key_id} {caller.user_id} ".encode()
    key = headers.get("idempotency-key")
    if key is not None and not (0 < len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        raise InvalidRequest(
            f"An Idempotency-Key has 1 to {LONGEST_KEY} printable ASCII characters.", code="invalid_idempotency_key"
        )
    count = headers.get("x-stainless-retry-count", "")
    return Ticket(
        digest=hashlib.sha256(scope + digest).digest(),
        mark=None if key is None else hashlib.sha256(scope + key.encode()).digest(),
        retried=count.isascii() and count.isdigit() and count.strip("0") != "",
    )


def find(ticket: Ticket) -> Plan[Submitted | None]:
    """The job that this request has made already, with its client counted among those who follow it.

    None where it is to make one: it made none yet, or one that failed by our fault and cost nothing. Raises KeyReused,
    AnswerNotKept, and StillStopping.
    """
    if ticket.mark is None:
        rows = yield Statement(BY_BYTES, {"digest": ticket.digest, "seconds": RETRY_SECONDS})
    else:
        rows = yield Statement(BY_KEY, {"mark": ticket.mark, "seconds": KEPT_SECONDS})
    if not rows:
        return None
    found = rows[0]
    if bytes(found["digest"]) != ticket.digest:
        raise KeyReused(
            "This Idempotency-Key was used for another request within the last 24 hours. Nothing was accepted or "
            "charged. Send a key of its own with each request."
        )
    if found["anew"]:
        return None
    if found["state"] is None or (found["state"] == "succeeded" and not found["kept"]):
        raise AnswerNotKept(
            "This request was answered before, and its answer is not stored any more. Nothing was charged again. "
            "Send it with another Idempotency-Key to have it done anew."
        )
    if found["interactive"] and found["state"] not in FINAL and not (yield from attach(found)):
        if ticket.mark is None:
            return None
        raise StillStopping(
            "The first request with this Idempotency-Key was cut off and is being stopped. Nothing was accepted; "
            "try again in a moment.",
            retry_after_seconds=1,
        )
    return Submitted(
        found["job_id"], found["state"], found["attempt"], found["pool"], found["deadline_at"], replayed=True
    )


def attach(found: Row) -> Plan[bool]:
    """Follow an open job. False where its last client has left, or it was cancelled."""
    if found["cancel_requested_at"] is not None:
        return False
    return bool((yield Statement(ATTACH, {"job": found["job_id"]})))


def leave(job_id: UUID) -> Plan[bool]:
    """A client hung up. True where nobody follows the job any more."""
    rows = yield Statement(LEAVE, {"job": job_id})
    return not rows or rows[0]["followers"] == 0


def params(ticket: Ticket) -> dict[str, Any]:
    """Of WRITE."""
    return {"mark": ticket.mark, "digest": ticket.digest, "kept_seconds": KEPT_SECONDS}


def forget() -> Plan[int]:
    """Drop some of those past their day; returns how many. A job's id begins with the time it was made."""
    before = datetime.now(UTC) - timedelta(seconds=KEPT_SECONDS)
    oldest = UUID(int=int(before.timestamp() * 1000) << 80)
    return len((yield Statement(FORGET, {"oldest": oldest, "many": FORGOTTEN_AT_ONCE})))
