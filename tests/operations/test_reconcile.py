"""`reconcile` proves a mixed story to the micro-dollar, and finds whatever was changed by hand."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client
from django.urls import reverse

from apps.billing import plans, refunds
from apps.billing.models import Plan, SandboxObject, TopUp
from apps.catalog import offers
from apps.dispatch import services as dispatch
from apps.dispatch.work import Work
from apps.jobs.models import Job
from apps.keys.services import Caller
from apps.ledger import budgets
from apps.ledger import services as ledger
from apps.ledger.models import Hold
from apps.operations import clearing, reconciling, tasks
from apps.operations.models import Reconciliation
from apps.runner.protocol import Usage
from cango_portal import database
from tests import make
from tests.billing.stories import buy, failed, later, start
from tests.dispatch import site
from tests.ledger.books import balanced
from tests.threads import run_in_threads


def run(*, since=None, **later_by):
    """As it will be seen `later_by` from now: by default when nothing is young any more."""
    return reconciling.run(since=since, now=later(**(later_by or {"days": 1})))


def checks(row):
    return [(item["part"], item["check"]) for item in row.report["items"]]


def change(sql):
    """What no code of ours does. Constraints that would refuse it are not what is tested here."""
    with connection.cursor() as cursor:
        cursor.execute(sql)
        assert cursor.rowcount > 0, sql


@pytest.fixture
def story(stripe):
    """Jobs that ended every way, one open, a plan, top-ups, a refund and a dispute."""
    owner = make.user()
    organization = make.organization(credit_microusd=1_000_000, owner=owner)
    plan = Plan.objects.create(
        code="team", title="Team", price_cents=9_900, included_microusd=100_000_000, max_open_jobs=5_000
    )
    plans.subscribe(organization, plan, owner)
    stripe.pay(stripe.every("checkout.session")[0]["id"])
    stripe.deliver()
    bought, disputed = (buy(stripe, organization, owner, amount) for amount in ("25.00", "12.34"))
    refunds.request(top_up=bought, actor=owner, amount="10.00")
    stripe.dispute(disputed.payment_intent_id)
    stripe.deliver()
    assert failed() == []
    model = make.model()
    make.pool(model=model, slots=2)

    def submitted():
        caller = Caller(organization_id=organization.pk, api_key_id=None, user_id=None)
        work = Work(
            offer=database.run(offers.offer(model.name)),
            body={"messages": [{"role": "user", "content": "Hello"}]},
            interactive=True,
            streaming=True,
            prompt_tokens_ceiling=1000,
            max_completion_tokens=500,
        )
        return Job.objects.get(pk=dispatch.submit(caller=caller, work=work).job_id)

    def ended(**report):
        job = submitted()
        site.deliver(site.report(job, **report))
        job.refresh_from_db()
        return job

    done = ended()
    ended(state="succeeded", usage=Usage(prompt_tokens=900_000, completion_tokens=900_000))  # an overrun
    ended(state="failed", usage=Usage(prompt_tokens=10), failure=site.BAD_REQUEST)
    broken = ended(
        state="failed", usage=Usage(prompt_tokens=10, completion_tokens=7), failure=site.BAD_REQUEST, streamed=True
    )
    assert broken.state == "failed"
    assert broken.charge_microusd > 0
    cancelled = submitted()
    dispatch.cancel(job_id=cancelled.pk)
    submitted()
    return {"organization": organization, "done": done, "top_up": bought, "owner": owner}


def test_a_mixed_story_has_no_difference(story):
    row = run()
    assert row.report["items"] == []
    assert (row.differences, row.pending) == (0, 0)
    assert row.report["overruns"] == 1
    [overrun] = row.report["overrun_items"]
    assert int(overrun["found"]) - int(overrun["expected"]) == row.report["overrun_microusd"]
    checked, totals = row.report["checked"], row.report["totals_microusd"]
    assert (checked["ended_jobs"], checked["open_jobs"]) == (5, 1)
    assert checked["stripe_transactions"] == 5
    assert totals["stripe_net"] == -totals["stripe_clearing"] > 0
    balanced()


JOB = "(SELECT id FROM jobs_job WHERE state = 'succeeded' ORDER BY created_at LIMIT 1)"
HOLD = f"(SELECT 'job:' || {JOB})"


BY_HAND = [
    ("UPDATE ledger_account SET credit_microusd = credit_microusd + 1", ("ledger", "balances")),
    ("UPDATE ledger_account SET held_microusd = held_microusd + 1", ("ledger", "held")),
    ("UPDATE ledger_grant SET remaining_microusd = remaining_microusd - 1", ("ledger", "promotional")),
    ("UPDATE ledger_budget SET monthly_used_microusd = monthly_used_microusd + 1", ("ledger", "budgets, monthly")),
    (f"UPDATE jobs_job SET charge_microusd = charge_microusd + 1 WHERE id = {JOB}", ("jobs", "charge")),
    (f"UPDATE jobs_job SET completion_tokens = completion_tokens + 999 WHERE id = {JOB}", ("jobs", "usage")),
    (f"UPDATE jobs_job SET tier = 'batch' WHERE id = {JOB}", ("jobs", "usage")),
    (f"UPDATE jobs_job SET discount_basis_points = 5000 WHERE id = {JOB}", ("jobs", "usage")),
    ("UPDATE catalog_priceversion SET output_microusd_per_mtok = output_microusd_per_mtok * 2", ("jobs", "usage")),
    (f"UPDATE jobs_job SET hold_microusd = hold_microusd + 1 WHERE id = {JOB}", ("jobs", "hold")),
    (f"UPDATE ledger_hold SET overrun_microusd = 7 WHERE key = {HOLD}", ("jobs", "overrun")),
    (f"UPDATE ledger_hold SET state = 'open', ended_at = NULL WHERE key = {HOLD}", ("jobs", "hold")),
    (f"UPDATE ledger_hold SET key = 'job:lost' WHERE key = {HOLD}", ("jobs", "job")),
    (f"UPDATE ledger_hold SET key = 'job:lost' WHERE key = {HOLD}", ("jobs", "hold")),
    ("UPDATE ledger_hold SET key = 'nobody' WHERE state = 'open'", ("jobs", "job")),
    ("UPDATE ledger_hold SET key = 'nobody' WHERE state = 'open'", ("jobs", "hold")),
    (
        "UPDATE ledger_transfer SET amount_microusd = amount_microusd + 10000 WHERE key LIKE 'topup:%'",
        ("stripe", "amount"),
    ),
    (
        "UPDATE ledger_transfer SET amount_microusd = amount_microusd - 1 WHERE key LIKE 'fee:%'",
        ("stripe", "amount"),
    ),
    ("DELETE FROM ledger_transfer WHERE key LIKE 'fee:%'", ("stripe", "not booked")),
    ("DELETE FROM ledger_transfer WHERE key LIKE 'refund:%:out'", ("stripe", "not booked")),
    ("DELETE FROM ledger_transfer WHERE key LIKE 'dispute:%:clearing'", ("stripe", "not booked")),
    ("DELETE FROM ledger_transfer WHERE key LIKE 'invoice:%'", ("stripe", "not booked")),
    ("UPDATE ledger_transfer SET key = 'fee:txn_unknown' WHERE key LIKE 'fee:%' AND id = (SELECT min(id::text)::uuid FROM ledger_transfer WHERE key LIKE 'fee:%')", ("stripe", "not at Stripe")),
]  # fmt: skip


def test_what_was_changed_by_hand_is_found(story, caplog):
    """Each change is undone before the next."""
    missed = []
    for sql, found in BY_HAND:
        with transaction.atomic():
            change(sql)
            row = run()
            if found not in checks(row) or row.differences != len(row.report["items"]):
                missed.append((sql, checks(row)))
            transaction.set_rollback(True)
    assert missed == []
    assert caplog.text.count("reconciliation found differences") == len(BY_HAND)
    assert run().differences == 0


@pytest.mark.parametrize(
    ("sql", "found"),
    [
        (
            "DELETE FROM billing_sandboxobject WHERE kind = 'balance_transaction' AND data->>'type' = 'refund'",
            "not at Stripe",
        ),
        (
            "UPDATE billing_sandboxobject SET data = data || '{\"currency\": \"eur\"}' WHERE kind = 'balance_transaction'",
            "currency",
        ),
    ],
)
def test_what_stripe_says_otherwise_is_found(story, sql, found):
    change(sql)
    assert ("stripe", found) in checks(run())


def test_each_difference_says_what_was_expected_and_found(story):
    done, organization = story["done"], story["organization"]
    change(f"UPDATE jobs_job SET charge_microusd = charge_microusd + 1 WHERE id = '{done.pk}'")
    items = run().report["items"]
    assert items == [
        {
            "part": "jobs",
            "check": "charge",
            "subject": done.public_id,
            "organization": organization.public_id,
            "expected": str(done.charge_microusd + 1),
            "found": str(done.charge_microusd),
            "says": "the ledger took what the job says was charged",
        },
        {
            "part": "jobs",
            "check": "usage",
            "subject": done.public_id,
            "organization": organization.public_id,
            "expected": str(done.charge_microusd),
            "found": str(done.charge_microusd + 1),
            "says": "the charge is usage × price × tier × discount, within the hold",
        },
    ]


def test_a_payment_on_its_way_is_pending_while_it_is_young(stripe, story):
    top_up = start(story["organization"], story["owner"], "40.00")
    stripe.pay(top_up.checkout_session_id)
    young = run(minutes=1)
    assert (young.differences, young.pending) == (0, 2)  # the charge, and its fee
    assert {item["check"] for item in young.report["pending_items"]} == {"not booked"}
    old = run(seconds=clearing.PENDING.total_seconds() + 60)
    assert (old.differences, old.pending) == (2, 0)
    stripe.deliver()
    assert run().differences == 0


def test_since_leaves_out_what_is_older_and_finds_both_halves_at_its_edge(story):
    change("UPDATE ledger_transfer SET at = at - interval '40 days' WHERE key LIKE 'topup:%' OR key LIKE 'tax:%'")
    change("DELETE FROM billing_sandboxobject WHERE kind = 'balance_transaction' AND data->>'type' = 'charge'")
    change(
        "UPDATE jobs_job SET finished_at = finished_at - interval '40 days', charge_microusd = 0 WHERE state = 'succeeded'"
    )
    assert {part for part, _ in checks(run())} == {"jobs", "stripe"}
    row = run(since=later(days=-1))
    assert "jobs" not in {part for part, _ in checks(row)}
    assert not [item for item in row.report["items"] if TopUp.objects.first().charge_id in item["subject"]]


def test_booked_late_is_no_difference_at_the_edge(story):
    """Paid before `since`, booked after: each half is looked for further back."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE billing_sandboxobject SET data = jsonb_set(data, '{created}', to_jsonb((data->>'created')::bigint - 172800)), "
            "created_at = created_at - interval '2 days' WHERE kind = 'balance_transaction'"
        )
    assert run(since=later(days=-1)).differences == 0


