"""Files that are written piece by piece, read line by line, and kept while something reads them."""

import errno
import hashlib
from datetime import timedelta

import pytest
from django.core.files.storage import FileSystemStorage, default_storage
from django.utils import timezone
from hypothesis import HealthCheck, given
from hypothesis import settings as limits
from hypothesis import strategies as st

from apps.core.errors import NotFound, Unavailable
from apps.core.ids import uuid7
from apps.files import reading, services, statements
from apps.files.models import File, Reading
from apps.files.services import begin_reading, end_reading, expire, open_lines, writer, writer_async
from cango_portal import database
from tests import make
from tests.threads import run_in_threads

BATCH, OUTPUT, USER_DATA = File.Purpose.BATCH, File.Purpose.BATCH_OUTPUT, File.Purpose.USER_DATA


def written(organization, *pieces: bytes, name="rows.jsonl", purpose=BATCH, **fields) -> File:
    with writer(organization_id=organization.pk, name=name, purpose=purpose, **fields) as out:
        for piece in pieces:
            out.write(piece)
        return out.commit()


def content(file: File) -> bytes:
    with default_storage.open(file.path) as stored:
        return stored.read()


def test_what_is_committed_is_kept(db):
    organization = make.organization()
    large = bytes(range(256)) * 3000
    file = written(organization, b"one\n", large, b"end")
    assert content(file) == b"one\n" + large + b"end"
    assert (file.size_bytes, file.sha256) == (len(large) + 7, hashlib.sha256(b"one\n" + large + b"end").hexdigest())
    assert (file.purpose, file.status, file.name, file.content_type) == (
        "batch",
        "processed",
        "rows.jsonl",
        "application/jsonl",
    )
    assert File.objects.get() == file
    assert file.expires_at - file.created_at == timedelta(days=30)
    assert written(organization, b"x", purpose=USER_DATA).expires_at is None
    hour = written(organization, b"x", expires_after_seconds=3600)
    assert hour.expires_at - hour.created_at == timedelta(hours=1)


def test_what_is_not_committed_leaves_nothing(db, kept):
    organization = make.organization()

    def fails(out):
        out.write(b"x" * 1_000_000)
        raise KeyError

    with pytest.raises(KeyError), writer(organization_id=organization.pk, name="a", purpose=OUTPUT) as out:
        fails(out)
    with writer(organization_id=organization.pk, name="a", purpose=OUTPUT) as out:
        out.write(b"x" * 1_000_000)
    assert not File.objects.exists()
    assert kept() == []


class FullDisk(FileSystemStorage):
    def _save(self, name, content):
        super()._save(name, content)
        raise OSError(errno.ENOSPC, "No space left on device")


def test_a_storage_that_fails_leaves_nothing(db, kept, settings):
    settings.STORAGES = {**settings.STORAGES, "default": {"BACKEND": "tests.files.test_writing.FullDisk"}}
    with pytest.raises(Unavailable):
        written(make.organization(), b"x")
    assert not File.objects.exists()
    assert kept() == []


@pytest.fixture
def organization(transactional_db):
    return make.organization()


async def test_the_async_writer_does_the_same(organization, kept):
    async with writer_async(organization_id=organization.pk, name="a.jsonl", purpose=BATCH) as out:
        await out.write(b"a" * 700_000)
        await out.write(b"\n")
        file = await out.commit()
    async with writer_async(organization_id=organization.pk, name="b.jsonl", purpose=BATCH) as out:
        await out.write(b"a" * 700_000)
    assert b"".join([part async for part in services.parts(file.path)]) == b"a" * 700_000 + b"\n"
    assert [path.name for path in kept()] == [str(file.pk)]
    await database.close()


def test_an_organization_keeps_only_so_much(db, kept, settings):
    settings.ORGANIZATION_STORAGE_BYTES = 100
    organization, other = make.organization(), make.organization()
    written(organization, b"x" * 60)
    with pytest.raises(statements.StorageFull) as refused:
        written(organization, b"x" * 41)
    assert (refused.value.status, refused.value.reason) == (403, "storage_limit_exceeded")
    assert "100 bytes together; they have 60 now, and this one has 41" in refused.value.message
    written(other, b"x" * 41)
    assert written(organization, b"x" * 41, purpose=OUTPUT).size_bytes == 41  # what the portal owes is always written
    assert (File.objects.count(), len(kept())) == (3, 3)


def test_two_files_at_once_never_pass_it_together(transactional_db, kept, settings):
    settings.ORGANIZATION_STORAGE_BYTES = 100
    organization = make.organization()
    outcomes = run_in_threads(6, lambda _: written(organization, b"x" * 40))
    assert sum(isinstance(outcome, File) for outcome in outcomes) == 2
    assert (File.objects.count(), len(kept())) == (2, 2)


