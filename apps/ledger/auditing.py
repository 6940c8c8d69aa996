"""Every invariant of the ledger, checked on a live database: one snapshot, no lock, nothing written.

Each check is one query whose rows are what is wrong. A transaction of REPEATABLE READ sees a single moment, so work that
goes on meanwhile is no difference.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction

from apps.ledger.models import Account, AmountField, Budget, Grant, Hold, Transfer


@dataclass(frozen=True, slots=True)
class Check:
    """`sql` gives one row for each violation: organization_id, subject, expected, found."""

    name: str
    says: str
    sql: str


@dataclass(frozen=True, slots=True)
class Finding:
    check: str
    says: str
    organization_id: str
    subject: str
    expected: str
    found: str


def _counted(period: str) -> str:
    """A budget's counter against the holds that lie in the window of its day: open ones in full, ended ones as charged."""
    same = {
        "total": "true",
        "daily": "h.day = b.day",
        "weekly": "date_trunc('week', h.day) = date_trunc('week', b.day)",
        "monthly": "date_trunc('month', h.day) = date_trunc('month', b.day)",
    }[period]
    return f"""
    SELECT b.organization_id, 'budget ' || b.id || ' {period}' AS subject, coalesce(s.used, 0) AS expected, b.{period}_used_microusd AS found
    FROM ledger_budget b LEFT JOIN (
        SELECT b.id, sum({AGAINST_BUDGET}) AS used
        FROM ledger_hold h CROSS JOIN LATERAL unnest(h.budget_ids) AS counted (id) JOIN ledger_budget b ON b.id = counted.id
        WHERE {same} GROUP BY b.id
    ) AS s ON s.id = b.id
    WHERE b.{period}_used_microusd <> coalesce(s.used, 0)
    """  # noqa: S608 - every piece is a constant of this file


TRIGGERS = {"ledger_account_kept", "ledger_hold_kept"}  # migrations/0010_references_without_checks.py
AGAINST_BUDGET = """CASE WHEN h.state = 'open' THEN h.promotional_microusd + h.credit_microusd
            ELSE h.promotional_charged_microusd + h.credit_charged_microusd END"""

