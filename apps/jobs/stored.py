"""Chats that were kept on request (`store`): what GET /v1/chat/completions reads and changes.

`key` narrows all of it to what that key sent; None is the whole organization's.
"""

from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from apps.core.sql import Plan, Row, Statement
from apps.jobs import sealed, statements

READ = f"""
SELECT j.id, j.kind, j.tier, m.name AS model, s.name AS site, j.metadata, j.prompt_tokens, j.cached_prompt_tokens, j.completion_tokens,
    j.pages, j.charge_microusd, j.energy_wh, j.energy_quality, j.carbon_gco2e, j.carbon_market_gco2e, j.finish_reason,
    {sealed.ANSWER}, {{more}}
FROM jobs_job j JOIN catalog_model m ON m.id = j.model_id JOIN jobs_content c ON c.job_id = j.id
LEFT JOIN sites_pool p ON p.id = j.pool_id LEFT JOIN sites_node n ON n.id = p.node_id LEFT JOIN sites_site s ON s.id = n.site_id
WHERE j.organization_id = %(organization)s AND j.stored AND j.state = 'succeeded'
    AND (%(key)s::uuid IS NULL OR j.api_key_id = %(key)s::uuid)
"""  # noqa: S608 - a constant goes in
ONE = f"{READ.format(more=sealed.REQUEST)} AND j.id = %(id)s"
PAGE = READ.format(more="NULL AS request")

DESCRIBE = """
UPDATE jobs_job SET metadata = %(metadata)s
WHERE id = %(id)s AND organization_id = %(organization)s AND stored AND state = 'succeeded'
    AND (%(key)s::uuid IS NULL OR api_key_id = %(key)s::uuid)
RETURNING id
"""
HIDE = """
UPDATE jobs_job SET stored = false
WHERE id = %(id)s AND organization_id = %(organization)s AND stored AND state = 'succeeded'
AND (%(key)s::uuid IS NULL OR api_key_id = %(key)s::uuid) RETURNING id
"""


def one(organization_id: UUID, job_id: UUID, *, key: UUID | None) -> Plan[Row | None]:
    """With `request`, `text` and `result`, or `unreadable` where the answer cannot be read. Raises Unreadable for the request."""
    rows = yield Statement(ONE, {"organization": organization_id, "id": job_id, "key": key})
    if not rows:
        return None
    return statements.answered(rows[0]) | {"request": sealed.request_of(rows[0]).request}


def page(
    organization_id: UUID,
    *,
    key: UUID | None,
    after: UUID | None,
    limit: int,
    newest_first: bool,
    model: str | None,
    metadata: dict[str, str],
) -> Plan[list[Row]]:
    """Only filters that are given are in the statement: it is planned for all values of its parameters at once."""
    order, beyond = ("DESC", "<") if newest_first else ("ASC", ">")
    filters = {
        "model": (model, "m.name = %(model)s"),
        "metadata": (Jsonb(metadata) if metadata else None, "j.metadata @> %(metadata)s::jsonb"),
        "after": (after, f"j.id {beyond} %(after)s::uuid"),
    }
    given = {name: value for name, (value, _) in filters.items() if value is not None}
    where = "".join(f" AND {filters[name][1]}" for name in given)
    rows = yield Statement(
        f"{PAGE}{where} ORDER BY j.id {order} LIMIT {int(limit)}",
        {"organization": organization_id, "key": key, **given},
    )
    return [statements.answered(row) for row in rows]


def describe(organization_id: UUID, job_id: UUID, metadata: dict[str, Any], *, key: UUID | None) -> Plan[bool]:
    """Set the customer's words about it. False: there is none to describe."""
    params = {"organization": organization_id, "id": job_id, "metadata": Jsonb(metadata), "key": key}
    return bool((yield Statement(DESCRIBE, params)))


def forget(organization_id: UUID, job_id: UUID, *, key: UUID | None) -> Plan[bool]:
    """Delete what was asked and answered; the record of the job, its usage and its price stay. False: there is none."""
    hidden = yield Statement(HIDE, {"organization": organization_id, "id": job_id, "key": key})
    if hidden:
        yield from statements.forget_content(job_id)
    return bool(hidden)
