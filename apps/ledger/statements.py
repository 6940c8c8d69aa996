"""The journal's writes as plans, run by pages and by the async doors alike.

Each write is one call of a function in the database (`migrations/0008_movements.py`, `0017_lean_hold.py`). It locks the
organization's account row, whose waiters stand in a queue (`0022_queue_of_an_organization.py`): what it reads after that is
the newest, and nobody else moves this organization's money, grants or budgets until the transaction ends. So it writes all
it can before, and a plan calls it last, that the hot row is held as briefly as can be.
"""

import json
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from apps.core.errors import PortalError
from apps.core.ids import uuid7
from apps.core.money import usd
from apps.core.sql import Plan, Row, Statement, array

PLATFORM = frozenset(
    {
        "revenue",
        "stripe_clearing",
        "fees",
        "refunds",
        "disputes",
        "credits_granted",
        "credits_expired",
        "tax",
        "adjustments",
        "house:overrun",
    }
)
LONGEST_PART = 24  # characters of a part's name: it joins the hold's key in a transfer's


class InsufficientCredit(PortalError):
    """The organization cannot cover the worst case of this request. Nothing was held."""

    code, status, type, retryable = "insufficient_credit", 402, "insufficient_quota", False


class BudgetExceeded(PortalError):
    """A limit of the organization, the member or the key leaves less than the worst case. Nothing was held."""

    code, status, type, retryable = "budget_exceeded", 402, "insufficient_quota", False


class PaymentOwed(PortalError):
    """A payment was taken back after it had been spent: nothing new until it is paid. Nothing was held."""

    code, status, type, retryable = "payment_owed", 402, "insufficient_quota", False


@dataclass(frozen=True, slots=True)
class Settlement:
    """What became of a hold: charged, gone back, and what we bear because the cost passed the hold.

    `charged_microusd` is what this call charged; of a repeated call, all that the hold was charged.
    """

    charged_microusd: int
    returned_microusd: int
    overrun_microusd: int
    repeated: bool = False


RESERVE = """
SELECT ledger_open_hold(%(organization)s::uuid, %(amount)s::bigint, %(key)s::text, %(id)s::uuid, %(budgets)s::bigint[]) AS opened
"""
# Two verbs as expressions of a larger statement, which calls them last; `hold` and `end` give their parameters.
HOLD = """
ledger_hold(%(hold_organization)s::uuid, %(hold_amount)s::bigint, %(hold_key)s::text, %(hold_id)s::uuid, %(hold_budgets)s::bigint[])
"""
END_HOLD = "ledger_end_hold(%(hold_key)s::text, %(hold_cost)s::bigint, NULL)"
REFUSED = "LE402"  # SQLSTATE of a hold that is refused

END = "SELECT ledger_end_hold(%(key)s::text, %(cost)s::bigint, %(part)s::text) AS ended"
OPEN_ACCOUNT = """
WITH account AS (
    INSERT INTO ledger_account (organization_id, credit_microusd, promotional_microusd, held_microusd, receivable_microusd)
    VALUES (%(organization)s::uuid, 0, 0, 0, 0) ON CONFLICT (organization_id) DO NOTHING
)
INSERT INTO ledger_budget (kind, organization_id, title, total_used_microusd, daily_used_microusd, weekly_used_microusd, monthly_used_microusd, day)
VALUES ('organization', %(organization)s::uuid, '', 0, 0, 0, 0, (clock_timestamp() AT TIME ZONE 'UTC')::date) ON CONFLICT DO NOTHING
"""
GRANT = """
SELECT ledger_grant_credit(%(organization)s::uuid, %(amount)s::bigint, %(key)s::text, %(reason)s::text, %(actor)s::text, %(expires)s::timestamptz) AS done
"""
DEPOSIT = """
SELECT ledger_deposit(%(organization)s::uuid, %(source)s::text, %(amount)s::bigint, %(key)s::text, %(reason)s::text, %(actor)s::text) AS done
"""
WITHDRAW = """
SELECT ledger_withdraw(%(organization)s::uuid, %(target)s::text, %(amount)s::bigint, %(key)s::text, %(reason)s::text, %(actor)s::text, %(owe)s::boolean) AS done
"""
POST = """
WITH account AS (SELECT organization_id FROM ledger_account WHERE organization_id = %(organization)s::uuid), journal AS (
    INSERT INTO ledger_transfer (id, key, organization_id, debit, credit, amount_microusd, reason, actor, at)
    SELECT gen_random_uuid(), %(key)s::text, organization_id, %(debit)s::text, %(credit)s::text, %(amount)s::bigint, %(reason)s::text, %(actor)s::text, clock_timestamp()
    FROM account ON CONFLICT (key) DO NOTHING RETURNING id
)
SELECT CASE WHEN EXISTS (SELECT FROM account) THEN EXISTS (SELECT FROM journal) END AS done
"""
EXPIRING = """
SELECT id FROM ledger_grant WHERE remaining_microusd > 0 AND expires_at <= clock_timestamp() ORDER BY expires_at LIMIT 500
"""
OWING = """
SELECT organization_id FROM ledger_account WHERE receivable_microusd > 0 AND credit_microusd > 0 LIMIT 500
"""
BALANCE = """
SELECT credit_microusd, held_microusd, receivable_microusd, promotional_microusd - (
    SELECT coalesce(sum(remaining_microusd), 0)::bigint FROM ledger_grant g
    WHERE g.organization_id = a.organization_id AND remaining_microusd > 0 AND expires_at <= clock_timestamp()
) AS promotional_microusd
FROM ledger_account a WHERE organization_id = %(organization)s::uuid
"""


