"""Each row is charged once, whoever reports it and however often."""

import json
import random
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection

from apps.batches import collecting, shards
from apps.batches.models import Batch, Row, Shard
from apps.core.ids import uuid7
from apps.jobs import usage
from apps.jobs.models import Job
from apps.ledger import services as ledger
from apps.ledger.models import Hold, Transfer
from apps.operations import batches as compared
from apps.operations.differences import Found
from cango_portal import database
from tests.batches import works as site
from tests.batches.works import ROW_MICROUSD, deliver, finished, lines_of, lose, report, row, some, started
from tests.threads import run_in_threads


def charges(batch: Batch) -> list[int]:
    transfers = Transfer.objects.filter(hold__key=shards.hold_key(batch.pk), debit="held", credit="revenue")
    return sorted(transfer.amount_microusd for transfer in transfers)


@pytest.mark.story
def test_a_batch_runs_in_shards_that_nobody_is_shown(works):
    batch = works.begin(450)
    assert (batch.state, batch.total, batch.model) == ("in_progress", 450, works.model)
    assert [(shard.first_line, shard.lines) for shard in Shard.objects.order_by("number")] == [
        (1, 200),
        (201, 200),
        (401, 50),
    ]
    assert ledger.balance(works.organization.pk).held_microusd == batch.hold_microusd
    assert Job.objects.of(works.organization).count() == 0
    first, _ = works.feed()  # two shards at once on a pool; the third waits
    assert (first.batch_id, first.tier, first.hold_microusd) == (batch.pk, "batch", sum(first.shard.ceilings_microusd))
    works.run_to_end(batch)
    assert (batch.state, batch.completed, batch.failed) == ("completed", 450, 0)
    assert batch.charge_microusd == 450 * ROW_MICROUSD
    assert batch.gpu_energy_mj == sum(100 + line for line in range(1, 451))
    assert ledger.balance(works.organization.pk).credit_microusd == 1_000_000 - 450 * ROW_MICROUSD
    works.correct(batch)


def test_a_report_that_comes_again_and_in_many_threads_charges_once(works):
    batch = works.begin(20)
    (job,) = works.feed()
    part = some(job, lines_of(job)[:10])
    last = finished(job, lines_of(job)[10:])
    outcomes = run_in_threads(6, lambda n: deliver(part).outcome.accepted)
    assert outcomes == [True] * 6
    assert charges(batch) == [10 * ROW_MICROUSD]
    outcomes = run_in_threads(6, lambda n: deliver(last).outcome.accepted)
    assert outcomes == [True] * 6
    assert charges(batch) == [10 * ROW_MICROUSD, 10 * ROW_MICROUSD]
    works.finalize(batch)
    works.correct(batch)


def test_reports_that_overlap_charge_each_row_once(works):
    """A runner that was killed sends its parts again, cut otherwise; many at once, in any order."""
    batch = works.begin(60)
    (job,) = works.feed()
    deliver(started(job))
    lines = lines_of(job)
    shuffled = random.Random(7)
    parts = [some(job, sorted(shuffled.sample(lines, 25))) for _ in range(12)]
    outcomes = run_in_threads(12, lambda n: deliver(parts[n]).outcome.accepted)
    assert outcomes == [True] * 12
    covered = {result.line for part in parts for result in part.rows}
    assert Row.objects.filter(batch=batch).count() == len(covered)
    assert sum(charges(batch)) == len(covered) * ROW_MICROUSD
    deliver(finished(job))
    works.finalize(batch)
    assert sum(charges(batch)) == 60 * ROW_MICROUSD
    works.correct(batch)


def test_a_line_named_twice_in_one_report_counts_as_it_was_named_first(works):
    batch = works.begin(2)
    (job,) = works.feed()
    deliver(report(job, "finished", [row(1), row(1, usage=site.Usage(completion_tokens=19)), row(2)]))
    works.finalize(batch)
    assert charges(batch) == [2 * ROW_MICROUSD]
    works.correct(batch)


def test_lines_of_another_shard_are_nobodys(works):
    batch = works.begin(250)
    first, second = works.feed()
    deliver(some(first, [199, 200, 201, 202, 9999]))
    assert set(Row.objects.values_list("line", flat=True)) == {199, 200}
    deliver(finished(second))
    assert set(Row.objects.values_list("job_id", flat=True)) == {first.pk, second.pk}
    deliver(finished(first))
    works.finalize(batch)
    works.correct(batch)


