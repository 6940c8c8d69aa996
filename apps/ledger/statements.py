"""The journal's few writes, each one SQL statement, run by pages and by the async doors alike.

Locks: the organization's account row, and for `settle` and `release` first the hold. An account row is touched last in
a transaction, so that the organizations' hot row is held as briefly as can be.
"""

from dataclasses import dataclass
from uuid import UUID

from apps.core.errors import PortalError
from apps.core.ids import uuid7
from apps.core.sql import Plan, Statement


class InsufficientCredit(PortalError):
    """The organization cannot cover the worst case of this request. Nothing was held."""

    code, status, type, retryable = "insufficient_credit", 402, "insufficient_quota", False


@dataclass(frozen=True, slots=True)
class Settlement:
    """How a hold ended: what was charged, what went back, and what we bear because the cost passed the hold."""

    charged_microusd: int
    returned_microusd: int
    overrun_microusd: int
    repeated: bool = False


RESERVE = """
WITH existing AS (
    SELECT id FROM ledger_hold WHERE key = %(key)s::text
), account AS (
    SELECT id, promotional_microusd, credit_microusd FROM ledger_account
    WHERE organization_id = %(organization)s::uuid AND NOT EXISTS (SELECT FROM existing)
    FOR UPDATE
), taken AS (
    UPDATE ledger_account SET
        promotional_microusd = account.promotional_microusd - least(account.promotional_microusd, %(amount)s::bigint),
        credit_microusd = account.credit_microusd - (%(amount)s::bigint - least(account.promotional_microusd, %(amount)s::bigint)),
        held_microusd = ledger_account.held_microusd + %(amount)s::bigint
    FROM account
    WHERE ledger_account.id = account.id
      AND account.promotional_microusd + account.credit_microusd >= %(amount)s::bigint
      AND ledger_account.receivable_microusd = 0
    RETURNING least(account.promotional_microusd, %(amount)s::bigint) AS promotional
), hold AS (
    INSERT INTO ledger_hold (id, key, organization_id, state, promotional_microusd, credit_microusd,
        promotional_charged_microusd, credit_charged_microusd, overrun_microusd, created_at)
    SELECT %(id)s::uuid, %(key)s::text, %(organization)s::uuid, 'open', promotional, %(amount)s::bigint - promotional, 0, 0, 0, clock_timestamp()
    FROM taken
    RETURNING id, promotional_microusd, credit_microusd
), journal AS (
    INSERT INTO ledger_transfer (id, key, organization_id, debit, credit, amount_microusd, hold_id, reason, actor, at)
    SELECT gen_random_uuid(), 'reserve:' || %(key)s::text || ':' || part, %(organization)s::uuid, part, 'held', amount, id, '', '', clock_timestamp()
    FROM hold, LATERAL (VALUES ('promotional', promotional_microusd), ('credit', credit_microusd)) AS parts (part, amount)
    WHERE amount > 0
)
SELECT (SELECT id FROM existing) AS existing, (SELECT id FROM hold) AS made,
    (SELECT promotional_microusd + credit_microusd FROM account) AS available
"""

END = """
WITH hold AS (
    SELECT * FROM ledger_hold WHERE key = %(key)s::text AND state = 'open' FOR UPDATE
), parts AS (
    SELECT *,
        least(%(cost)s::bigint, promotional_microusd) AS from_promotional,
        least(greatest(%(cost)s::bigint - promotional_microusd, 0), credit_microusd) AS from_credit,
        greatest(%(cost)s::bigint - promotional_microusd - credit_microusd, 0) AS overrun
    FROM hold
), ended AS (
    UPDATE ledger_hold SET
        state = CASE WHEN %(cost)s::bigint > 0 THEN 'settled' ELSE 'released' END,
        promotional_charged_microusd = parts.from_promotional,
        credit_charged_microusd = parts.from_credit,
        overrun_microusd = parts.overrun,
        ended_at = clock_timestamp()
    FROM parts WHERE ledger_hold.id = parts.id
    RETURNING parts.*
), journal AS (
    INSERT INTO ledger_transfer (id, key, organization_id, debit, credit, amount_microusd, hold_id, reason, actor, at)
    SELECT gen_random_uuid(), 'end:' || %(key)s::text || ':' || step, organization_id, debit, credit, amount, id, '', '', clock_timestamp()
    FROM ended, LATERAL (VALUES
        ('charge', 'held', 'revenue', from_promotional + from_credit),
        ('return:promotional', 'held', 'promotional', promotional_microusd - from_promotional),
        ('return:credit', 'held', 'credit', credit_microusd - from_credit),
        ('overrun', 'house:overrun', 'revenue', overrun)
    ) AS steps (step, debit, credit, amount)
    WHERE amount > 0
), account AS (
    UPDATE ledger_account SET
        held_microusd = held_microusd - ended.promotional_microusd - ended.credit_microusd,
        promotional_microusd = ledger_account.promotional_microusd + ended.promotional_microusd - from_promotional,
        credit_microusd = ledger_account.credit_microusd + ended.credit_microusd - from_credit
    FROM ended WHERE ledger_account.organization_id = ended.organization_id
)
SELECT from_promotional + from_credit AS charged,
    promotional_microusd + credit_microusd - from_promotional - from_credit AS returned, overrun
FROM ended
"""