def test_what_died_half_way_is_swept(db, kept):
    """The row is there before the bytes: a process that ends between the two leaves what the sweep finds."""
    organization = make.organization()
    draft = services.writing.Draft(
        organization_id=organization.pk, name="a", purpose=BATCH, content_type="text/plain", expires_after_seconds=3600
    )
    draft.add(b"half")
    draft.flush()
    database.run(statements.admit(organization.pk, limit_bytes=None, file=draft.row()))
    draft.store()
    draft.close()
    assert len(kept()) == 1
    assert database.run(statements.listed(organization.pk, purpose=None, after=None, newest_first=True, limit=9)) == []
    File.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert expire() == 1
    assert (File.objects.count(), kept()) == (0, [])
    assert database.run(statements.keep(draft.id, path="x", seconds=1)) is None


def test_a_file_that_is_read_stays(db, kept):
    organization, stranger = make.organization(), make.organization()
    file = written(organization, b"x")
    with pytest.raises(NotFound):
        begin_reading(organization_id=stranger.pk, file_id=file.pk, reader="batch:0")
    with pytest.raises(NotFound):
        begin_reading(organization_id=organization.pk, file_id=None, reader="batch:0")
    for _ in range(2):
        assert begin_reading(organization_id=organization.pk, file_id=file.pk, reader="batch:1") == file
    begin_reading(organization_id=organization.pk, file_id=file.pk, reader="batch:2")
    end_reading(reader="batch:1")
    with pytest.raises(statements.FileInUse):
        database.run(statements.delete(organization.pk, file.pk))
    File.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    assert expire() == 0
    assert content(file) == b"x"
    end_reading(reader="batch:2")
    end_reading(reader="batch:2")
    with pytest.raises(NotFound):  # past its time: out of sight, though its bytes are still there
        begin_reading(organization_id=organization.pk, file_id=file.pk, reader="batch:3")
    assert expire() == 1
    assert (File.objects.count(), Reading.objects.count(), kept()) == (0, 0, [])


def test_deleting_and_reading_at_once_leave_one_of_them(transactional_db):
    organization = make.organization()
    for _ in range(5):
        file = written(organization, b"x")

        def act(n, file=file):
            if n == 0:
                return database.run(statements.delete(organization.pk, file.pk))
            return begin_reading(organization_id=organization.pk, file_id=file.pk, reader=f"batch:{uuid7()}")

        deleted, *read = run_in_threads(3, act)
        status = File.objects.get(pk=file.pk).status
        if isinstance(deleted, dict):
            assert status == "deleted"
            assert all(isinstance(one, NotFound) for one in read)
        else:
            assert isinstance(deleted, statements.FileInUse)
            assert status == "processed"


LINES = [
    (b"", []),
    (b"a", [b"a"]),
    (b"a\nb\n", [b"a", b"b"]),
    (b"a\n\nb", [b"a", b"", b"b"]),
    (b"\n", [b""]),
    (b"\xef\xbb\xbfa\n", [b"a"]),
    (b"a\r\nb\r\n", [b"a", b"b"]),
    (b"\xef\xbb\xbf", []),
]


@pytest.mark.parametrize(("raw", "expected"), LINES)
def test_lines(db, raw, expected):
    file = written(make.organization(), raw)
    with open_lines(file.path) as lines:
        assert [line.content for line in lines] == expected
        assert lines.bom == raw.startswith(b"\xef\xbb\xbf")
        assert lines.crlf == (b"\r\n" in raw)


def test_a_line_that_is_too_long_is_cut(db):
    file = written(make.organization(), b"abc\nabcd\nabc\r\n" + b"x" * 1_000_000 + b"\nend")
    with open_lines(file.path, longest=3) as lines:
        found = list(lines)
    assert [(line.content, line.cut) for line in found] == [
        (b"abc", False),
        (b"abc", True),
        (b"abc", False),
        (b"xxx", True),
        (b"end", False),
    ]
    assert [(line.number, line.offset) for line in found] == [(1, 0), (2, 4), (3, 9), (4, 14), (5, 1_000_015)]


@limits(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.lists(st.sampled_from([b"a", b"bcd", b"\n", b"\r\n", b"\r", b"\xef\xbb\xbf"])).map(b"".join))
def test_reading_on_from_any_line_gives_the_same_lines(tmp_path, raw, monkeypatch):
    monkeypatch.setattr(reading, "CHUNK", 2)
    path = tmp_path / "lines"
    path.write_bytes(raw)
    with path.open("rb") as opened:
        every = list(reading.Lines(opened, start=0, number=1, longest=4))
    body = raw.removeprefix(b"\xef\xbb\xbf")
    pieces = body.split(b"\n")
    whole = [piece.removesuffix(b"\r") for piece in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])
    assert [line.content for line in every] == [piece[:4] for piece in whole]
    for line in every:
        with path.open("rb") as opened:
            again = list(reading.Lines(opened, start=line.offset, number=line.number, longest=4))
        assert again == every[line.number - 1 :] or line.offset == 0
