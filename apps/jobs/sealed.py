"""What is kept of a job's text, encrypted: one body for what was sent, one for what was got.

Rows come as the database has them, with the columns of `jobs.models.Content`: what is sealed counts before what is plain.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple
from uuid import UUID

from apps.files import sealing

# Of `jobs_content c`, for a SELECT: what `request_of` and `answer_of` read.
REQUEST = "c.job_id, c.sealed_request, c.request AS plain_request, c.asked AS plain_asked"
ANSWER = "c.job_id, c.sealed_answer, c.text AS plain_text, c.result AS plain_result"
IS_KEPT = "(c.sealed_request IS NOT NULL OR c.request IS NOT NULL)"


class Request(NamedTuple):
    """`asked` is a request of /v1/responses as it was sent, `request` what it was converted to. None: not kept."""

    request: Any = None
    asked: Any = None


class Answer(NamedTuple):
    text: str = ""
    result: Any = None


def request(job_id: UUID, request: Any, asked: Any = None) -> bytes:
    return sealing.seal_json(Request(request, asked), about(b"request", job_id))


def answer(job_id: UUID, text: str, result: Any = None) -> bytes:
    return sealing.seal_json(Answer(text, result), about(b"answer", job_id))


def request_of(row: Mapping[str, Any]) -> Request:
    """Raises Unreadable."""
    if row["sealed_request"] is not None:
        return Request(*sealing.unseal_json(row["sealed_request"], about(b"request", row["job_id"])))
    return Request(row["plain_request"], row["plain_asked"])


def answer_of(row: Mapping[str, Any]) -> Answer:
    """Raises Unreadable."""
    if row["sealed_answer"] is not None:
        return Answer(*sealing.unseal_json(row["sealed_answer"], about(b"answer", row["job_id"])))
    return Answer(row["plain_text"] or "", row["plain_result"])


def about(what: bytes, job_id: UUID) -> bytes:
    return b"job " + what + job_id.bytes