ENDED = """
SELECT promotional_charged_microusd + credit_charged_microusd AS charged,
    promotional_microusd + credit_microusd - promotional_charged_microusd - credit_charged_microusd AS returned,
    overrun_microusd AS overrun
FROM ledger_hold WHERE key = %(key)s::text AND state <> 'open'
"""

OPEN_ACCOUNT = """
INSERT INTO ledger_account (organization_id, credit_microusd, promotional_microusd, held_microusd, receivable_microusd)
VALUES (%(organization)s::uuid, 0, 0, 0, 0) ON CONFLICT (organization_id) DO NOTHING
"""

GRANT = """
WITH journal AS (
    INSERT INTO ledger_transfer (id, key, organization_id, debit, credit, amount_microusd, reason, actor, at)
    VALUES (gen_random_uuid(), %(key)s::text, %(organization)s::uuid, 'credits_granted', %(credit)s::text, %(amount)s::bigint, %(reason)s, %(actor)s, clock_timestamp())
    ON CONFLICT (key) DO NOTHING
    RETURNING organization_id, amount_microusd
), account AS (
    UPDATE ledger_account SET
        credit_microusd = credit_microusd + CASE WHEN %(credit)s::text = 'credit' THEN amount_microusd ELSE 0 END,
        promotional_microusd = promotional_microusd + CASE WHEN %(credit)s::text = 'promotional' THEN amount_microusd ELSE 0 END
    FROM journal WHERE ledger_account.organization_id = journal.organization_id
    RETURNING ledger_account.id
)
SELECT (SELECT count(*) FROM journal) AS journalled, (SELECT count(*) FROM account) AS credited
"""

BALANCE = """
SELECT credit_microusd, promotional_microusd, held_microusd, receivable_microusd
FROM ledger_account WHERE organization_id = %(organization)s::uuid
"""


def reserve(organization_id: UUID, microusd: int, key: str) -> Plan[UUID]:
    """Hold `microusd` (≥ 0) of an organization's credit, promotional credit first. Safe to repeat with the same key.

    Raises InsufficientCredit. Two first calls with one key at the same moment: the later fails on the unique key.
    """
    if microusd < 0:
        raise ValueError("a hold is not negative")
    rows = yield Statement(RESERVE, {"organization": organization_id, "amount": microusd, "key": key, "id": uuid7()})
    row = rows[0]
    hold: UUID | None = row["made"] or row["existing"]
    if hold is None:
        available = row["available"] or 0
        raise InsufficientCredit(
            f"This request may cost up to ${microusd / 1_000_000:.6f}; this organization has "
            f"${available / 1_000_000:.6f} available. Send less or lower the maximum output. "
            "For more credit, an owner of the organization asks the operator of this portal."
        )
    return hold


def settle(key: str, cost_microusd: int) -> Plan[Settlement]:
    """Charge a hold, never above it, and return the rest to where it came from. Safe to repeat: the first end stands.

    What the cost passes the hold by is booked on `house:overrun`: ours. A cost of 0 releases the hold.
    """
    if cost_microusd < 0:
        raise ValueError("a cost is not negative")
    rows = yield Statement(END, {"key": key, "cost": cost_microusd})
    if rows:
        return Settlement(rows[0]["charged"], rows[0]["returned"], rows[0]["overrun"])
    rows = yield Statement(ENDED, {"key": key})
    if not rows:
        raise LookupError(f"no hold {key}")
    return Settlement(rows[0]["charged"], rows[0]["returned"], rows[0]["overrun"], repeated=True)


def release(key: str) -> Plan[Settlement]:
    """Return a hold in full."""
    return settle(key, 0)


def open_account(organization_id: UUID) -> Plan[None]:
    yield Statement(OPEN_ACCOUNT, {"organization": organization_id})


def grant(*, organization_id: UUID, microusd: int, key: str, reason: str, actor: str, promotional: bool) -> Plan[bool]:
    """Give credit once per key. False where the key was used before."""
    if microusd <= 0:
        raise ValueError("a grant is positive")
    rows = yield Statement(
        GRANT,
        {
            "organization": organization_id,
            "amount": microusd,
            "key": key,
            "reason": reason,
            "actor": actor,
            "credit": "promotional" if promotional else "credit",
        },
    )
    if rows[0]["journalled"] != rows[0]["credited"]:
        raise LookupError(f"organization {organization_id} has no account")
    return bool(rows[0]["journalled"])