CHECKS = (
    Check(
        "balances",
        "a balance is the sum of its transfers",
        """
        SELECT coalesce(a.organization_id, j.organization_id) AS organization_id, b.name AS subject,
            coalesce(b.journal, 0) AS expected, coalesce(b.balance, 0) AS found
        FROM ledger_account a FULL JOIN (
            SELECT organization_id,
                sum(CASE 'credit' WHEN credit THEN amount_microusd WHEN debit THEN -amount_microusd ELSE 0 END) AS credit,
                sum(CASE 'promotional' WHEN credit THEN amount_microusd WHEN debit THEN -amount_microusd ELSE 0 END) AS promotional,
                sum(CASE 'held' WHEN credit THEN amount_microusd WHEN debit THEN -amount_microusd ELSE 0 END) AS held,
                sum(CASE 'receivable' WHEN debit THEN amount_microusd WHEN credit THEN -amount_microusd ELSE 0 END) AS receivable
            FROM ledger_transfer GROUP BY organization_id
        ) AS j ON j.organization_id = a.organization_id
        CROSS JOIN LATERAL (VALUES
            ('credit', j.credit, a.credit_microusd), ('promotional', j.promotional, a.promotional_microusd),
            ('held', j.held, a.held_microusd), ('receivable', j.receivable, a.receivable_microusd)
        ) AS b (name, journal, balance)
        WHERE coalesce(b.journal, 0) <> coalesce(b.balance, 0)
        """,
    ),
    Check(
        "held",
        "what is held is what the open holds have left",
        """
        SELECT a.organization_id, 'held' AS subject, coalesce(h.open, 0) AS expected, a.held_microusd AS found
        FROM ledger_account a LEFT JOIN (
            SELECT organization_id, sum(promotional_microusd + credit_microusd - promotional_charged_microusd - credit_charged_microusd) AS open
            FROM ledger_hold WHERE state = 'open' GROUP BY organization_id
        ) AS h ON h.organization_id = a.organization_id
        WHERE a.held_microusd <> coalesce(h.open, 0)
        """,
    ),
    Check(
        "promotional",
        "the promotional balance is what the grants have left",
        """
        SELECT a.organization_id, 'promotional' AS subject, coalesce(g.remaining, 0) AS expected, a.promotional_microusd AS found
        FROM ledger_account a LEFT JOIN (
            SELECT organization_id, sum(remaining_microusd) AS remaining FROM ledger_grant GROUP BY organization_id
        ) AS g ON g.organization_id = a.organization_id
        WHERE a.promotional_microusd <> coalesce(g.remaining, 0)
        """,
    ),
    Check(
        "grants",
        "what a grant has left is its amount less what expired, is held, or was charged",
        """
        SELECT g.organization_id, 'grant ' || g.key AS subject, g.amount_microusd - g.expired_microusd - coalesce(u.used, 0) AS expected,
            g.remaining_microusd AS found
        FROM ledger_grant g LEFT JOIN (
            SELECT parts.id, sum(CASE WHEN parts.open THEN parts.amount
                ELSE least(parts.amount, greatest(parts.charged - parts.before, 0)) END) AS used
            FROM (
                SELECT p.id, p.amount, h.state = 'open' AS open, h.promotional_charged_microusd AS charged,
                    sum(p.amount) OVER (PARTITION BY h.id ORDER BY p.n ROWS UNBOUNDED PRECEDING) - p.amount AS before
                FROM ledger_hold h CROSS JOIN LATERAL unnest(h.grant_ids, h.grant_amounts_microusd) WITH ORDINALITY AS p (id, amount, n)
                WHERE h.promotional_microusd > 0
            ) AS parts GROUP BY parts.id
        ) AS u ON u.id = g.id
        WHERE g.remaining_microusd <> g.amount_microusd - g.expired_microusd - coalesce(u.used, 0)
        """,
    ),
    Check(
        "holds",
        "the transfers of a hold are what its row says: taken, charged, our overrun, and nothing left once it ended",
        """
        SELECT h.organization_id, h.key || ' ' || b.name AS subject, b.row AS expected, b.journal AS found
        FROM ledger_hold h LEFT JOIN (
            SELECT hold_id, sum(amount_microusd) FILTER (WHERE credit = 'held') AS taken,
                sum(amount_microusd) FILTER (WHERE debit = 'held' AND credit = 'revenue') AS charged,
                sum(amount_microusd) FILTER (WHERE debit = 'house:overrun' AND credit = 'revenue') AS overrun,
                sum(amount_microusd) FILTER (WHERE debit = 'held' AND credit = 'promotional') AS promotional,
                sum(amount_microusd) FILTER (WHERE debit = 'held' AND credit = 'credit') AS credit
            FROM ledger_transfer WHERE hold_id IS NOT NULL GROUP BY hold_id
        ) AS j ON j.hold_id = h.id
        CROSS JOIN LATERAL (VALUES
            ('taken', h.promotional_microusd + h.credit_microusd, coalesce(j.taken, 0)),
            ('charged', h.promotional_charged_microusd + h.credit_charged_microusd, coalesce(j.charged, 0)),
            ('overrun', h.overrun_microusd, coalesce(j.overrun, 0)),
            ('returned to promotional', CASE WHEN h.state = 'open' THEN 0 ELSE h.promotional_microusd - h.promotional_charged_microusd END, coalesce(j.promotional, 0)),
            ('returned to credit', CASE WHEN h.state = 'open' THEN 0 ELSE h.credit_microusd - h.credit_charged_microusd END, coalesce(j.credit, 0))
        ) AS b (name, row, journal)
        WHERE b.row <> b.journal
        """,
    ),
    Check(
        "grant parts",
        "the parts of a hold's promotional credit are named and sum to it",
        """
        SELECT h.organization_id, h.key AS subject, h.promotional_microusd AS expected, coalesce(p.sum, 0) AS found
        FROM ledger_hold h CROSS JOIN LATERAL (SELECT sum(amount) AS sum FROM unnest(h.grant_amounts_microusd) AS parts (amount)) AS p
        WHERE (h.state = 'open' OR cardinality(h.grant_ids) > 0)
          AND (h.promotional_microusd <> coalesce(p.sum, 0) OR cardinality(h.grant_ids) <> cardinality(h.grant_amounts_microusd))
        """,
    ),
    *(
        Check(
            f"budgets, {period}",
            "what a budget has used is what its holds in that window hold or were charged",
            _counted(period),
        )
        for period in ("total", "daily", "weekly", "monthly")
    ),
    Check(
        "references",
        "a hold and a transfer are of an organization with an account, and a transfer of a hold is its organization's",
        """
        SELECT h.organization_id, 'hold ' || h.key AS subject, 'an account' AS expected, 'none' AS found
        FROM ledger_hold h LEFT JOIN ledger_account a ON a.organization_id = h.organization_id WHERE a.id IS NULL
        UNION ALL
        SELECT t.organization_id, 'transfer ' || t.key, 'an account', 'none'
        FROM ledger_transfer t LEFT JOIN ledger_account a ON a.organization_id = t.organization_id WHERE a.id IS NULL
        UNION ALL
        SELECT t.organization_id, 'transfer ' || t.key, 'hold ' || t.hold_id, coalesce('of ' || h.organization_id, 'none')
        FROM ledger_transfer t LEFT JOIN ledger_hold h ON h.id = t.hold_id
        WHERE t.hold_id IS NOT NULL AND h.organization_id IS DISTINCT FROM t.organization_id
        """,
    ),
    Check(
        "budget of the organization",
        "every account has the budget that counts all it spends",
        """
        SELECT a.organization_id, 'budget' AS subject, 1 AS expected, 0 AS found FROM ledger_account a
        WHERE NOT EXISTS (SELECT FROM ledger_budget b WHERE b.organization_id = a.organization_id AND b.kind = 'organization')
        """,
    ),
)


