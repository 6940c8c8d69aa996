"""A file is checked line by line; nothing is held before all of it is good."""

import json

import pytest

from apps.batches import checking, sweeping
from apps.batches.models import Batch, Shard
from apps.ledger import services as ledger
from apps.ledger.models import Budget, Hold
from apps.wire import batches as wire
from cango_portal import database
from tests import make
from tests.batches.works import Works, nothing_written
from tests.threads import run_in_threads


def refused(works: Works, lines: object, **fields: object) -> list[tuple[str, str | None, int | None]]:
    """What is wrong with each line; and that nothing but that was written."""
    batch = works.begin(lines, **fields)
    assert batch.state == "failed"
    assert batch.failed_at is not None
    nothing_written(batch)
    assert ledger.balance(works.organization.pk).held_microusd == 0
    assert works.working_files() == []
    return [(error["code"], error["param"], error["line"]) for error in batch.errors]


def test_every_bad_line_is_named(works):
    other = make.model()
    good, body = works.line(1), works.line(2)["body"]
    lines = [
        good,
        works.line(2, custom_id="row-1"),
        {name: value for name, value in works.line(3).items() if name != "custom_id"},
        works.line(4, custom_id=""),
        works.line(5, custom_id=7),
        works.line(6, method="GET"),
        works.line(7, url="/v1/embeddings"),
        works.line(8, body={**body, "model": other.name}),
        works.line(9, body={**body, "stream": True}),
        works.line(10, body={**body, "temperature": 3}),
        works.line(11, body={**body, "max_tokens": -1}),
        works.line(12, body={"messages": body["messages"]}),
        works.line(13, extra=1),
        works.line(14, body={**body, "service_tier": "flex"}),
        works.line(15, body={**body, "messages": [{"role": "user", "content": "word " * 30_000}]}),
    ]
    content = b"".join(json.dumps(line).encode() + b"\r\n" for line in lines)
    content += b'{"not json\n[1]\n\n' + json.dumps(works.line(19)).encode() + b"\n\n\n"
    assert refused(works, content) == [
        ("duplicate_custom_id", "custom_id", 2),
        ("missing_required_parameter", "custom_id", 3),
        ("invalid_value", "custom_id", 4),
        ("invalid_type", "custom_id", 5),
        ("invalid_value", "method", 6),
        ("mismatched_endpoint", "url", 7),
        ("mismatched_model", "body.model", 8),
        ("invalid_value", "body.stream", 9),
        ("invalid_value", "body.temperature", 10),
        ("invalid_value", "body.max_tokens", 11),
        ("missing_required_parameter", "body.model", 12),
        ("unknown_parameter", "extra", 13),
        ("invalid_value", "body.service_tier", 14),
        ("context_length_exceeded", "body.messages", 15),
        ("invalid_json_line", None, 16),
        ("invalid_json_line", None, 17),
        ("invalid_json_line", None, 18),
    ]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (b"\xef\xbb\xbf{}\n", [("invalid_json_line", None, 1), ("missing_required_parameter", "custom_id", 1)]),
        (b"\n\n", [("empty_file", "input_file_id", None)]),
        (b"\x00\xff\xfe\n", [("invalid_json_line", None, 1)]),
        (b'{"custom_id": "\\ud800"}\n', [("invalid_json_line", None, 1)]),
        (b"[" * 100_000 + b"\n", [("invalid_json_line", None, 1)]),
    ],
)
def test_whatever_bytes_come(works, content, found):
    assert refused(works, content) == found


def test_a_model_that_is_not_on_offer_or_does_something_else(works):
    vectors = make.model(kind="embeddings")
    unknown = works.line(1, body={"model": "acme/none", "messages": [{"role": "user", "content": "Hi"}]})
    assert refused(works, [unknown]) == [("model_not_found", "model", 1)]
    assert refused(works, [works.line(1, body={"model": vectors.name, "input": "a"})]) == [
        ("wrong_model_kind", "model", 1)
    ]


