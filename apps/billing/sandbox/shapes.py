"""Requests against the library's own parameter types, which are generated from Stripe's OpenAPI description.

Those types leave every enumeration open (`Literal["a", "b"] | str`); Stripe does not, so they are closed here.
"""

import re
import sys
import typing
from functools import cache
from typing import Any, ForwardRef, Literal, get_args, get_origin

import typing_extensions
from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails
from stripe import RequestOptions

from apps.billing.sandbox.refusals import Refusal

NAMES = ("Mapping", "Any", "Dict", "List", "Union", "Optional")
OPEN = re.compile(r"(Literal\[(?:'[^']+'(?:, )?){2,}\])\|str")
OPTIONS = frozenset(RequestOptions.__annotations__)  # of the call, never of its body


def check(params: dict[str, Any], shape: Any) -> dict[str, Any]:
    """The parameters with their types. Raises Refusal naming the first one that Stripe would refuse."""
    for name in params:
        if name in OPTIONS:
            raise Refusal(f"Received unknown parameter: {name}", param=name, code="parameter_unknown")
    try:
        return dict(adapter(shape).validate_python(params))
    except ValidationError as error:
        found = [(_path(details, params), details) for details in error.errors()]
        path, details = max(found, key=lambda pair: len(pair[0]))
        raise _refusal(_written(path), details) from error


@cache
def adapter(shape: Any) -> TypeAdapter[Any]:
    namespace: dict[str, Any] = {name: getattr(typing, name) for name in NAMES}
    namespace |= vars(sys.modules[shape.__module__]) | {"StripeContext": str}
    for part in list(namespace.values()):
        if typing_extensions.is_typeddict(part):
            part.__pydantic_config__ = ConfigDict(extra="forbid", defer_build=True, arbitrary_types_allowed=True)
            part.__annotations__ = {name: _closed(hint) for name, hint in part.__annotations__.items()}
    made = TypeAdapter(shape)
    made.rebuild(force=True, _types_namespace=namespace)
    return made


def _closed(hint: Any) -> Any:
    if isinstance(hint, ForwardRef):
        return ForwardRef(OPEN.sub(r"\1", hint.__forward_arg__), module=hint.__forward_module__)
    origin, parts = get_origin(hint), get_args(hint)
    if origin is typing.Union and str in parts:
        values = [value for part in parts if get_origin(part) is Literal for value in get_args(part)]
        if len(values) > 1 and "" not in values:
            parts = tuple(part for part in parts if part is not str)
        return typing.Union[tuple(_closed(part) for part in parts)]  # noqa: UP007 - of a computed tuple
    if origin in (typing_extensions.NotRequired, typing_extensions.Required):
        return origin[_closed(parts[0])]
    if origin is list:
        return list[_closed(parts[0])]  # type: ignore[misc]
    return hint


def _path(details: ErrorDetails, params: Any) -> list[str | int]:
    """Where in the request: pydantic also names the members of unions it tried, which are no keys."""
    path: list[str | int] = []
    value = params
    for part in details["loc"]:
        if (isinstance(value, dict) and part in value) or (isinstance(value, list) and isinstance(part, int)):
            value = value[part]  # type: ignore[index]
            path.append(part)
    if details["type"] == "missing":
        path.append(details["loc"][-1])
    return path


def _written(path: list[str | int]) -> str:
    return "".join(f"[{part}]" if place else str(part) for place, part in enumerate(path))


def _refusal(param: str, details: ErrorDetails) -> Refusal:
    kind, given = details["type"], details["input"]
    shown = repr(given)[:80]
    if kind == "extra_forbidden":
        return Refusal(f"Received unknown parameter: {param}", param=param, code="parameter_unknown")
    if kind == "missing":
        return Refusal(f"Missing required param: {param}.", param=param, code="parameter_missing")
    if kind.startswith("int_"):
        return Refusal(f"Invalid integer: {shown}", param=param, code="parameter_invalid_integer")
    if kind == "literal_error":
        expected = details.get("ctx", {}).get("expected", "")
        return Refusal(f"Invalid {param}: must be one of {expected}", param=param)
    if given == "":
        return Refusal(f"You passed an empty string for '{param}'.", param=param, code="parameter_invalid_empty")
    return Refusal(f"Invalid value for {param}: {shown}", param=param)
