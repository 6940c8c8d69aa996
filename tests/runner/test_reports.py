"""Reports survive their process and a portal that is away, and are sent once."""

import os
import resource
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from apps.runner.portal import Portal
from apps.runner.protocol import Report, Usage
from apps.runner.reports import BATCH, Reporter, Spool, SpoolInUse
from tests.runner.portal import TOKEN, FakePortal
from tests.runner.test_execution import until
from tests.threads import run_in_threads


def report(job: str, **fields: Any) -> Report:
    given = {"kind": "finished", "attempt": 1, "fence": "f", "claimant": "c", "at": time.time(), "state": "succeeded"}
    return Report.model_validate({"job": job, **given, **fields})


class Desk:
    """A reporter and what it was told."""

    def __init__(self, url: str, directory: Path, token: str = TOKEN) -> None:
        self.refused: list[tuple[str, int]] = []
        self.answered: list[tuple[str, int]] = []
        self.spool = Spool(directory)
        self.reporter = Reporter(
            portal=Portal(url=url, token=token),
            spool=self.spool,
            refused=lambda *key: self.refused.append(key),
            answered=lambda *key: self.answered.append(key),
        )

    def files(self) -> list[str]:
        return sorted(path.name for path in self.spool.directory.glob("*.json"))

    async def close(self, seconds: float = 2) -> None:
        await self.reporter.stop(seconds)
        self.spool.close()


@pytest.fixture
def desk(portal: FakePortal, tmp_path: Path) -> Callable[..., Desk]:
    return lambda **fields: Desk(fields.pop("url", portal.url), tmp_path / "spool", **fields)


async def test_reports_go_in_order_and_leave_nothing(portal: FakePortal, desk: Callable[..., Desk]) -> None:
    one = desk()
    one.reporter.start()
    for number in range(5):
        one.reporter.put(report(f"job{number}", kind="started", state=None))
        one.reporter.put(report(f"job{number}", usage=Usage(completion_tokens=number)))
    await until(lambda: len(one.answered) == 5)
    await one.close()
    # What waits together travels together, and an end tells the start that it came right after.
    assert [(sent.job, sent.kind) for sent in portal.reports] == [(f"job{number}", "finished") for number in range(5)]
    assert portal.posts < 5


async def test_a_start_is_told_when_its_end_does_not_come_soon(portal: FakePortal, desk: Callable[..., Desk]) -> None:
    one = desk()
    one.reporter.start()
    one.reporter.put(report("long", kind="started", state=None))
    one.reporter.put(report("short", kind="started", state=None))
    one.reporter.put(report("short"))
    await until(lambda: len(portal.reports) == 2)
    one.reporter.put(report("long"))
    await until(lambda: len(one.answered) == 2)
    await one.close()
    assert [(sent.job, sent.kind) for sent in portal.reports] == [
        ("short", "finished"),
        ("long", "started"),
        ("long", "finished"),
    ]
    assert one.files() == []


async def test_a_report_survives_its_process_and_is_sent_once(portal: FakePortal, desk: Callable[..., Desk]) -> None:
    first = desk(url="http://127.0.0.1:9")  # nobody there: a request of its own that arrives late would count too
    first.reporter.start()
    first.reporter.put(report("kept", text="every word", usage=Usage(prompt_tokens=3)))
    first.reporter.put(report("kept", kind="started", state=None))
    await until(lambda: first.files() == ["kept-1-finished.json"])
    await first.close(0)
    assert portal.reports == []

    second = desk()
    second.reporter.start()
    await until(lambda: second.answered)
    await second.close()
    (sent,) = portal.reports
    assert (sent.job, sent.text, sent.usage.prompt_tokens) == ("kept", "every word", 3)

    third = desk()
    third.reporter.start()
    await third.close()
    assert len(portal.reports) == 1


async def test_a_process_killed_at_once_keeps_its_report(portal: FakePortal, desk: Callable[..., Desk]) -> None:
    first = desk(url="http://127.0.0.1:9")
    first.reporter.start()
    first.reporter.put(report("kept"))
    await until(first.files)
    first.reporter.sending.cancel()  # type: ignore[union-attr]
    first.spool.close()  # as a kill does
    second = desk()
    second.reporter.start()
    await until(lambda: second.answered)
    await second.close()
    assert [sent.job for sent in portal.reports] == ["kept"]


async def test_the_portals_return_is_noticed_soon(portal: FakePortal, desk: Callable[..., Desk]) -> None:
    portal.away = True
    one = desk()
    one.reporter.start()
    one.reporter.put(report("job"))
    await until(one.files)
    portal.away = False
    one.reporter.hurry()
    await until(lambda: one.answered, seconds=1)
    await one.close()