def test_a_line_that_is_too_long_and_too_many_lines(works, settings, monkeypatch):
    settings.MAX_BODY_BYTES = 1000
    long = works.line(2)
    long["body"]["messages"][0]["content"] = "x" * 2000
    assert refused(works, [works.line(1), long, works.line(3)]) == [("request_too_large", None, 2)]
    monkeypatch.setattr(wire, "MAX_LINES", 5)
    assert refused(works, works.lines(9)) == [("too_many_requests", None, 6)]
    monkeypatch.setattr(wire, "MAX_BYTES", 500)
    assert refused(works, works.lines(5)) == [("file_too_large", "input_file_id", None)]


def test_bad_lines_beyond_a_thousand_are_counted(works):
    batch = works.begin(b"no\n" * 1500)
    assert len(batch.errors) == 1001
    assert batch.errors[-1]["message"] == "And 500 more lines are wrong."
    nothing_written(batch)


def test_credit_short_by_a_micro_dollar_fails_and_exactly_enough_does_not(works):
    worst = works.begin(3).hold_microusd
    ledger.release(key=Hold.objects.get().key)
    ledger.withdraw(
        organization=works.organization, microusd=1_000_000 - worst + 1, key="test:spent", reason="test", actor="test"
    )
    batch = works.begin(3)
    assert (batch.state, [error["code"] for error in batch.errors]) == ("failed", ["insufficient_credit"])
    assert ledger.balance(works.organization.pk).held_microusd == 0
    assert Shard.objects.filter(batch=batch).count() == 0
    ledger.deposit(organization=works.organization, microusd=1, key="test:paid", reason="test", actor="test")
    batch = works.begin(3)
    assert (batch.state, ledger.balance(works.organization.pk).available_microusd) == ("in_progress", 0)


def test_without_any_credit_nothing_is_held(works):
    ledger.withdraw(organization=works.organization, microusd=1_000_000, key="test:spent", reason="test", actor="test")
    assert refused(works, works.lines(1)) == [("insufficient_credit", None, None)]


def test_input_tokens_of_the_batches_of_a_model_have_a_limit(works, settings):
    one = works.begin(3)
    most = settings.BATCH_INPUT_TOKENS = 2 * one.input_tokens_ceiling
    two = [works.create(works.lines(3)) for _ in range(2)]
    run_in_threads(2, lambda n: checking.check(two[n].pk))  # together they would pass it
    found = list(Batch.objects.exclude(pk=one.pk).order_by("state"))
    assert [batch.state for batch in found] == ["failed", "in_progress"]
    assert [(error["code"], error["line"]) for error in found[0].errors] == [("token_limit_exceeded", None)]
    assert f"{most:,} together are the most that its plan “Pay as you go” allows" in found[0].errors[0]["message"]
    assert ledger.balance(works.organization.pk).held_microusd == one.hold_microusd + found[1].hold_microusd
    assert Shard.objects.filter(batch=found[0]).count() == 0
    works.run_to_end(one)  # a batch that has ended makes room
    assert works.begin(3).state == "in_progress"
    other = make.model()
    line = works.line(1)
    assert works.begin([{**line, "body": {**line["body"], "model": other.name}}]).state == "in_progress"
    settings.BATCH_INPUT_TOKENS = one.input_tokens_ceiling - 1
    assert works.begin(3).errors[0]["message"].endswith("Split the file.")


def test_the_budget_of_the_key_holds_to_the_micro_dollar(works):
    batch = works.begin(3)
    budget = Budget.objects.get(pk=works.key.budget_id)
    assert budget.total_used_microusd == batch.hold_microusd
    Budget.objects.filter(pk=budget.pk).update(total_limit_microusd=2 * batch.hold_microusd - 1)
    short = works.begin(3)
    assert [error["code"] for error in short.errors] == ["budget_exceeded"]
    Budget.objects.filter(pk=budget.pk).update(total_limit_microusd=2 * batch.hold_microusd)
    assert works.begin(3).state == "in_progress"
    works.run_to_end(batch)
    budget.refresh_from_db()
    assert budget.total_used_microusd == batch.hold_microusd + batch.charge_microusd
    works.correct(batch)


