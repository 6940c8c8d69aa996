"""The response object of /v1/responses, in every state of its job.

Beyond the official shape: `usage` has `cost_microusd`, `energy_wh`, `energy_quality`, `carbon_gco2e` and `carbon_market_gco2e`, and the object
has `site`, as soon as they are known.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from apps.core.ids import public
from apps.wire.completions import EXTRA, created
from apps.wire.items import Item, Output
from apps.wire.responses import custom_names

PREFIX = "resp"


def response_id(job_id: UUID) -> str:
    return public(PREFIX, job_id)


def usage_of(chat: Mapping[str, Any]) -> dict[str, Any]:
    """A chat's usage in the words of a response."""
    return {
        "input_tokens": chat["prompt_tokens"],
        "input_tokens_details": {
            "cached_tokens": chat["prompt_tokens_details"]["cached_tokens"],
            "cache_write_tokens": 0,
        },
        "output_tokens": chat["completion_tokens"],
        "output_tokens_details": {"reasoning_tokens": chat["completion_tokens_details"]["reasoning_tokens"]},
        "total_tokens": chat["total_tokens"],
        **{name: chat[name] for name in EXTRA if name in chat},
    }


class ResponseObject:
    """What stays the same of one response while its job goes on. `asked` is the request as it was sent."""

    def __init__(self, *, job_id: UUID, model: str, asked: Mapping[str, Any], service_tier: str = "default") -> None:
        self.job_id = job_id
        self.asked = asked
        self.background = bool(asked.get("background"))
        self.custom = custom_names(asked)
        reasoning = asked.get("reasoning") or {}
        self.head = {"id": response_id(job_id), "object": "response", "created_at": created(job_id)}
        text = asked.get("text") or {}
        self.settings: dict[str, Any] = {
            "background": self.background,
            "instructions": asked.get("instructions"),
            "max_output_tokens": asked.get("max_output_tokens"),
            "max_tool_calls": None,
            "metadata": asked.get("metadata") or {},
            "model": model,
            "parallel_tool_calls": asked.get("parallel_tool_calls") is not False,
            "previous_response_id": asked.get("previous_response_id"),
            "prompt_cache_key": asked.get("prompt_cache_key"),
            "reasoning": {
                "effort": reasoning.get("effort"),
                "summary": reasoning.get("summary") or reasoning.get("generate_summary"),
            },
            "safety_identifier": asked.get("safety_identifier"),
            "service_tier": service_tier,
            "store": asked.get("store") is not False,
            "temperature": asked.get("temperature"),
            "text": {"format": text.get("format") or {"type": "text"}, "verbosity": text.get("verbosity") or "medium"},
            "tool_choice": asked.get("tool_choice") or "auto",
            "tools": [
                {**({"parameters": None, "strict": None} if tool["type"] == "function" else {}), **tool}
                for tool in asked.get("tools") or ()
            ],
            "top_logprobs": asked.get("top_logprobs") or 0,
            "top_p": asked.get("top_p"),
            "truncation": "disabled",
            "user": asked.get("user"),
        }

    def open(self, status: str) -> dict[str, Any]:
        """While it is `queued` or `in_progress`."""
        return self._body(status, [])

    def ended(
        self,
        output: Output,
        *,
        usage: Mapping[str, Any] | None,
        site: str | None,
        status: str = "",
        error: Mapping[str, Any] | None = None,
        completed_at: int | None = None,
    ) -> dict[str, Any]:
        """`status` where it is not what the output says by itself: completed, or incomplete where it was cut."""
        status = status or ("incomplete" if output.cut else "completed")
        return self._body(
            status,
            output.items,
            usage=usage,
            error=error,
            incomplete_details={"reason": output.cut} if status == "incomplete" else None,
            completed_at=completed_at if status == "completed" else None,
        ) | ({"site": site} if site else {})

    def _body(
        self,
        status: str,
        output: Sequence[Item],
        *,
        usage: Mapping[str, Any] | None = None,
        error: Mapping[str, Any] | None = None,
        incomplete_details: Mapping[str, Any] | None = None,
        completed_at: int | None = None,
    ) -> dict[str, Any]:
        return {
            **self.head,
            "status": status,
            "completed_at": completed_at,
            "error": error,
            "incomplete_details": incomplete_details,
            "output": list(output),
            "usage": None if usage is None else usage_of(usage),
            **self.settings,
        }
