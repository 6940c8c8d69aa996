"""What an answer shows of an object: no field of the double's own, and what the request asked to expand."""

from typing import Any

from apps.billing.sandbox import rows
from apps.billing.sandbox.refusals import Refusal

DEEPEST = 4


def shown(data: Any) -> Any:
    if isinstance(data, dict):
        return {name: shown(value) for name, value in data.items() if not name.startswith("_")}
    return [shown(value) for value in data] if isinstance(data, list) else data


def expanded(data: Any, paths: list[str]) -> Any:
    """A copy with each path's ids replaced by their objects. Raises Refusal for what cannot be expanded."""
    for path in paths:
        parts = path.split(".")
        if len(parts) > DEEPEST:
            raise Refusal(f"You cannot expand more than {DEEPEST} levels of a property.", param="expand")
        data = _expand(data, parts, path)
    return shown(data)


def _expand(data: Any, parts: list[str], path: str) -> Any:
    if not parts:
        return data
    if isinstance(data, list):
        return [_expand(item, parts, path) for item in data]
    name, rest = parts[0], parts[1:]
    if not isinstance(data, dict) or (name not in data and f"_{name}" not in data):
        raise Refusal(f"This property cannot be expanded ({path}).", param="expand")
    value = data[name] if name in data else data[f"_{name}"]
    if isinstance(value, str):
        value = rows.find(value)
        if value is None:
            raise Refusal(f"This property cannot be expanded ({path}).", param="expand")
    elif value is None:
        return data
    return {**data, name: _expand(value, rest, path)}