def test_what_no_code_books_is_explained_by_a_correction(story):
    """A refund that was forgotten, say: staff post it under the transaction's id."""
    change("DELETE FROM ledger_transfer WHERE key LIKE 'refund:%:out'")
    [missing] = run().report["items"]
    refund = SandboxObject.objects.get(kind="balance_transaction", data__type="refund")
    assert missing["subject"] == f"refund {refund.data['source']} out"
    ledger.post(
        organization=story["organization"],
        debit="refunds",
        credit="stripe_clearing",
        microusd=-refund.data["amount"] * 10_000,
        key=f"correction:{refund.pk}",
        reason="Booked by hand",
        actor="staff",
    )
    assert run().report["items"] == []


def test_stripe_away_is_a_difference(stripe, story):
    stripe.fail_next("GET", "/v1/balance_transactions", 500, times=5)
    row = run()
    assert checks(row) == [("stripe", "away")]


def command(*arguments):
    out = StringIO()
    try:
        call_command("reconcile", *arguments, stdout=out)
    except SystemExit as stop:
        return stop.code, out.getvalue()
    return 0, out.getvalue()


def test_the_command_prints_json_and_exits_by_what_it_found(story):
    code, text = command("--json")
    report = json.loads(text)
    assert (code, report["differences"], report["items"]) == (0, 0, [])
    assert Reconciliation.objects.get().report["checked"] == report["checked"]
    change("UPDATE ledger_account SET receivable_microusd = receivable_microusd + 5")
    code, text = command("--json", "--since", "2026-01-01")
    assert (code, json.loads(text)["differences"], json.loads(text)["since"]) == (1, 1, "2026-01-01T00:00:00+00:00")


