"""What the doors ask the database about keys."""

from apps.core.sql import Plan, Row, Statement


def authenticate(sha256: str, *, address: str | None = None, agent: str = "") -> Plan[Row | None]:
    """The key with this digest that is not revoked, what it may do and the budgets it spends from, or None.

    `expired`, `elsewhere` (`address` is in none of its ranges) and `closing` (its organization is to be deleted) refuse it. Else notes its use, at most once a minute and
    never waiting for a lock.
    """
    rows = yield Statement(
        """
        WITH found AS (
            SELECT k.id, k.organization_id, k.budget_id, k.created_by_id, k.scopes, k.allowed_models, k.residency,
                o.residency AS around, o.closing_at IS NOT NULL AS closing, k.expires_at, coalesce(k.expires_at <= now(), false) AS expired,
                k.ip_ranges IS NOT NULL AND NOT coalesce(%(address)s::inet <<= ANY (k.ip_ranges::cidr[]), false) AS elsewhere
            FROM keys_apikey k JOIN accounts_organization o ON o.id = k.organization_id
            WHERE k.sha256 = %(sha256)s AND k.revoked_at IS NULL
        ), touched AS (
            UPDATE keys_apikey SET last_used_at = now(), last_used_ip = %(address)s::inet, last_used_agent = %(agent)s
            WHERE id IN (
                SELECT k.id FROM keys_apikey k JOIN found ON found.id = k.id
                WHERE NOT found.expired AND NOT found.elsewhere AND NOT found.closing
                  AND (k.last_used_at IS NULL OR k.last_used_at < now() - interval '1 minute')
                FOR NO KEY UPDATE OF k SKIP LOCKED
            )
        )
        SELECT found.*, array_remove(ARRAY[found.budget_id, member.id], NULL) AS budgets FROM found
        LEFT JOIN ledger_budget member ON member.kind = 'member'
            AND member.organization_id = found.organization_id AND member.user_id = found.created_by_id
        """,
        {"sha256": sha256, "address": address, "agent": agent},
        alone=True,
    )
    return rows[0] if rows else None