def reserve(organization_id: UUID, microusd: int, key: str, budgets: tuple[int, ...] = ()) -> Plan[UUID]:
    """Hold `microusd` (≥ 0) of an organization's credit and of each budget, promotional credit first, all or nothing.

    `budgets` are those of the member and the key; the organization's own always counts. Safe to repeat with the same
    key. Raises PaymentOwed, InsufficientCredit or BudgetExceeded, in this order.
    """
    if microusd < 0:
        raise ValueError("a hold is not negative")
    rows = yield Statement(
        RESERVE,
        {"organization": organization_id, "amount": microusd, "key": key, "id": uuid7(), "budgets": array(budgets)},
    )
    opened: Row = rows[0]["opened"]
    if "refused" in opened:
        raise refusal(opened, microusd)
    return UUID(opened["hold"])


def hold(organization_id: UUID, microusd: int, key: str, budgets: tuple[int, ...]) -> dict[str, object]:
    """Of `HOLD`. What `reserve` refuses raises in the database; `refused` reads it."""
    if microusd < 0:
        raise ValueError("a hold is not negative")
    return {
        "hold_organization": organization_id,
        "hold_amount": microusd,
        "hold_key": key,
        "hold_id": uuid7(),
        "hold_budgets": array(budgets),
    }


def refused(error: BaseException, microusd: int) -> PortalError | None:
    """The refusal that a failed statement with `HOLD` stands for; None where it failed by something else."""
    cause = error if hasattr(error, "diag") else error.__cause__  # Django's connection wraps the driver's errors
    diagnosis = getattr(cause, "diag", None)
    if diagnosis is None or diagnosis.sqlstate != REFUSED:
        return None
    return refusal(json.loads(diagnosis.message_detail), microusd)


def refusal(row: Row, microusd: int) -> PortalError:
    """What a spender reads: what it may cost, what is left, whose limit it is, and what to do."""
    if row["refused"] == "owed":
        return PaymentOwed(
            f"A payment was taken back by the bank and {exact(row['owed'])} of it had been spent. "
            "Nothing new runs until it is paid: add credit on the Billing page."
        )
    may = f"This request may cost up to {exact(microusd)}"
    if row["refused"] == "credit":
        return InsufficientCredit(
            f"{may}; this organization has {exact(row['available'])} available. "
            "Send less, lower the maximum output, or add credit on the Billing page."
        )
    whose = {"organization": "the organization", "member": "the member", "key": "the API key"}[row["kind"]]
    named = f"{whose} “{row['title']}”" if row["title"] else whose
    ends = window_end(row["period"], datetime.now(UTC).date())
    until = f" until {ends.day} {ends:%b %Y}, 00:00 UTC" if ends else ""
    left = max(row["most"] - row["used"], 0)
    smaller = "Send less, lower the maximum output, or raise" if left else "Raise"
    return BudgetExceeded(
        f"{may}; the {row['period']} limit of {named} leaves {exact(left)}{until}. {smaller} the limit on the Limits page."
    )


def exact(microusd: int) -> str:
    """To the micro-dollar: a refusal may be about the last one."""
    return f"${usd(microusd):,.6f}"


def window_start(period: str, day: date) -> date:
    """The first UTC day of the window that `day` lies in; ISO weeks begin on Monday. A total has one window, from day 1."""
    if period == "weekly":
        return day - timedelta(days=day.weekday())
    if period == "monthly":
        return day.replace(day=1)
    return day if period == "daily" else date.min


def window_end(period: str, day: date) -> date | None:
    """The first UTC day after the window that `day` lies in; None for a total."""
    if period == "total":
        return None
    days = {"daily": 1, "weekly": 7, "monthly": 31}[period]
    return window_start(period, window_start(period, day) + timedelta(days=days))


def settle(key: str, cost_microusd: int) -> Plan[Settlement]:
    """End a hold: charge it, never above it, and return the rest to where it came from. Safe to repeat: the first end stands.

    What the cost passes the hold by is booked on `house:overrun`: ours. A cost of 0 releases what is left.
    """
    return (yield from _end(key, cost_microusd, None))


def charge(key: str, cost_microusd: int, part: str) -> Plan[Settlement]:
    """Charge a part of a hold that stays open. Safe to repeat with the same part; parts of an ended hold change nothing."""
    if not part or len(part) > LONGEST_PART:
        raise ValueError(f"a part's name has 1 to {LONGEST_PART} characters")
    return (yield from _end(key, cost_microusd, part))


