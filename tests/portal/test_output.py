"""What the overview calls "Output now": tokens of known jobs in known seconds, of what runs too, and zero when nothing does."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.batches.models import Batch, Row
from apps.core.ids import uuid7
from apps.portal import output
from apps.runner import protocol
from tests import make

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


@pytest.fixture
def shop(db):
    return make.organization()


@pytest.fixture
def chat(db):
    return make.model(kind="chat")


def ended(shop, model, first: float, last: float, tokens: int, **fields):
    """A job that wrote so many tokens from so many seconds ago to so many."""
    times = {"created_at": ago(first), "started_at": ago(first), "first_token_at": ago(first), "finished_at": ago(last)}
    return make.job(organization=shop, model=model, state="succeeded", completion_tokens=tokens, **{**times, **fields})


def running(shop, model, since: float, **fields):
    return make.job(organization=shop, model=model, state="running", started_at=ago(since), **fields)


def write(valkey, job, tokens: int) -> None:
    usage = protocol.Usage(prompt_tokens=7, completion_tokens=tokens)
    entry = protocol.Entry(claimant="c", fence=str(job.fence), usage=usage)
    valkey.xadd(protocol.stream(job.pool.code, str(job.pk), job.attempt), {"e": entry.model_dump_json()})


def rates(found: output.Output) -> dict[int, float]:
    """By the seconds since the part ended, those that are not zero."""
    return {10 * (59 - n): round(rate, 3) for n, rate in enumerate(found.rates) if rate}


def test_tokens_are_spread_over_the_time_in_which_they_were_written(shop, chat):
    ended(shop, chat, 45, 20, 600)  # 24 a second
    ended(shop, chat, 65, 55, 100)  # half of it before the last minute
    found = output.read(shop.pk, now=NOW)
    assert rates(found) == {20: 24, 30: 24, 40: 12, 50: 5, 60: 5}
    assert found.per_second == pytest.approx((600 + 50) / 60)
    assert (found.least, round(found.most, 3), found.streamed) == (0, 24, True)


def test_what_is_before_the_ten_minutes_is_left_out(shop, chat):
    ended(shop, chat, 700, 590, 1100)  # 10 a second, for the first 10 s
    ended(shop, chat, 900, 601, 1000)
    found = output.read(shop.pk, now=NOW)
    assert rates(found) == {590: 10}
    assert found.per_second == 0


def test_an_answer_at_once_is_in_the_part_of_its_end(shop, chat):
    ended(shop, chat, 15, 15, 60)
    found = output.read(shop.pk, now=NOW)
    assert rates(found) == {10: 6}
    assert found.per_second == 1


def test_without_a_first_token_it_is_from_the_start(shop, chat):
    ended(shop, chat, 40, 20, 60, first_token_at=None)
    assert rates(output.read(shop.pk, now=NOW)) == {20: 3, 30: 3}


def test_another_organizations_and_what_wrote_nothing(shop, chat):
    ended(make.organization(), chat, 20, 10, 600)
    ended(shop, make.model(kind="embeddings"), 20, 10, 0)
    found = output.read(shop.pk, now=NOW)
    assert (found.per_second, found.known) == (0, [0.0] * 60)


def test_what_runs_counts_by_its_stream_until_it_has_ended(shop, chat, valkey):
    job = running(shop, chat, 20)
    write(valkey, job, 0)
    write(valkey, job, 300)
    running(shop, chat, 5)  # nothing yet
    write(valkey, running(shop, make.model(kind="embeddings"), 5), 900)
    found = output.read(shop.pk, now=NOW)
    assert rates(found) == {0: 15, 10: 15}
    assert found.per_second == 5


def test_what_ended_between_the_two_readings_counts_once(shop, chat, valkey, monkeypatch):
    job = running(shop, chat, 20)
    written = output.written

    def ends(runs):
        counted = written(runs)
        type(job).objects.filter(pk=job.pk).update(
            state="succeeded", completion_tokens=300, finished_at=NOW, first_token_at=ago(20), charge_microusd=0
        )
        return counted

    write(valkey, job, 280)
    monkeypatch.setattr(output, "written", ends)
    assert output.read(shop.pk, now=NOW).per_second == 5


def test_a_shard_counts_by_the_rows_that_came(shop, chat):
    batch = Batch.objects.create(
        organization=shop, endpoint="/v1/chat/completions", input_file_id=uuid7(), state="in_progress", model=chat,
        price=chat.prices.get(), total=9, created_at=ago(99), in_progress_at=ago(99), expires_at=ago(-99),
    )  # fmt: skip
    job = running(shop, chat, 30, batch_id=batch.pk)
    for line, seconds in ((1, 40), (2, 25), (3, 1)):  # the first is an earlier attempt's
        Row.objects.create(batch=batch, line=line, job=job, status=200, completion_tokens=150, at=ago(seconds))
    assert rates(output.read(shop.pk, now=NOW)) == {0: 10, 10: 10, 20: 10}


def test_without_valkey_it_is_of_jobs_that_ended(shop, chat, settings, monkeypatch):
    ended(shop, chat, 30, 20, 60)
    running(shop, chat, 30)
    monkeypatch.setattr(output.valkey, "client", lambda: output.valkey.redis.Redis(port=1))
    found = output.read(shop.pk, now=NOW)
    assert (found.per_second, found.streamed) == (1, False)


def test_only_the_newest_are_looked_at_and_what_is_older_is_a_gap(shop, chat, monkeypatch):
    monkeypatch.setattr(output, "ENDED", 2)
    ended(shop, chat, 300, 290, 999)
    ended(shop, chat, 35, 25, 100)
    ended(shop, chat, 20, 15, 300)
    found = output.read(shop.pk, now=NOW)
    assert found.rates[:57] == [None] * 57
    assert found.rates[57:] == [5, 30, 0]
    assert found.per_second == pytest.approx(35 / 3)


def test_what_it_costs_does_not_grow_with_the_history(shop, chat):
    for n in range(30):
        ended(shop, chat, 3600 + n, 3500 + n, 10)
    ended(shop, chat, 20, 10, 10)
    with CaptureQueriesContext(connection) as captured:
        output.read(shop.pk, now=NOW)
    statements = [query["sql"] for query in captured if "SAVEPOINT" not in query["sql"]]
    assert len(statements) == 2
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        for statement, index in zip(statements, ("jobs_job_open_of", "jobs_job_ended"), strict=True):
            cursor.execute(f"EXPLAIN (ANALYZE, TIMING OFF) {statement}")
            plan = "\n".join(row[0] for row in cursor.fetchall())
            assert index in plan, plan
            assert "Rows Removed by Filter: 3" not in plan, plan


def test_the_spark(shop, chat):
    ended(shop, chat, 20, 0, 200)
    found = output.read(shop.pk, now=NOW)
    assert found.line.startswith("M0.0 32.0L1.7 32.0L")
    assert found.line.endswith("L96.6 32.0L98.3 2.0L100.0 2.0")
    assert found.area == f"{found.line}L100.0 32L0.0 32Z"
    assert found.dot == "M100.0 2.0h0"
