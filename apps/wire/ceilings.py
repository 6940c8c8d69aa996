"""The most tokens a request can cost, known before it runs: what the hold is made of.

A tokenizer never makes more tokens than there are bytes (byte-level and byte-fallback vocabularies), so bytes bound the
prompt from above without one. The chat template's own words come on top.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from apps.wire import images

MESSAGE_TOKENS = 16  # role markers and separators around one message
TEMPLATE_TOKENS = 64  # a default system prompt some templates add
TOOLS_TOKENS = 512  # what a template says about calling tools
LONGEST_TOKEN_BYTES = 16  # fewer bytes a token, on average over a long text, is safe to assume


def prompt_tokens_ceiling(body: Mapping[str, Any], context_tokens: int, *, image_tokens: int = 0) -> int:
    """At most this many prompt tokens: bytes of every text, and the template's share; never above the context.

    `body` is a chat or an embeddings request. Each input of an embeddings request has the whole context.
    `context_tokens` 0 means the context is not known. An image is at most `image_tokens`, whatever bytes it has.
    """
    if "input" in body:
        return sum(capped(input_bytes(item) + MESSAGE_TOKENS, context_tokens) for item in inputs(body["input"]))
    messages = body.get("messages") or []
    tokens = _text_bytes(body) + MESSAGE_TOKENS * len(messages) + TEMPLATE_TOKENS
    tokens += image_tokens * sum(1 for _ in images.parts(messages))
    if body.get("tools"):
        tokens += TOOLS_TOKENS
    return capped(tokens, context_tokens)


def prompt_tokens_floor(body: Mapping[str, Any]) -> int:
    """At least about this many prompt tokens (for embeddings: of the longest input). Above the context, refuse at once."""
    if "input" in body:
        return max(
            len(item) if isinstance(item, list) else input_bytes(item) // LONGEST_TOKEN_BYTES
            for item in inputs(body["input"])
        )
    return sum(len(text.encode()) for text in texts(images.without(body.get("messages") or []))) // LONGEST_TOKEN_BYTES


def completion_tokens_limit(body: Mapping[str, Any], max_output_tokens: int) -> int:
    """The most tokens of one choice."""
    asked = body.get("max_completion_tokens")
    if asked is None:
        asked = body.get("max_tokens")
    return max_output_tokens if asked is None else int(asked)


def completion_tokens_ceiling(body: Mapping[str, Any], max_output_tokens: int) -> int:
    """The most tokens of all choices together."""
    return completion_tokens_limit(body, max_output_tokens) * int(body.get("n") or 1)


def inputs(value: Any) -> list[Any]:
    """The inputs of an embeddings request: texts, or lists of tokens."""
    if isinstance(value, str) or (value and isinstance(value[0], int)):
        return [value]
    return list(value)


def texts(value: Any) -> Iterator[str]:
    """Every text below `value`, keys left out."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _text_bytes(body: Mapping[str, Any]) -> int:
    """Bytes of all that a chat template may print: messages as texts; tools and formats as JSON, keys included."""
    printed = sum(len(text.encode()) for text in texts(images.without(body.get("messages") or [])))
    for name in ("tools", "tool_choice", "response_format"):
        if body.get(name) is not None:
            printed += len(json.dumps(body[name], ensure_ascii=False).encode())
    return printed


def input_bytes(item: Any) -> int:
    return len(item) if isinstance(item, list) else len(item.encode())


def capped(tokens: int, context_tokens: int) -> int:
    return min(tokens, context_tokens) if context_tokens else tokens
