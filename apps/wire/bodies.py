"""From the bytes of a request to a body that fits a shape, or one refusal that names the parameter."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, from_json

from apps.core.errors import InvalidRequest

SURROGATE = re.compile(r"surrogate|unexpected end of hex escape")  # both of pydantic_core's words for it
MAX_DEPTH = 64
MAX_INTEGER = 2**63 - 1
PYDANTIC = re.compile(r"^(Input|List|String|Dictionary|Value) should")
SHOWN = 100  # characters of a name from the request that an error repeats

S = TypeVar("S", bound="Shape")


class Shape(BaseModel):
    """Types are strict: no "1" for 1. A field it does not have is refused by name.

    `refused` names fields of the official API that the engines here cannot honour.
    """

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False, frozen=True)


def parse(raw: bytes) -> dict[str, Any]:
    """The JSON object in `raw`. Raises InvalidRequest, whatever the bytes are."""
    try:
        body = from_json(raw, allow_inf_nan=False, cache_strings="none")
    except ValueError as error:
        if SURROGATE.search(str(error)):
            raise InvalidRequest(
                "The request body contains half a surrogate pair, which is no character. Send both halves, or neither.",
                code="invalid_json",
            ) from None
        raise InvalidRequest(
            "The request body is not valid JSON in UTF-8. Send one JSON object.", code="invalid_json"
        ) from None
    if not isinstance(body, dict):
        raise InvalidRequest("The request body must be one JSON object.", code="invalid_json")
    check_storable(body)
    return body


def check_storable(body: Mapping[str, Any]) -> None:
    """Refuse what valid JSON may hold and a database or an engine may not: NUL, endless numbers, bottomless nesting."""
    stack: list[tuple[Any, int, str]] = [(value, 1, _shown(name)) for name, value in body.items()]
    if any("\0" in name for name in body):
        raise InvalidRequest("Names of parameters may not contain the character U+0000.", code="invalid_value")
    while stack:
        value, depth, param = stack.pop()
        if depth > MAX_DEPTH:
            raise _invalid(param, f"it is nested more than {MAX_DEPTH} levels deep")
        if isinstance(value, dict):
            if any("\0" in name for name in value):
                raise _invalid(param, "it contains the character U+0000")
            stack.extend((item, depth + 1, param) for item in value.values())
        elif isinstance(value, list):
            stack.extend((item, depth + 1, param) for item in value)
        elif isinstance(value, str):
            if "\0" in value:
                raise _invalid(param, "it contains the character U+0000")
        elif isinstance(value, bool):
            continue
        elif (isinstance(value, int) and abs(value) > MAX_INTEGER) or (
            isinstance(value, float) and not math.isfinite(value)
        ):
            raise _invalid(param, "the number is too large")


def fit(shape: type[S], body: Mapping[str, Any], *, unsupported: Mapping[str, str] | None = None) -> S:
    """`body` as a `shape`. Raises InvalidRequest for the first thing that does not fit.

    `unsupported` maps fields of the official API that are refused by name to what to do instead; null asks for nothing.
    """
    unsupported = unsupported or {}
    for name, instead in unsupported.items():
        if body.get(name) is not None:
            raise InvalidRequest(
                f"The parameter '{name}' is not supported by the models here. {instead}".strip(),
                param=name,
                code="unsupported_parameter",
            )
    try:
        if not unsupported.keys().isdisjoint(body):  # each of them is null
            body = {name: value for name, value in body.items() if name not in unsupported}
        return shape.model_validate(body)
    except ValidationError as error:
        raise refusal(error.errors(include_url=False, include_context=True)[0]) from None


def refusal(detail: ErrorDetails) -> InvalidRequest:
    param = path(detail["loc"])
    kind = detail["type"]
    if kind == "missing":
        return InvalidRequest(f"Missing required parameter: '{param}'.", param=param, code="missing_required_parameter")
    if kind == "extra_forbidden":
        return InvalidRequest(
            f"Unrecognized request argument supplied: {param}.", param=param, code="unknown_parameter"
        )
    message = PYDANTIC.sub("it should", detail["msg"]).partition(" after validation")[0]
    message = message[:1].lower() + message[1:].rstrip(".")
    wrong_type = kind.endswith(("_type", "_parsing")) or kind == "union_tag_invalid"
    return InvalidRequest(
        f"Invalid value for '{param}': {message}." if param else f"Invalid request: {message}.",
        param=param or None,
        code="invalid_type" if wrong_type else "invalid_value",
    )


def path(location: tuple[int | str, ...]) -> str:
    """`messages[0].content`. Tags of unions, written <in brackets>, are ours and left out."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif not (part.startswith("<") and part.endswith(">")):
            text += f".{part}" if text else part
    return _shown(text)


def _shown(name: str) -> str:
    return name if len(name) <= SHOWN else f"{name[:SHOWN]}…"


def _invalid(param: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid value for '{param}': {why}.", param=param, code="invalid_value")
