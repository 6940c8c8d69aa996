"""`audit_ledger` finds whatever was changed by hand, and takes no lock."""

import json
from io import StringIO

import pytest
from django.core.management import call_command
from django.db import connection

from apps.ledger import auditing, budgets
from apps.ledger import services as ledger
from tests import make
from tests.threads import run_in_threads


@pytest.fixture
def books(transactional_db):
    organization = make.organization(credit_microusd=1000, promotional_microusd=300)
    key = budgets.budget_of_key(organization, "sync")
    for n in range(4):
        ledger.reserve(organization=organization, microusd=100, key=f"job:{n}", budgets=[key.pk])
    ledger.settle(key="job:0", cost_microusd=130)
    ledger.settle(key="job:1", cost_microusd=40)
    ledger.release(key="job:2")
    return organization


def audited(*arguments):
    out = StringIO()
    try:
        call_command("audit_ledger", *arguments, stdout=out)
    except SystemExit as stop:
        return stop.code, out.getvalue()
    return 0, out.getvalue()


def test_books_in_order(books):
    code, text = audited()
    assert code == 0
    assert text.endswith("1 accounts, 4 holds, 11 transfers: 0 violations\n")
    code, text = audited("--json")
    assert (code, json.loads(text)["violations"]) == (0, 0)


@pytest.mark.parametrize(
    ("spoil", "check"),
    [
        ("UPDATE ledger_account SET credit_microusd = credit_microusd + 1", "balances"),
        ("UPDATE ledger_account SET promotional_microusd = promotional_microusd + 1", "promotional"),
        ("UPDATE ledger_account SET held_microusd = held_microusd + 1", "held"),
        ("UPDATE ledger_account SET receivable_microusd = 5", "balances"),
        ("UPDATE ledger_transfer SET amount_microusd = amount_microusd + 1 WHERE key = 'end:job:1:charge'", "holds"),
        ("DELETE FROM ledger_transfer WHERE key = 'end:job:0:overrun'", "holds"),
        ("DELETE FROM ledger_transfer WHERE key LIKE 'test:%'", "balances"),
        ("UPDATE ledger_grant SET remaining_microusd = remaining_microusd - 1", "grants"),
        ("UPDATE ledger_hold SET grant_amounts_microusd = '{99}' WHERE key = 'job:3'", "grant parts"),
        ("UPDATE ledger_hold SET overrun_microusd = 0", "holds"),
        ("UPDATE ledger_budget SET total_used_microusd = total_used_microusd + 1", "budgets, total"),
        ("UPDATE ledger_budget SET daily_used_microusd = 0", "budgets, daily"),
        ("UPDATE ledger_budget SET weekly_used_microusd = 0", "budgets, weekly"),
        ("UPDATE ledger_budget SET monthly_used_microusd = 0", "budgets, monthly"),
        ("DELETE FROM ledger_budget WHERE kind = 'organization'", "budget of the organization"),
        ("UPDATE ledger_transfer SET hold_id = gen_random_uuid() WHERE key = 'end:job:1:charge'", "references"),
        ("UPDATE ledger_transfer SET organization_id = gen_random_uuid() WHERE key LIKE 'test:%'", "references"),
    ],
)
def test_what_was_changed_by_hand_is_found(books, spoil, check):
    with connection.cursor() as cursor:
        cursor.execute(spoil)
    assert check in {finding.check for finding in auditing.audit()}
    code, text = audited()
    assert code == 1
    assert f"{check}: " in text


def test_a_constraint_that_was_dropped_is_found(books):
    check = "ledger_grant_amount_positive"
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE ledger_grant DROP CONSTRAINT {check}")
        try:
            assert [finding.subject for finding in auditing.audit()] == [check]
        finally:
            cursor.execute(f"ALTER TABLE ledger_grant ADD CONSTRAINT {check} CHECK (amount_microusd > 0)")


def test_amounts_without_their_check_are_found(books):
    with connection.cursor() as cursor:
        cursor.execute("ALTER DOMAIN ledger_amount DROP CONSTRAINT ledger_amount_not_negative")
        try:
            found = {finding.subject for finding in auditing.audit()}
        finally:
            cursor.execute("ALTER DOMAIN ledger_amount ADD CONSTRAINT ledger_amount_not_negative CHECK (VALUE >= 0)")
    assert found >= {"ledger_account.held_microusd", "ledger_budget.daily_used_microusd"}
    assert len(found) == 12


def test_a_trigger_that_was_turned_off_is_found(books):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE ledger_hold DISABLE TRIGGER ledger_hold_kept")
        try:
            assert [finding.subject for finding in auditing.audit()] == ["ledger_hold_kept"]
        finally:
            cursor.execute("ALTER TABLE ledger_hold ENABLE TRIGGER ledger_hold_kept")


def test_it_sees_one_moment_while_money_moves(books):
    """Work goes on in other connections; the audit neither waits for it nor takes it for a difference."""

    def work(n):
        if n % 4 == 0:
            return list(auditing.audit())
        ledger.reserve(organization=books, microusd=5, key=f"more:{n}")
        ledger.settle(key=f"more:{n}", cost_microusd=n % 7)
        return []

    assert run_in_threads(24, work) == [[]] * 24


def test_it_takes_no_lock(books):
    with connection.cursor() as cursor:
        audit = auditing.audit()
        assert next(audit, None) is None
        cursor.execute(
            "SELECT count(*) FROM pg_locks WHERE mode NOT IN ('AccessShareLock', 'ExclusiveLock') AND pid = pg_backend_pid()"
        )
        assert cursor.fetchone() == (0,)
