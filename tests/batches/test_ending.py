"""A batch ends once: done, cancelled, expired; and its files say what became of every line."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings
from django.core import mail
from django.core.files.storage import default_storage

from apps.accounts.models import User
from apps.batches import checking, claims, ending, finalizing, services, statements, sweeping, tasks
from apps.batches.models import Batch, Row, Shard
from apps.dispatch import allowance
from apps.dispatch.dispatcher import Dispatcher
from apps.files.models import File
from apps.files.writing import Draft
from apps.jobs.models import Job
from apps.ledger import services as ledger
from apps.ledger.models import Hold
from apps.runner.protocol import control
from apps.webhooks.models import Endpoint, Message
from cango_portal import database
from tests import make
from tests.batches.works import ROW_MICROUSD, deliver, finished, lines_of, lose, pass_window, some, started
from tests.threads import run_in_threads


def test_cancel_keeps_and_charges_what_was_finished(works, valkey):
    batch = works.begin(450)
    first, second = works.feed()
    deliver(started(first))
    deliver(some(first, lines_of(first)[:30]))
    services.cancel(batch=batch)
    batch.refresh_from_db()
    assert batch.state == "cancelling"
    (told,) = valkey.xrange(control("runner-1"))
    assert str(first.pk) in told[1]["e"]
    third = Job.objects.exclude(pk__in=[first.pk, second.pk]).get(batch_id=batch.pk)
    assert (third.state, third.charge_microusd) == ("cancelled", 0)  # it waited
    deliver(finished(first, lines_of(first)[30:35], state="cancelled"))
    lose(second)  # its site had not begun, and never will
    services.cancel(batch=batch)  # again: nothing new
    assert sweeping.sweep() == [batch.pk]
    works.finalize(batch)
    assert (batch.state, batch.completed, batch.failed) == ("cancelled", 35, 0)
    assert batch.charge_microusd == 35 * ROW_MICROUSD
    assert len(works.read(batch.output_file_id)) == 35
    errors = works.read(batch.error_file_id)
    assert len(errors) == 415
    assert {line["error"]["code"] for line in errors} == {"batch_cancelled"}
    assert {line["custom_id"] for line in errors} == {f"row-{n}" for n in range(36, 451)}
    assert ledger.balance(works.organization.pk).held_microusd == 0
    with pytest.raises(ending.CannotCancel):
        services.cancel(batch=Batch(pk=works.run_to_end(works.begin(1)).pk, organization=works.organization))
    works.correct(batch)


def test_a_cancel_before_the_check_holds_nothing(works):
    batch = works.create(works.lines(3))
    services.cancel(batch=batch)
    works.finalize(batch)
    assert (batch.state, Hold.objects.count(), Job.objects.count()) == ("cancelled", 0, 0)
    assert (batch.output_file_id, batch.error_file_id) == (None, None)
    works.correct(batch)


def test_rows_that_are_reported_while_it_is_cancelled_are_charged_or_refused_never_both(works):
    batch = works.begin(200)
    (job,) = works.feed()
    deliver(started(job))
    parts = [some(job, lines_of(job)[n * 20 : n * 20 + 20]) for n in range(9)]

    def act(n):
        return services.cancel(batch=batch) if n == 4 else deliver(parts[n]).outcome.accepted

    outcomes = run_in_threads(9, act)
    assert all(outcome is None or outcome is True for outcome in outcomes)
    deliver(finished(job, [], state="cancelled"))
    works.finalize(batch)
    assert batch.state == "cancelled"
    assert batch.charge_microusd == 160 * ROW_MICROUSD
    works.correct(batch)


def test_the_end_of_the_window_keeps_what_was_finished(works):
    batch = works.begin(250)
    first, second = works.feed()
    deliver(started(first))
    deliver(some(first, [1, 2, 3]))
    pass_window(batch)
    sweeping.sweep()
    batch.refresh_from_db()
    assert (batch.state, batch.ending) == ("finalizing", "expired")
    deliver(finished(first, [4], state="cancelled"))
    lose(second)
    Dispatcher().feed()
    second.refresh_from_db()
    assert second.state == "queued"  # past its deadline nothing is placed
    assert sweeping.sweep() == [batch.pk]
    works.finalize(batch)
    assert (batch.state, batch.completed, batch.charge_microusd) == ("expired", 4, 4 * ROW_MICROUSD)
    assert {line["error"]["code"] for line in works.read(batch.error_file_id)} == {"batch_expired"}
    works.correct(batch)


def test_files_state_webhook_and_hold_come_once_whatever_dies_in_between(works, monkeypatch):
    batch = works.begin(5)
    (job,) = works.feed()
    deliver(finished(job))

    class Killed(BaseException):
        pass

    def die(*_: object, **__: object) -> None:
        raise Killed

    for name in ("described", "news", "ledger"):
        with pytest.MonkeyPatch.context() as patch:
            target = finalizing if name == "described" else getattr(finalizing, name)
            patch.setattr(target, {"described": "described", "news": "ended", "ledger": "release"}[name], die)
            with pytest.raises(Killed):
                finalizing.finalize(batch.pk)
        batch.refresh_from_db()
        assert (batch.state, Hold.objects.get().state) == ("finalizing", "open")
        Batch.objects.filter(pk=batch.pk).update(working_until=batch.created_at)
    outcomes = run_in_threads(3, lambda n: finalizing.finalize(batch.pk))
    assert outcomes == [None] * 3
    batch.refresh_from_db()
    assert batch.state == "completed"
    assert [file.pk for file in File.objects.filter(purpose="batch_output")] == [batch.output_file_id]
    assert len(works.read(batch.output_file_id)) == 5
    assert works.working_files() == []
    assert Row.objects.exclude(sealed_body=None).count() == 0
    works.correct(batch)


def test_a_row_that_cannot_be_read_is_named_and_loses_no_other(works):
    batch = works.begin(3)
    (job,) = works.feed()
    deliver(finished(job))
    sealed = Row.objects.get(line=1).sealed_body
    assert b"Paris" not in bytes(sealed)
    Row.objects.filter(line=2).update(sealed_body=sealed)
    batch = works.finalize(batch)
    assert [line["custom_id"] for line in works.read(batch.output_file_id)] == ["row-1", "row-3"]
    (line,) = works.read(batch.error_file_id)
    assert (line["custom_id"], line["error"]["code"]) == ("row-2", "content_unreadable")
    assert batch.state == "completed"
    works.correct(batch)


@pytest.mark.parametrize("input_is_there", [True, False])
def test_a_batch_ends_without_the_file_of_a_shard(works, input_is_there):
    batch = works.begin(450)
    first, second = works.feed()
    deliver(finished(first))
    deliver(started(second))
    deliver(some(second, [201]))
    services.cancel(batch=batch)
    deliver(finished(second, [], state="cancelled"))
    default_storage.delete(Shard.objects.get(number=1).path)
    if not input_is_there:
        default_storage.delete(File.objects.get(pk=batch.input_file_id).path)
    works.finalize(batch)
    assert (batch.state, batch.completed, batch.charge_microusd) == ("cancelled", 201, 201 * ROW_MICROUSD)
    output, errors = works.read(batch.output_file_id), works.read(batch.error_file_id)
    if input_is_there:
        assert [line["custom_id"] for line in output] == [f"row-{n}" for n in range(1, 202)]
        assert [line["custom_id"] for line in errors] == [f"row-{n}" for n in range(202, 451)]
    else:
        assert [line["custom_id"] for line in output] == [f"row-{n}" for n in range(1, 201)]
        assert [line["custom_id"] for line in errors] == [None] * 200 + [f"row-{n}" for n in range(401, 451)]
        assert (errors[0]["error"]["code"], errors[0]["response"]["status_code"]) == ("custom_id_lost", 200)
        assert errors[1]["error"]["code"] == "batch_cancelled"
        assert errors[1]["error"]["message"].endswith("It is line 202 of the input file.")
    assert works.working_files() == []
    works.correct(batch)


def test_a_batch_ends_and_another_begins_without_files_that_do_not_open(works, settings):
    batch = works.begin(2)
    (shard,) = works.feed()
    deliver(finished(shard))
    again = works.create(works.lines(2))
    settings.SECRET_KEY = "another" * 8
    works.finalize(batch)
    assert (batch.state, batch.completed, batch.charge_microusd) == ("completed", 2, 2 * ROW_MICROUSD)
    assert [line["error"]["code"] for line in works.read(batch.error_file_id)] == ["content_unreadable"] * 2
    checking.check(again.pk)
    again.refresh_from_db()
    assert (again.state, again.hold_microusd, again.errors[0]["code"]) == ("failed", 0, "content_unreadable")
    works.correct(batch)


@pytest.mark.story
def test_files_that_take_long_to_store_are_not_overtaken_and_are_seen_at_the_end(works, monkeypatch):
    monkeypatch.setattr(claims, "ALIVE_SECONDS", 0.05)
    monkeypatch.setattr(statements, "WORK_SECONDS", 1)
    batch = works.begin(3)
    (job,) = works.feed()
    deliver(finished(job))
    store, seen = Draft.store, []

    def slow(draft: Draft) -> str:
        path = store(draft)
        time.sleep(2)
        assert sweeping.sweep() == []  # its claim is in force
        finalizing.finalize(batch.pk)
        seen.extend(File.objects.filter(purpose="batch_output").values_list("status", flat=True))
        return path

    monkeypatch.setattr(Draft, "store", slow)
    works.finalize(batch)
    assert (batch.state, seen) == ("completed", ["incoming"])
    assert [file.status for file in File.objects.filter(purpose="batch_output")] == ["processed"]
    works.correct(batch)


def test_a_finalizer_that_was_overtaken_keeps_nothing(works, monkeypatch):
    batch = works.begin(3)
    (job,) = works.feed()
    deliver(finished(job))
    store = Draft.store

    def overtaken(draft: Draft) -> str:
        monkeypatch.setattr(Draft, "store", store)
        Batch.objects.filter(pk=batch.pk).update(working_until=batch.created_at)
        finalizing.finalize(batch.pk)
        return store(draft)

    monkeypatch.setattr(Draft, "store", overtaken)
    works.finalize(batch)
    (file,) = File.objects.filter(purpose="batch_output")
    assert (batch.state, batch.output_file_id, len(works.read(file.pk))) == ("completed", file.pk, 3)
    stored = [path.name for path in works.media.rglob("*") if path.is_file()]
    assert sorted(stored) == sorted(str(id) for id in (file.pk, batch.input_file_id))
    works.correct(batch)


def test_a_batch_that_is_stuck_keeps_no_other_back(works, monkeypatch):
    stuck, ended, good = works.begin(1), works.begin(1), works.begin(1)
    for job in works.feed():
        deliver(finished(job))
    works.run_to_end(ended)
    works.run_to_end(good)
    Batch.objects.exclude(pk=stuck.pk).update(cleaned=False)
    stop, clean, cleaned = ending.advance, finalizing.clean, []

    def advance(batch_id):
        if batch_id == stuck.pk:
            raise RuntimeError("stuck")
        return stop(batch_id)

    def cleaning(batch_id):
        if batch_id == ended.pk:
            raise PermissionError("stuck")
        clean(batch_id)
        cleaned.append(batch_id)

    monkeypatch.setattr(ending, "advance", advance)
    monkeypatch.setattr(finalizing, "clean", cleaning)
    waiting = works.create(works.lines(1))
    assert sweeping.sweep() == [waiting.pk]
    assert cleaned == [good.pk]


@pytest.mark.parametrize("end", ["failed", "cancelled", "expired"])
def test_nothing_is_left_of_a_check_that_died_whatever_the_end(works, monkeypatch, end):
    batch = works.create(works.lines(2))
    with monkeypatch.context() as patch:
        patch.setattr(checking, "begin", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            checking.check(batch.pk)
    assert len(works.working_files()) == 1
    Batch.objects.filter(pk=batch.pk).update(working_until=batch.created_at)
    if end == "failed":
        File.objects.filter(pk=batch.input_file_id).update(size_bytes=10**12)
        checking.check(batch.pk)
    elif end == "cancelled":
        services.cancel(batch=batch)
    else:
        pass_window(batch)
        sweeping.sweep()
    works.finalize(batch)
    assert (batch.state, batch.cleaned) == (end, True)
    assert works.working_files() == []


def test_a_worker_that_died_after_the_end_leaves_nothing_behind(works, monkeypatch):
    batch = works.begin(3)
    with monkeypatch.context() as patch:
        patch.setattr(finalizing, "clean", lambda _: None)
        works.run_to_end(batch)
    assert Shard.objects.exclude(path="").count() == 1
    sweeping.sweep()
    assert Shard.objects.exclude(path="").count() == 0
    assert len(works.read(batch.output_file_id)) == 3


def test_a_flexible_batch_waits_for_power_below_its_ceiling(works):
    place = works.pool.node.site
    price = place.power_usd_per_mwh * place.energy_factor
    batch = works.begin(2, max_power_usd_per_mwh=price)
    assert works.feed() == []  # not below it
    place.power_usd_per_mwh -= 1
    place.save()
    (job,) = works.feed()
    assert job.max_usd_per_mwh == price
    other = make.pool(model=works.model)
    assert other.node.site.power_usd_per_mwh == place.power_usd_per_mwh + 1
    deliver(finished(job))
    works.finalize(batch)
    assert batch.state == "completed"


def test_a_flexible_batch_whose_power_stays_dear_ends_at_its_deadline_for_nothing(works):
    place = works.pool.node.site
    dear = place.power_usd_per_mwh * place.energy_factor
    at = int((datetime.now(UTC) + timedelta(hours=2)).timestamp())
    batch = works.begin(3, max_power_usd_per_mwh=dear, deadline_at=at)
    assert abs(Job.objects.get().deadline_at - batch.expires_at) < timedelta(seconds=1)
    assert works.feed() == []
    pass_window(batch)
    sweeping.sweep()
    works.finalize(batch)
    assert (batch.state, batch.completed, batch.charge_microusd) == ("expired", 0, 0)
    assert [line["error"]["code"] for line in works.read(batch.error_file_id)] == ["batch_expired"] * 3
    works.correct(batch)


def test_shards_of_a_flexible_batch_go_where_power_is_cheap_and_hold_up_nobody(works):
    place = works.pool.node.site
    cheap = make.pool(model=works.model, slots=4)
    cheap.node.site.power_usd_per_mwh = place.power_usd_per_mwh / 2
    cheap.node.site.save()
    flexible = works.begin(2, max_power_usd_per_mwh=place.power_usd_per_mwh * place.energy_factor * 0.75)
    (job,) = works.feed()
    assert (job.batch_id, job.pool) == (flexible.pk, cheap)
    waits = works.begin(2, max_power_usd_per_mwh=0)
    other = works.begin(2)
    assert {job.batch_id for job in works.feed()} == {flexible.pk, other.pk}
    assert Job.objects.get(batch_id=waits.pk).state == "queued"


def test_a_deadline_ends_the_window_sooner(works):
    at = int((datetime.now(UTC) + timedelta(hours=2)).timestamp())
    batch = works.create(works.lines(1), deadline_at=at)
    assert int(batch.expires_at.timestamp()) == at
    far = works.create(works.lines(1), deadline_at=at + 10**6)
    assert far.expires_at - far.created_at == timedelta(hours=24)


def test_a_site_that_dies_again_and_again_ends_in_failed_rows(works, settings):
    settings.BATCH_SHARD_ATTEMPTS = 2
    batch = works.begin(3)
    for _ in range(3):  # the first moves it on
        (job,) = works.feed()
        deliver(started(job))
        deliver(some(job, [1]))
        lose(job)
        sweeping.sweep()
    job.refresh_from_db()
    assert (job.state, job.rows, job.failed_rows) == ("failed", 3, 2)
    works.finalize(batch)
    assert (batch.state, batch.completed, batch.failed) == ("completed", 1, 2)
    assert [line["error"]["code"] for line in works.read(batch.error_file_id)] == ["site_lost", "site_lost"]
    works.correct(batch)


def test_shards_leave_other_work_its_slots_and_its_open_jobs(works):
    works.begin(900)
    assert len(works.feed()) == 2
    standing = database.run(allowance.standing(works.caller))
    assert (standing.open, standing.leased) == (0, 0)


def test_webhooks_hear_of_each_end_once(works):
    Endpoint.objects.create(organization=works.organization, url="https://example.org/hook", secret="sealed")
    batch = works.run_to_end(works.begin(1))
    assert [(m.type, m.data) for m in Message.objects.all()] == [("batch.completed", {"id": batch.public_id})]
    bad = works.begin(b"no\n")
    assert Message.objects.filter(type="batch.failed", data={"id": bad.public_id}).count() == 1


def took(batch, **fields):
    """As if it had been sent longer ago."""
    Batch.objects.filter(pk=batch.pk).update(
        cleaned=False, mailed_at=None, created_at=batch.ended_at - timedelta(minutes=6), **fields
    )


def test_whoever_sent_it_is_told_once(works):
    owner = make.user(email="lena@meridian.example")
    works.organization.memberships.create(user=owner, role="developer")
    batch = works.run_to_end(works.begin(3))
    assert mail.outbox == []  # a key that nobody made, and it was short
    took(batch, user=owner)
    run_in_threads(4, lambda _: finalizing.clean(batch.pk))
    sweeping.sweep()
    tasks.go_on(str(batch.pk))
    [message] = mail.outbox
    assert (message.subject, message.to) == ("A batch is done", ["lena@meridian.example"])
    assert message.body.startswith(
        f"3 of 3 rows of batch {batch.public_id} of Meridian Foods are done. It cost <\xa0$0.01; what was held beyond that is "
        f"free again.\n\nResults are on the page of the batch:\n{settings.BASE_URL}/batches/{batch.public_id}/\n"
    )
    assert message.extra_headers["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"


def test_nobody_else_is_told(works):
    owner = make.user(declined_mails=["batches"])
    batch = works.run_to_end(works.begin(1))
    membership = works.organization.memberships.create(user=owner, role="owner")
    took(batch, user=owner)  # wants none
    sweeping.sweep()
    User.objects.update(declined_mails=[])
    finalizing.clean(batch.pk)  # too late: it was decided
    membership.delete()
    took(batch, user=owner)  # no member any more
    sweeping.sweep()
    cancelled = works.begin(1)
    services.cancel(batch=cancelled)
    works.finalize(cancelled)
    works.organization.memberships.create(user=owner, role="owner")
    took(cancelled, user=owner)  # knows it
    sweeping.sweep()
    assert mail.outbox == []