def test_the_command_prints_a_table(story):
    code, text = command()
    assert code == 0
    assert text.rstrip().splitlines()[-1].startswith("0 differences, 0 in flight, 1 overruns of ")
    change("UPDATE ledger_account SET receivable_microusd = receivable_microusd + 5")
    code, text = command()
    assert code == 1
    assert "ledger  balances  receivable" in text
    assert "1 differences" in text


def test_a_day_that_is_none_is_refused(db):
    with pytest.raises(CommandError, match="2026-11-01"):
        call_command("reconcile", "--since", "yesterday")
    assert not Reconciliation.objects.exists()


def test_the_nightly_task_keeps_its_report(story):
    tasks.reconcile()
    row = Reconciliation.objects.get()
    assert row.differences == 0
    assert row.since is not None
    assert datetime.now(UTC) - row.since == pytest.approx(timedelta(days=35), abs=timedelta(minutes=1))


def test_it_sees_one_moment_while_money_moves(story):
    """Work goes on in other connections; nothing of it is taken for a difference, and nobody waits."""
    organization = story["organization"]

    def work(n):
        if n % 6 == 0:
            return run().report["items"]
        budgets.windows(budgets.budget_of_organization(organization), datetime.now(UTC))
        ledger.reserve(organization=make.organization(credit_microusd=50), microusd=5, key=f"more:{n}")
        ledger.settle(key=f"more:{n}", cost_microusd=n % 7)
        return []

    items = [item for found in run_in_threads(18, work) for item in found]
    assert [item for item in items if "more:" not in item["subject"]] == []  # their holds belong to no job
    assert Hold.objects.filter(key__startswith="more:", state="open").count() == 0


def test_the_admin_shows_what_was_found(story):
    change("UPDATE ledger_account SET receivable_microusd = receivable_microusd + 5")
    row = run()
    client = Client()
    client.force_login(make.user(is_staff=True, is_superuser=True))
    listed = client.get(reverse("admin:operations_reconciliation_changelist"))
    assert listed.status_code == 200
    html = client.get(reverse("admin:operations_reconciliation_change", args=[row.pk])).content.decode()
    assert "a balance is the sum of its transfers" in html
    assert "Overruns, charged to the house" in html
    assert client.post(reverse("admin:operations_reconciliation_change", args=[row.pk]), {}).status_code == 403
