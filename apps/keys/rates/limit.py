"""One limit, and which of them count for a request."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from apps.core.sql import Row
from apps.keys.services import Caller

# Part of a statement, with the parameters organization, api_key, model and tier: the limits that count for a request, as
# one jsonb. Among limits that name the same kinds of things, one for the organization goes before one for everybody.
OF = """
SELECT jsonb_agg(to_jsonb(l)) FROM (
    SELECT DISTINCT ON (r.api_key_id IS NULL, r.model_id IS NULL, r.tier = '')
        r.api_key_id IS NOT NULL AS is_key, m.name AS model, r.tier, r.requests_per_minute, r.input_tokens_per_minute,
        r.output_tokens_per_minute, r.concurrent_requests
    FROM keys_ratelimit r LEFT JOIN catalog_model m ON m.id = r.model_id
    WHERE (r.organization_id = %(organization)s::uuid OR r.organization_id IS NULL)
        AND (r.api_key_id = %(api_key)s::uuid OR r.api_key_id IS NULL)
        AND (m.name = %(model)s::text OR r.model_id IS NULL) AND (r.tier = %(tier)s::text OR r.tier = '')
    ORDER BY r.api_key_id IS NULL, r.model_id IS NULL, r.tier = '', r.organization_id IS NULL
) l
"""


@dataclass(frozen=True, slots=True)
class Limit:
    """Figures of one minute, and of one moment; None where there is none. `whose` is what a refusal calls it."""

    counter: str
    whose: str
    requests: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    concurrent: int | None = None

    @property
    def figures(self) -> tuple[int | None, ...]:
        return self.requests, self.input_tokens, self.output_tokens, self.concurrent


def limits(caller: Caller, rows: Iterable[Row] | None, *, usual: Sequence[int | None]) -> list[Limit]:
    """Those that count for a request: of `rows`, the result of OF, and `usual`, the plan's, where none is for the organization."""
    found = [limit_of(caller, row) for row in rows or ()]
    if not any(limit.counter == str(caller.organization_id) for limit in found):
        found.append(Limit(str(caller.organization_id), "This organization", *usual))
    return [limit for limit in found if any(figure is not None for figure in limit.figures)]


def limit_of(caller: Caller, row: Row) -> Limit:
    """Every organization counts for itself, also where a limit is for everybody."""
    counter, whose = str(caller.organization_id), "This API key" if row["is_key"] else "This organization"
    if row["is_key"]:
        counter += f":{caller.api_key_id}"
    if row["model"]:
        counter += f":{row['model']}"
        whose += f", for the model {row['model']},"
    if row["tier"]:
        counter += f":{row['tier']}"
        whose += f", at the tier {row['tier']},"
    return Limit(
        counter.replace(" ", "+"),
        whose.replace(",,", ","),
        row["requests_per_minute"],
        row["input_tokens_per_minute"],
        row["output_tokens_per_minute"],
        row["concurrent_requests"],
    )