def test_two_attempts_report_the_same_rows_and_one_counts(works):
    batch = works.begin(10)
    (job,) = works.feed()
    deliver(started(job))
    deliver(some(job, [1, 2, 3]))
    late = some(job, [3, 4, 5])
    lose(job)
    (again,) = works.feed()
    assert (again.pk, again.attempt) == (job.pk, 2)
    last = finished(again, list(range(3, 11)), claimant="runner-2")
    outcomes = run_in_threads(2, lambda n: deliver([late, last][n]).outcome.accepted)
    assert outcomes == [False, True]
    works.finalize(batch)
    assert Row.objects.count() == 10
    assert sum(charges(batch)) == 10 * ROW_MICROUSD
    works.correct(batch)


def test_a_shard_that_was_lost_is_asked_only_for_what_is_missing(works):
    works.begin(5)
    (job,) = works.feed()
    deliver(some(job, [2, 4]))
    place = database.run(shards.place_of(job.pk))
    lines = shards.tasks(place).splitlines()
    assert [json.loads(line)["line"] for line in lines] == [1, 3, 5]
    assert json.loads(lines[0])["body"] == {
        "messages": [{"role": "user", "content": "Capital 1?"}],
        "max_tokens": 20,
    }


def test_stale_and_foreign_writers_change_nothing(works):
    batch = works.begin(3)
    (job,) = works.feed()
    deliver(started(job))
    right = finished(job)
    for wrong in (
        right.model_copy(update={"claimant": "runner-2"}),
        right.model_copy(update={"attempt": 2}),
        right.model_copy(update={"fence": "0" * 32}),
        right.model_copy(update={"job": str(batch.pk)}),
    ):
        assert not deliver(wrong).outcome.accepted
    assert not deliver(right, node_id=works.pool.node_id + 1).outcome.accepted
    # A runner that says a shard is a job like any other is refused too.
    assert not database.run(site.reporting.report(right.model_copy(update={"shard": False}))).accepted
    assert Row.objects.count() == 0
    assert charges(batch) == []
    assert deliver(right, node_id=works.pool.node_id).outcome.accepted
    works.finalize(batch)
    works.correct(batch)


def test_a_row_is_never_charged_above_its_ceiling(works):
    batch = works.begin(2)
    (job,) = works.feed()
    ceiling = job.shard.ceilings_microusd[0]
    huge = site.Usage(prompt_tokens=100_000, completion_tokens=2_000_000)
    deliver(report(job, "finished", [row(1, usage=huge), row(2)]))
    works.finalize(batch)
    assert charges(batch) == [ceiling + ROW_MICROUSD]
    assert Hold.objects.get().overrun_microusd == 0
    works.correct(batch)


def test_carbon_by_market_takes_the_grid_where_a_part_ran_without_contracts(works):
    batch = works.begin(2)
    (job,) = works.feed()
    deliver(report(job, "rows", [row(1)]))
    Job.objects.update(market_gco2e_per_kwh=19)  # it went on at another site
    deliver(report(job, "finished", [row(2)]))
    works.finalize(batch)
    first, second = Row.objects.order_by("line")
    assert first.carbon_market_gco2e is None
    assert second.carbon_market_gco2e == pytest.approx(second.energy_wh / 1000 * 19)
    assert batch.carbon_market_gco2e == pytest.approx(first.carbon_gco2e + second.carbon_market_gco2e)
    job.refresh_from_db()
    assert job.carbon_market_gco2e == pytest.approx(batch.carbon_market_gco2e)
    (answer, other) = works.read(batch.output_file_id)
    assert "carbon_market_gco2e" not in answer["response"]["body"]["usage"]
    assert other["response"]["body"]["usage"]["carbon_market_gco2e"] == pytest.approx(second.carbon_market_gco2e)


