"""What is written before the account's lock: it goes away with a refusal, and a key that comes twice at once holds once."""

import itertools
import threading

import pytest
from django.db import IntegrityError, connection, transaction

from apps.accounts.models import Organization
from apps.ledger import budgets
from apps.ledger import services as ledger
from apps.ledger.models import Account, Budget, Hold, Transfer
from apps.ledger.services import BudgetExceeded, InsufficientCredit, PaymentOwed
from tests import make
from tests.ledger.books import balanced
from tests.ledger.test_interleavings import BY, waits
from tests.threads import run_in_threads


@pytest.fixture
def organization(transactional_db):
    return make.organization(credit_microusd=100)


def counters(organization):
    return list(
        Budget.objects.filter(organization=organization).order_by("pk").values_list("total_used_microusd", flat=True)
    )


def behind(work):
    """Start `work` in a thread of its own and come back when it waits for a lock; what it will have returned or raised."""
    outcome: list = []
    pid: list[int] = []
    ready = threading.Event()

    def run():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            pid.append(cursor.fetchone()[0])
        ready.set()
        try:
            outcome.append(work())
        except Exception as error:
            outcome.append(error)
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert ready.wait(10)
    for _ in itertools.count():
        if outcome or waits(pid[0]):
            break
    return thread, outcome


MEANWHILE = {
    "credit is spent": (lambda organization, key: ledger.withdraw(organization=organization, microusd=50, key="w", **BY), InsufficientCredit),
    "a payment is taken back": (lambda organization, key: ledger.claw_back(organization=organization, microusd=101, key="c", **BY), PaymentOwed),
    "the key's limit is reached": (lambda organization, key: ledger.reserve(organization=organization, microusd=30, key="other", budgets=[key.pk]), BudgetExceeded),
}  # fmt: skip


@pytest.mark.parametrize("meanwhile", MEANWHILE)
def test_a_refusal_found_behind_the_lock_leaves_nothing_of_what_was_written_before_it(organization, meanwhile):
    key = budgets.budget_of_key(organization, "sync")
    budgets.set_limits(key, daily=89)
    change, refused = MEANWHILE[meanwhile]
    with transaction.atomic():
        change(organization, key)
        thread, outcome = behind(
            lambda: ledger.reserve(organization=organization, microusd=60, key="job:1", budgets=[key.pk])
        )
        expected = (ledger.balance(organization.pk), counters(organization), Transfer.objects.count())
    thread.join(10)
    assert isinstance(outcome[0], refused)
    assert (ledger.balance(organization.pk), counters(organization), Transfer.objects.count()) == expected
    assert not Hold.objects.filter(key="job:1").exists()
    balanced()


def test_a_refusal_leaves_nothing_even_where_the_caller_goes_on(organization):
    """The function undoes by itself; nobody has to roll back."""
    with connection.cursor() as cursor:
        for amount in (101, 10**15):
            cursor.execute(
                "SELECT ledger_open_hold(%s, %s, 'job:1', gen_random_uuid(), '{}')->>'refused'",
                [organization.pk, amount],
            )
            assert cursor.fetchone() == ("credit",)
    assert Hold.objects.count() == 0
    ledger.reserve(organization=organization, microusd=100, key="job:1")
    balanced()


def test_promotional_credit_that_comes_while_a_hold_waits_is_spent_first(organization):
    with transaction.atomic():
        ledger.grant(organization=organization, microusd=25, key="gift", **BY)
        thread, _ = behind(lambda: ledger.reserve(organization=organization, microusd=60, key="job:1"))
    thread.join(10)
    hold = Hold.objects.get()
    assert (hold.promotional_microusd, hold.credit_microusd, len(hold.budget_ids)) == (25, 35, 1)
    assert Transfer.objects.filter(hold=hold).count() == 2
    balanced()


@pytest.mark.parametrize("promotional", [0, 40])
@pytest.mark.parametrize("commits", [True, False])
def test_the_same_key_at_once_is_the_first_hold_or_a_new_one(organization, promotional, commits):
    if promotional:
        ledger.grant(organization=organization, microusd=promotional, key="gift", **BY)
    with transaction.atomic():
        first = ledger.reserve(organization=organization, microusd=60, key="job:1")
        thread, outcome = behind(lambda: ledger.reserve(organization=organization, microusd=60, key="job:1"))
        if not commits:
            transaction.set_rollback(True)
    thread.join(10)
    assert (outcome == [first]) is commits
    assert Hold.objects.get().pk == outcome[0]
    assert ledger.balance(organization.pk).held_microusd == counters(organization)[0] == 60
    balanced()


def test_a_key_sent_by_32_at_once_holds_once_while_promotional_credit_comes_and_goes(organization):
    """Both ways through the function lock the hold before the account, so no two calls wait for each other."""

    def work(n):
        if n % 8 == 0:
            return ledger.grant(organization=organization, microusd=3, key=f"gift:{n}", **BY)
        return ledger.reserve(organization=organization, microusd=5, key=f"job:{n % 2}")

    outcomes = run_in_threads(32, work)
    assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
    assert Hold.objects.count() == 2
    assert ledger.balance(organization.pk).held_microusd == 10
    balanced()


def test_a_hold_that_ends_on_another_day_than_some_of_its_budgets(organization):
    """One budget has gone on to the next day, the other has not: each gives back in the windows it counted in."""
    key = budgets.budget_of_key(organization, "sync")
    ledger.reserve(organization=organization, microusd=60, key="job:1", budgets=[key.pk])
    with connection.cursor() as cursor:
        cursor.execute("UPDATE ledger_hold SET day = day - 1")
        cursor.execute("UPDATE ledger_budget SET day = day - 1 WHERE id = %s", [key.pk])
        cursor.execute("UPDATE ledger_budget SET daily_used_microusd = 0 WHERE id <> %s", [key.pk])
        cursor.execute("UPDATE ledger_budget SET weekly_used_microusd = 0 WHERE id <> %s AND extract(isodow FROM day) = 1", [key.pk])  # fmt: skip
        cursor.execute("UPDATE ledger_budget SET monthly_used_microusd = 0 WHERE id <> %s AND extract(day FROM day) = 1", [key.pk])  # fmt: skip
    balanced()
    ledger.settle(key="job:1", cost_microusd=20)
    key.refresh_from_db()
    assert (key.daily_used_microusd, key.total_used_microusd) == (20, 20)
    assert budgets.budget_of_organization(organization).total_used_microusd == 20
    balanced()


@pytest.mark.parametrize(
    "taken",
    [
        "DELETE FROM ledger_hold",
        "UPDATE ledger_hold SET id = gen_random_uuid()",
        "DELETE FROM ledger_account",
        "UPDATE ledger_account SET organization_id = gen_random_uuid()",
    ],
)
def test_what_the_journal_names_is_not_taken_away(organization, taken):
    ledger.reserve(organization=organization, microusd=60, key="job:1")
    with pytest.raises(IntegrityError, match=r"has (holds or )?transfers"), connection.cursor() as cursor:
        cursor.execute(taken)
    with pytest.raises(IntegrityError), connection.cursor() as cursor:
        cursor.execute("DELETE FROM accounts_organization WHERE id = %s", [organization.pk])
    balanced()


def test_a_post_of_an_organization_without_an_account_is_none(transactional_db):
    nobody = Organization.objects.create(name="Nobody")
    with pytest.raises(LookupError):
        ledger.post(organization=nobody, debit="fees", credit="stripe_clearing", microusd=1, key="fee:1", **BY)
    assert (Transfer.objects.count(), Account.objects.count()) == (0, 0)