def test_a_check_that_died_is_done_again_and_two_at_once_hold_once(works):
    batch = works.create(works.lines(5))

    class Killed(BaseException):
        pass

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checking, "begin", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            checking.check(batch.pk)
    assert sweeping.sweep() == []  # its claim is still in force
    checking.check(batch.pk)
    batch.refresh_from_db()
    assert batch.state == "validating"
    Batch.objects.filter(pk=batch.pk).update(working_until=batch.created_at)
    assert sweeping.sweep() == [batch.pk]
    checking.check(batch.pk)
    checking.check(batch.pk)
    batch.refresh_from_db()
    assert (batch.state, Hold.objects.count(), Shard.objects.count()) == ("in_progress", 1, 1)
    assert len(works.working_files()) == 1
    works.run_to_end(batch)
    works.correct(batch)


def test_a_check_whose_claim_has_passed_to_another_writes_nothing(works):
    batch = works.create(works.lines(2))
    claimed = database.run(checking.statements.claim(batch.pk, "validating"))
    late = checking.Check(claimed, checking.Claim(claimed))
    late.run()
    Batch.objects.filter(pk=batch.pk).update(working_until=batch.created_at)
    checking.check(batch.pk)
    with pytest.raises(checking.Stopped):
        database.run(checking.begin(claimed, late))
    assert (Hold.objects.count(), Shard.objects.count()) == (1, 1)


def test_a_check_that_was_overtaken_takes_away_only_its_own_files(works, monkeypatch):
    batch = works.create(works.lines(3))
    run = checking.Check.run

    def overtaken(late: checking.Check) -> None:
        run(late)
        monkeypatch.setattr(checking.Check, "run", run)
        Batch.objects.filter(pk=batch.pk).update(working_until=batch.created_at)
        checking.check(batch.pk)

    monkeypatch.setattr(checking.Check, "run", overtaken)
    checking.check(batch.pk)
    batch.refresh_from_db()
    assert (batch.state, Hold.objects.count()) == ("in_progress", 1)
    assert [str(path.relative_to(works.media)) for path in works.working_files()] == [Shard.objects.get().path]
    works.run_to_end(batch)
    assert (batch.state, batch.completed) == ("completed", 3)
    works.correct(batch)


def test_blank_lines_count_and_a_run_of_them_is_named_once(works, monkeypatch):
    good = json.dumps(works.line(1)).encode() + b"\n"
    last = json.dumps(works.line(2)).encode() + b"\n"
    batch = works.begin(good + b"\n" * 3 + last)
    assert [(error["line"], error["message"]) for error in batch.errors] == [(2, "3 lines are empty. Take them out.")]
    monkeypatch.setattr(wire, "MAX_LINES", 5)
    assert refused(works, good + b"\n" * 6 + last) == [("too_many_requests", None, 7)]
    assert refused(works, good + b"\n" * 4 + last) == [
        ("invalid_json_line", None, 2),
        ("too_many_requests", None, 6),
    ]
    assert works.begin(good + last + b"\n" * 5).state == "in_progress"


def test_crlf_and_a_last_line_without_its_end_are_fine(works):
    content = b"\r\n".join(json.dumps(line).encode() for line in works.lines(3))
    assert works.begin(content).total == 3


def test_shards_are_bounded_by_their_bytes(works, monkeypatch):
    monkeypatch.setattr(checking, "SHARD_BYTES", 2000)
    batch = works.begin(100)
    assert batch.total == 100
    shards = Shard.objects.filter(batch=batch).order_by("number")
    assert sum(shard.lines for shard in shards) == 100
    assert max(shard.lines for shard in shards) < 20
    assert shards[0].first_line == 1