def test_a_failed_row_costs_nothing_and_is_in_the_error_file(works):
    batch = works.begin(2)
    (job,) = works.feed()
    deliver(report(job, "finished", [row(1), row(2, failure=site.TOO_LONG)]))
    works.finalize(batch)
    assert (batch.state, batch.completed, batch.failed, batch.charge_microusd) == ("completed", 1, 1, ROW_MICROUSD)
    assert list(Row.objects.order_by("line").values_list("gpu_energy_mj", flat=True)) == [101, 102]
    assert batch.gpu_energy_mj == 203  # its energy was used all the same
    job.refresh_from_db()
    assert (job.energy_wh, job.carbon_gco2e) == (batch.energy_wh, batch.carbon_gco2e)
    assert job.gpu_energy_wh == pytest.approx(203 / 3_600_000)
    assert (job.carbon_market_gco2e, batch.carbon_market_gco2e) == (None, None)
    (good,) = works.read(batch.output_file_id)
    assert good["custom_id"] == "row-1"
    assert good["error"] is None
    assert good["id"].startswith("batch_req_")
    assert good["response"]["status_code"] == 200
    body = good["response"]["body"]
    assert body["choices"][0]["message"]["content"] == "Paris"
    assert (body["object"], body["model"]) == ("chat.completion", works.model.name)
    assert (body["usage"]["total_tokens"], body["usage"]["cost_microusd"]) == (30, ROW_MICROUSD)
    (bad,) = works.read(batch.error_file_id)
    assert bad["custom_id"] == "row-2"
    assert bad["response"]["status_code"] == 400
    assert bad["response"]["body"]["error"]["code"] == "context_length_exceeded"
    works.correct(batch)


def test_an_engine_that_fails_is_tried_again_and_then_the_rows_that_are_missing_fail(works, settings):
    settings.BATCH_SHARD_ATTEMPTS = 3
    batch = works.begin(4)
    for attempt in (1, 2, 3, 4, 5):  # the second is the last that moves it on
        (job,) = works.feed()
        assert job.attempt == attempt
        deliver(finished(job, [attempt] if attempt < 3 else [1], state="failed", failure=site.ENGINE_AWAY))
    job.refresh_from_db()
    assert (job.state, job.rows, job.failed_rows, job.charge_microusd) == ("failed", 4, 2, 2 * ROW_MICROUSD)
    works.finalize(batch)
    assert (batch.state, batch.completed, batch.failed) == ("completed", 2, 2)
    assert [line["error"]["code"] for line in works.read(batch.error_file_id)] == ["engine_unavailable"] * 2
    works.correct(batch)


def test_a_shard_that_says_it_is_done_and_is_not_runs_again(works):
    batch = works.begin(4)
    (job,) = works.feed()
    deliver(finished(job, [1, 2]))
    job.refresh_from_db()
    assert job.state == "queued"
    works.run_to_end(batch)
    assert batch.completed == 4
    works.correct(batch)


def test_usage_counts_a_batch_once(works):
    batch = works.begin(7)
    works.run_to_end(batch)
    now = datetime.now(UTC)
    hour = timedelta(hours=1)
    (used,) = database.run(usage.used(works.organization.pk, start=now - hour, end=now + hour))
    assert (used.requests, used.failed, used.charge_microusd) == (7, 0, 7 * ROW_MICROUSD)
    assert (used.prompt_tokens, used.completion_tokens) == (70, 140)
    (by_key,) = database.run(usage.used(works.organization.pk, start=now - hour, end=now + hour, groups=("key",)))
    assert by_key.groups["key"][1] == "test"


def test_ids_of_rows_are_their_own_and_stay():
    batch = uuid7()
    ids = [collecting.row_id(batch, line) for line in range(1000)]
    assert len(set(ids)) == 1000
    assert ids == [collecting.row_id(batch, line) for line in range(1000)]
    assert {value.version for value in ids} == {7}
    assert {value.int >> 80 for value in ids} == {batch.int >> 80}


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("UPDATE batches_row SET charge_microusd = charge_microusd + 1 WHERE line = 1", "usage"),
        ("UPDATE batches_batch SET charge_microusd = charge_microusd - 1", "hold"),
        ("UPDATE batches_batch SET completed = completed - 1", "rows"),
        ("UPDATE jobs_job SET charge_microusd = charge_microusd - 1", "shard"),
        ("DELETE FROM batches_row WHERE line = 2", "rows"),
    ],
)
def test_reconciliation_finds_what_does_not_agree(works, fault, check):
    batch = works.run_to_end(works.begin(3))
    works.correct(batch)
    with connection.cursor() as cursor:
        cursor.execute(fault)
    found = Found()
    compared.compare(found, since=None)
    assert check in {item.check for item in found.items}
