"""POST /v1/batches and the lines of its files: OpenAI API reference, "Create batch" (openapi.json f85dbe2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from apps.core.errors import InvalidRequest
from apps.wire.bodies import Shape, fit
from apps.wire.chat import Metadata

MAX_LINES = 50_000
MAX_INPUTS = 50_000  # of all embeddings requests of a batch together
MAX_BYTES = 200_000_000
MAX_CUSTOM_ID = 512


class ExpiresAfter(Shape):
    anchor: Literal["created_at"]
    seconds: int = Field(ge=3600, le=2_592_000)


class BatchRequest(Shape):
    """Beyond the official shape: shards of a *flexible* batch begin only where and while a MWh costs less than
    `max_power_usd_per_mwh`, and a `deadline_at` in Unix seconds ends its window sooner."""

    input_file_id: str = Field(min_length=1, max_length=100)
    endpoint: str
    completion_window: Literal["24h"]
    metadata: Metadata | None = None
    output_expires_after: ExpiresAfter | None = None
    max_power_usd_per_mwh: float | None = Field(default=None, ge=-10_000, le=1_000_000)
    deadline_at: int | None = Field(default=None, ge=0, lt=2**40)


class BatchLine(Shape):
    custom_id: str = Field(min_length=1, max_length=MAX_CUSTOM_ID)
    method: Literal["POST"]
    url: str
    body: dict[str, Any]


def batch_request(body: Mapping[str, Any]) -> BatchRequest:
    """Raises InvalidRequest for the first thing that is wrong, with the parameter's name."""
    return fit(BatchRequest, body)


def batch_line(given: Mapping[str, Any], *, endpoint: str) -> BatchLine:
    """One line of an input file, its body not yet read. Raises InvalidRequest with the official codes."""
    line = fit(BatchLine, given)
    if line.url != endpoint:
        raise InvalidRequest(
            f"The URL of this line is not the batch's endpoint, {endpoint}.", param="url", code="mismatched_endpoint"
        )
    return line