def end(key: str, cost_microusd: int) -> dict[str, object]:
    """Of `END_HOLD`; `settled` reads what it gives."""
    if cost_microusd < 0:
        raise ValueError("a cost is not negative")
    return {"hold_key": key, "hold_cost": cost_microusd}


def settled(key: str, ended: list[int] | None) -> Settlement:
    """Raises LookupError where there is no such hold."""
    if ended is None:
        raise LookupError(f"no hold {key}")
    charged, returned, overrun, repeated = ended
    return Settlement(charged, returned, overrun, bool(repeated))


def _end(key: str, cost_microusd: int, part: str | None) -> Plan[Settlement]:
    if cost_microusd < 0:
        raise ValueError("a cost is not negative")
    rows = yield Statement(END, {"key": key, "cost": cost_microusd, "part": part})
    return settled(key, rows[0]["ended"])


def release(key: str) -> Plan[Settlement]:
    """Return what is left of a hold."""
    return settle(key, 0)


def open_account(organization_id: UUID) -> Plan[None]:
    yield Statement(OPEN_ACCOUNT, {"organization": organization_id})


def grant(
    *, organization_id: UUID, microusd: int, key: str, reason: str, actor: str, expires_at: datetime | None = None
) -> Plan[bool]:
    """Give promotional credit once per key. False where the key was used before."""
    done = yield from _write(
        GRANT,
        organization=organization_id,
        amount=microusd,
        key=key,
        reason=reason,
        actor=actor,
        expires=expires_at,
    )
    return bool(done)


def deposit(
    *, organization_id: UUID, microusd: int, key: str, reason: str, actor: str, source: str = "stripe_clearing"
) -> Plan[bool]:
    """Paid credit from a platform account; what the organization owes is paid back from it first."""
    _platform(source)
    done = yield from _write(
        DEPOSIT,
        organization=organization_id,
        amount=microusd,
        key=key,
        reason=reason,
        actor=actor,
        source=source,
    )
    return bool(done)


def withdraw(
    *, organization_id: UUID, microusd: int, key: str, reason: str, actor: str, to: str = "refunds"
) -> Plan[bool]:
    """Free paid credit to a platform account, all of it or InsufficientCredit."""
    by = {"key": key, "reason": reason, "actor": actor}
    done = yield from _take(organization_id, microusd, to, owe=False, **by)
    if done == "short":
        raise InsufficientCredit(f"Less than {exact(microusd)} of paid credit is free. Nothing was moved.")
    return done == "done"


def claw_back(
    *, organization_id: UUID, microusd: int, key: str, reason: str, actor: str, to: str = "disputes"
) -> Plan[bool]:
    """To a platform account from free paid credit, and what is short of it becomes owed."""
    by = {"key": key, "reason": reason, "actor": actor}
    return (yield from _take(organization_id, microusd, to, owe=True, **by)) == "done"


def _take(organization_id: UUID, microusd: int, to: str, *, owe: bool, **by: str) -> Plan[object]:
    _platform(to)
    return (yield from _write(WITHDRAW, organization=organization_id, amount=microusd, target=to, owe=owe, **by))


def post(
    *, organization_id: UUID, debit: str, credit: str, microusd: int, key: str, reason: str, actor: str
) -> Plan[bool]:
    """A transfer between two platform accounts on an organization's behalf: fees, tax, what left or reached Stripe."""
    _platform(debit)
    _platform(credit)
    done = yield from _write(
        POST,
        organization=organization_id,
        debit=debit,
        credit=credit,
        amount=microusd,
        key=key,
        reason=reason,
        actor=actor,
    )
    return bool(done)


def _write(sql: str, **params: object) -> Plan[object]:
    _positive(params["amount"])
    rows = yield Statement(sql, params)
    if rows[0]["done"] is None:
        raise LookupError(f"organization {params['organization']} has no account")
    return rows[0]["done"]


def _positive(microusd: object) -> None:
    if not isinstance(microusd, int) or microusd <= 0:
        raise ValueError("an amount is a positive integer of micro-USD")


def _platform(account: str) -> None:
    if account not in PLATFORM:
        raise ValueError(f"{account} is not an account of the platform's")


def expiring() -> Plan[list[UUID]]:
    return [row["id"] for row in (yield Statement(EXPIRING))]


def expire(grant_id: UUID) -> Plan[int]:
    """Move what an expired grant has left to `credits_expired`; how much that was."""
    rows = yield Statement("SELECT ledger_expire(%(grant)s::uuid) AS expired", {"grant": grant_id})
    return int(rows[0]["expired"])


def owing() -> Plan[list[UUID]]:
    """Organizations that owe something and have free paid credit again."""
    return [row["organization_id"] for row in (yield Statement(OWING))]


def collect(organization_id: UUID) -> Plan[int]:
    """Pay back what an organization owes from its free paid credit; how much that was."""
    rows = yield Statement("SELECT ledger_collect(%(organization)s::uuid) AS repaid", {"organization": organization_id})
    return int(rows[0]["repaid"])