def audit() -> Iterator[Finding]:
    """What is wrong, as it is found. An empty run is the proof."""
    with transaction.atomic(), connection.cursor() as cursor:
        if not connection.savepoint_ids:  # a test's own transaction cannot change its level
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield from findings(cursor)


def findings(cursor: Any) -> Iterator[Finding]:
    """As `audit`, in the caller's transaction."""
    for check in CHECKS:
        cursor.execute(check.sql)
        while rows := cursor.fetchmany(500):
            for organization_id, subject, expected, found in rows:
                yield Finding(check.name, check.says, str(organization_id), str(subject), str(expected), str(found))
    yield from unguarded(cursor)


def unguarded(cursor: Any) -> Iterator[Finding]:
    """Constraints and triggers that should be there and hold: the last line of defence must not have been dropped."""
    wanted = TRIGGERS | {
        constraint.name for model in (Account, Budget, Grant, Hold, Transfer) for constraint in model._meta.constraints
    }
    wanted |= {
        f"{model._meta.db_table}.{field.column}"
        for model in (Account, Budget)
        for field in model._meta.concrete_fields
        if isinstance(field, AmountField)
    }
    cursor.execute(
        "SELECT conname FROM pg_constraint WHERE convalidated AND conrelid::regclass::text LIKE 'ledger_%' "
        "UNION SELECT indexname FROM pg_indexes WHERE tablename LIKE 'ledger_%' "
        "UNION SELECT tgname FROM pg_trigger WHERE tgenabled <> 'D' AND tgrelid::regclass::text LIKE 'ledger_%' "
        "UNION SELECT a.attrelid::regclass || '.' || a.attname FROM pg_attribute a JOIN pg_constraint c ON c.contypid = a.atttypid "
        "WHERE c.convalidated AND c.conname = 'ledger_amount_not_negative'"
    )
    for name in sorted(wanted - {name for (name,) in cursor.fetchall()}):
        yield Finding("constraints", "each constraint of the ledger is in force", "", name, "in force", "missing")
