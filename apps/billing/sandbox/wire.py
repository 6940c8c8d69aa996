"""The form that Stripe's library sends: nested keys, lists by index.

>>> decode("line_items[0][quantity]=2&expand[]=customer&metadata[a]=")
{'line_items': [{'quantity': '2'}], 'expand': ['customer'], 'metadata': {'a': ''}}
"""

import re
from typing import Any
from urllib.parse import parse_qsl

from apps.billing.sandbox.refusals import Refusal

KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]*\])*)")
MOST_FIELDS = 1000
DEEPEST = 12


def decode(text: str) -> dict[str, Any]:
    """Values stay text. Raises Refusal for keys that do not nest, and for text no database holds."""
    tree: dict[str, Any] = {}
    try:
        pairs = parse_qsl(text, keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict")
    except ValueError as error:
        raise Refusal("The request's form could not be read.") from error
    for key, value in pairs:
        match = KEY.fullmatch(key)
        if match is None or "\0" in key or "\0" in value:
            raise Refusal(f"Invalid request: the parameter {key!r} could not be read.", param=key[:100])
        path = [match[1], *re.findall(r"\[([^\[\]]*)\]", match[2])]
        if len(path) > DEEPEST:
            raise Refusal("Invalid request: nested too deeply.", param=match[1])
        _put(tree, path, value, key)
    return {name: _lists(value) for name, value in tree.items()}


def _put(tree: dict[str, Any], path: list[str], value: str, key: str) -> None:
    for part in path[:-1]:
        tree = tree.setdefault(part or str(len(tree)), {})
        if not isinstance(tree, dict):
            raise Refusal(f"Invalid request: {key!r} is both a value and an object.", param=path[0])
    tree[path[-1] or str(len(tree))] = value


def _lists(value: Any) -> Any:
    """A mapping of 0, 1, 2 … is a list."""
    if not isinstance(value, dict):
        return value
    if value and all(name.isdecimal() for name in value):
        return [_lists(value[name]) for name in sorted(value, key=int)]
    return {name: _lists(part) for name, part in value.items()}
