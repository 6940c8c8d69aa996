"""How a job's end becomes an error of the official shape."""

from __future__ import annotations

from apps.core.errors import NoCapacity, PortalError
from apps.core.sql import Row
from apps.runner.protocol import Failure

RETRY_AFTER_SECONDS = 5


class JobFailed(PortalError):
    """The attempt's own error, with the status it asked for."""

    code = "job_failed"

    def __init__(self, message: str, *, code: str, status: int, param: str | None = None) -> None:
        super().__init__(message, code=code, param=param)
        self.status = status  # type: ignore[misc]  # the one refusal whose status comes from elsewhere
        self.type = type_of(status)  # type: ignore[misc]


class JobCancelled(PortalError):
    code, status, retryable = "job_cancelled", 409, False


def type_of(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    if status == 503:
        return "service_unavailable_error"
    return "invalid_request_error" if status < 500 else "server_error"


def of(job: Row, failure: Failure | None) -> PortalError:
    """`job` is final and did not succeed; `failure` is what its last attempt said, where that was heard."""
    if job["state"] == "expired":
        return no_capacity()
    if job["state"] == "cancelled":
        charge = job["charge_microusd"] or 0
        return JobCancelled(
            f"The job was cancelled. {'What had been done is charged.' if charge else 'Nothing was charged.'}"
        )
    status = job["error_status"] or 500
    return JobFailed(
        job["error_message"] or job["reason"] or "The job failed.",
        code=job["error_code"] or "server_error",
        status=status if 400 <= status < 600 else 500,
        param=failure.param if failure else None,
    )


def no_capacity() -> NoCapacity:
    return NoCapacity(
        "No site had a free slot for this model in time. Nothing was charged. Try again in a moment, "
        "or send the work to /api/v1/jobs, where it waits.",
        retry_after_seconds=RETRY_AFTER_SECONDS,
    )


def site_lost() -> JobFailed:
    """The client has a part of one attempt, and another one speaks: nothing is delivered twice."""
    return JobFailed(
        "The site stopped answering in the middle. What came before this is all there is; send the request again.",
        code="site_lost",
        status=503,
    )
