"""Refusals a caller can act on. Anything else is a bug and escapes."""

from typing import ClassVar


class PortalError(Exception):
    """A refusal with a stable `code` and the HTTP `status` every door answers with.

    `message` is written for the caller: what happened, what it means for money and data, what to do.
    `param` names the field of the request, or is None. `retry_after_seconds`, or more exactly `retry_after_ms`, is set where waiting helps;
    `retryable` False tells OpenAI clients not to try again (`x-should-retry: false`).
    """

    code: ClassVar[str] = "refused"
    status: ClassVar[int] = 400
    type: ClassVar[str] = "invalid_request_error"
    retryable: ClassVar[bool | None] = None

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_seconds: int | None = None,
        retry_after_ms: int | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.reason = code or self.code
        if retry_after_ms is None and retry_after_seconds is not None:
            retry_after_ms = retry_after_seconds * 1000
        self.retry_after_ms = retry_after_ms
        self.retry_after_seconds = None if retry_after_ms is None else max(1, -(-retry_after_ms // 1000))

    def body(self) -> dict[str, dict[str, str | None]]:
        """The official error object: OpenAI API reference, "Error"."""
        return {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.reason}}


class InvalidRequest(PortalError):
    code = "invalid_request"


class Unprocessable(InvalidRequest):
    """The form of the request is right, yet what is in it cannot be worked on: the same again will end the same.

    Official clients say it with an exception of its own (`UnprocessableEntityError`: "unable to process the request
    despite the format being correct"). What OpenAI answers with 400 stays 400.
    """

    code, status = "unprocessable_content", 422


class NotAuthenticated(PortalError):
    code, status, type = "invalid_api_key", 401, "authentication_error"


class NotAllowed(PortalError):
    code, status, type = "permission_denied", 403, "permission_error"


class NotFound(PortalError):
    code, status = "not_found", 404


class NoCapacity(PortalError):
    code, status, type = "no_capacity", 503, "service_unavailable_error"


class Unavailable(PortalError):
    """A part of ours is away: the database, say. Nothing was accepted."""

    code, status, type = "unavailable", 503, "service_unavailable_error"
