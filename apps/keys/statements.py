"""What the doors ask the database about keys."""

from apps.core.sql import Plan, Row, Statement


def authenticate(sha256: str) -> Plan[Row | None]:
    """The key in force with this digest and the budgets it spends from, or None. Notes its use, at most once a minute and never waiting for a lock."""
    rows = yield Statement(
        """
        WITH found AS (
            SELECT id, organization_id, budget_id, created_by_id, scopes FROM keys_apikey
            WHERE sha256 = %(sha256)s AND revoked_at IS NULL
        ), touched AS (
            UPDATE keys_apikey SET last_used_at = now()
            WHERE id IN (
                SELECT k.id FROM keys_apikey k JOIN found ON found.id = k.id
                WHERE k.last_used_at IS NULL OR k.last_used_at < now() - interval '1 minute'
                FOR NO KEY UPDATE OF k SKIP LOCKED
            )
        )
        SELECT found.id, found.organization_id, array_remove(ARRAY[found.budget_id, member.id], NULL) AS budgets, found.scopes FROM found
        LEFT JOIN ledger_budget member ON member.kind = 'member'
            AND member.organization_id = found.organization_id AND member.user_id = found.created_by_id
        """,
        {"sha256": sha256},
    )
    return rows[0] if rows else None
