"""What the double refuses, in Stripe's error object (docs.stripe.com/api/errors)."""

from typing import Any


class Refusal(Exception):
    """`executed`: the request got as far as doing something, so that its idempotency key replays this answer."""

    status, type, executed = 400, "invalid_request_error", False

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None, **more: Any) -> None:
        super().__init__(message)
        self.message, self.param, self.code, self.more = message, param, code, more

    def body(self) -> dict[str, Any]:
        error = {"type": self.type, "message": self.message, "param": self.param, "code": self.code, **self.more}
        return {"error": {name: value for name, value in error.items() if value is not None}}


class NotAuthenticated(Refusal):
    status = 401


class Conflicting(Refusal):
    """An idempotency key that came with other parameters."""

    type = "idempotency_error"


class Impossible(Refusal):
    """Well formed, but not with these objects as they are now. Nothing was written."""

    executed = True


class Missing(Impossible):
    """404, or 400 where a parameter names what is not there."""

    def __init__(self, kind: str, identifier: str, *, param: str | None = None) -> None:
        super().__init__(f"No such {kind}: '{identifier}'", param=param or "id", code="resource_missing")
        self.status = 400 if param else 404


class CardRefused(Impossible):
    """402: the bank said no. The payment and its failed charge are kept."""

    status, type = 402, "card_error"
