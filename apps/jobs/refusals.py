"""Requests refused for money or limits, kept a while for the customer's list."""

from __future__ import annotations

from uuid import UUID

from apps.core.sql import Plan, Statement

KEPT = 1000  # of one organization
KEPT_DAYS = 7


def record(*, organization_id: UUID, api_key_id: UUID | None, model_name: str, code: str, message: str) -> Plan[None]:
    """Add one and drop the organization's oldest above KEPT, so a client that does not listen cannot fill the table."""
    yield Statement(
        """
        WITH dropped AS (
            DELETE FROM jobs_refusal WHERE id IN (
                SELECT id FROM jobs_refusal WHERE organization_id = %(organization)s ORDER BY at DESC, id DESC OFFSET %(others)s
            )
        )
        INSERT INTO jobs_refusal (organization_id, api_key_id, model_name, code, message, at)
        VALUES (%(organization)s, %(api_key)s::uuid, %(model)s, %(code)s, %(message)s, clock_timestamp())
        """,
        {
            "organization": organization_id,
            "api_key": api_key_id,
            "model": model_name[:100],
            "code": code[:64],
            "message": message[:500],
            "others": KEPT - 1,
        },
    )


def forget() -> Plan[None]:
    """Drop those past their days."""
    yield Statement("DELETE FROM jobs_refusal WHERE at < now() - make_interval(days => %(days)s)", {"days": KEPT_DAYS})