async def test_one_bad_report_does_not_hold_the_others(
    portal: FakePortal, desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = portal.answer
    monkeypatch.setattr(portal, "answer", lambda path, body: (422, b"{}") if b"poison" in body else real(path, body))
    one = desk()
    for job in ("a", "poison", "b"):
        one.reporter.put(report(job))
    one.reporter.start()
    await until(lambda: len(one.answered) == 3)
    await one.close()
    assert [sent.job for sent in portal.reports] == ["a", "b"]
    assert one.files() == []
    assert [path.name for path in (one.spool.directory / "refused").iterdir()] == ["poison-1-finished.json"]


async def test_a_refused_attempt_is_told(portal: FakePortal, desk: Callable[..., Desk]) -> None:
    portal.accepts = False
    one = desk()
    one.reporter.start()
    one.reporter.put(report("job", kind="started", state=None))
    await until(lambda: one.refused == [("job", 1)])
    await one.close()


async def test_all_that_waits_for_a_portal_that_is_away_lies_on_the_disk(
    portal: FakePortal, desk: Callable[..., Desk], tmp_path: Path
) -> None:
    first = desk(url="http://127.0.0.1:9")
    first.reporter.start()
    for number in range(BATCH + 50):  # more than one call takes
        first.reporter.put(report(f"job{number}"))
    await until(lambda: len(first.spool.files) == BATCH + 50)
    first.reporter.put(report("later"))
    await until(lambda: len(first.spool.files) == BATCH + 51)
    first.reporter.sending.cancel()  # type: ignore[union-attr]
    first.spool.close()  # as a kill does
    second = desk()
    second.reporter.start()
    await until(lambda: len(second.answered) == BATCH + 51)
    await second.close()
    assert len({sent.job for sent in portal.reports}) == BATCH + 51
    assert second.files() == []


async def test_a_wrong_token_loses_nothing(portal: FakePortal, desk: Callable[..., Desk]) -> None:
    one = desk(token="revoked")
    one.reporter.start()
    one.reporter.put(report("job"))
    await until(one.files)
    await one.close(0)
    assert one.files() == ["job-1-finished.json"]
    assert portal.reports == []


async def test_a_full_disk_does_not_keep_a_report_from_the_portal(
    portal: FakePortal, desk: Callable[..., Desk], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(reports: list[Report]) -> None:
        raise OSError(28, "No space left on device")

    one = desk()
    monkeypatch.setattr(one.spool, "keep", full)
    one.reporter.start()
    one.reporter.put(report("job"))
    await until(lambda: one.answered)
    await one.close()


def test_a_spool_has_one_process(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    with pytest.raises(SpoolInUse, match="Another runner"):
        Spool(tmp_path)
    spool.close()
    Spool(tmp_path).close()


def test_what_was_cut_off_while_writing_is_gone(tmp_path: Path) -> None:
    (tmp_path / "x.part").write_text('{"kind": "fini')
    (tmp_path / "bad.json").write_text("{")
    spool = Spool(tmp_path)
    spool.keep([report("good")])
    assert [kept.job for kept in spool.left()] == ["good"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.unreadable", "good-1-finished.json", "lock"]
    spool.close()


def test_what_is_kept_at_once_is_one_file_until_all_of_it_is_done_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def files() -> list[str]:
        return sorted(path.name for path in tmp_path.glob("*.json"))

    synced: list[int] = []
    monkeypatch.setattr("apps.runner.reports.os.fsync", synced.append)
    spool = Spool(tmp_path)
    one, two, three, four = (report(job) for job in ("one", "two", "three", "four"))
    spool.keep([one, two, three])
    spool.keep([two, three])
    assert (files(), len(synced)) == (["one-1-finished.json"], 2)  # the file, and the directory that names it
    spool.drop([one])
    spool.keep([one, four])  # said once more: what waits in the first file stays
    assert files() == ["one-1-finished+.json", "one-1-finished.json"]
    spool.refuse(two)
    spool.close()

    later = Spool(tmp_path)
    assert sorted(kept.job for kept in later.left()) == ["four", "one", "three", "two"]
    later.drop([one, two, three])
    assert files() == ["one-1-finished+.json"]
    later.drop([four])
    assert files() == []
    later.close()


def test_of_a_file_that_is_unreadable_in_part_the_rest_is_sent(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.keep([report("one"), report("two")])
    path = tmp_path / "one-1-finished.json"
    first, second = path.read_text().splitlines()
    path.write_text(f"{first[:40]}\n{second}\n")
    spool.close()
    later = Spool(tmp_path)
    kept = later.left()
    assert [each.job for each in kept] == ["two"]
    later.keep(kept)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "lock",
        "one-1-finished.unreadable",
        "two-1-finished.json",
    ]
    later.close()


def test_two_that_were_unreadable_under_one_name_are_both_there(tmp_path: Path) -> None:
    for content in ("{", "[", "("):
        (tmp_path / "bad.json").write_text(content)
        spool = Spool(tmp_path)
        assert spool.left() == []
        spool.close()
    assert {path.name: path.read_text() for path in tmp_path.glob("*.unreadable")} == {
        "bad.unreadable": "{",
        "bad+.unreadable": "[",
        "bad++.unreadable": "(",
    }


def test_a_disk_that_is_full_gets_back_what_was_begun(tmp_path: Path) -> None:
    spool = Spool(tmp_path)
    spool.keep([report("before")])
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (4096, unlimited[1])
    )  # what comes after it is written in part, then fails
    try:
        with pytest.raises(OSError, match="File too large"):
            spool.keep([report("large", text="x" * 100_000)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["before-1-finished.json", "lock"]
    spool.keep([report("large", text="x" * 100_000)])
    assert sorted(spool.files) == ["before-1-finished", "large-1-finished"]
    spool.close()


def test_threads_that_keep_the_same_at_once_write_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As at a stop: one still writes what waited while the next is asked to."""
    fsync = os.fsync

    def slow(descriptor: int) -> None:
        threading.Event().wait(0.05)
        fsync(descriptor)

    monkeypatch.setattr("apps.runner.reports.os.fsync", slow)
    spool = Spool(tmp_path)
    reports = [report(f"job{number}") for number in range(4)]
    assert run_in_threads(5, lambda _: spool.keep(reports)) == [None] * 5
    assert sorted(path.name for path in tmp_path.iterdir()) == ["job0-1-finished.json", "lock"]
    assert len((tmp_path / "job0-1-finished.json").read_text().splitlines()) == 4
    assert run_in_threads(2, lambda _: spool.drop(reports)) == [None] * 2
    assert (spool.files, spool.names, sorted(path.name for path in tmp_path.iterdir())) == ({}, {}, ["lock"])
    spool.close()
