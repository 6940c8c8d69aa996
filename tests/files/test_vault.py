"""Stored files are encrypted piece by piece, bound to their names, and read from any offset without being held in memory."""

import hashlib
import io
import os
import subprocess
import sys

import pytest
from django.conf import settings as portal
from django.core.files.base import ContentFile, File
from django.core.files.storage import default_storage

from apps.files import vault
from apps.files.sealing import Unreadable
from apps.files.services import open_lines
from apps.files.vault import HEAD, MAGIC, PIECE, SEALED, TAG

WORD = b"a secret of the customer"
PLACES = [0, 1, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE - 1, 2 * PIECE, 3 * PIECE]


def of_size(size: int) -> bytes:
    return (WORD * (size // len(WORD) + 1))[:size]


def read(name: str = "org/file") -> bytes:
    with default_storage.open(name) as opened:
        return opened.read()


@pytest.fixture
def disk(settings):
    """The bytes of a file on the disk; with `put` other ones."""

    def lie(name: str = "org/file", put: bytes | None = None) -> bytes:
        path = settings.MEDIA_ROOT / name
        if put is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(put)
        return path.read_bytes()

    return lie


@pytest.mark.parametrize("size", [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE, 3 * PIECE + 7])
def test_a_file_of_any_size_is_read_as_it_was_from_any_place(disk, size):
    plain = of_size(size)
    assert default_storage.save("org/file", ContentFile(plain)) == "org/file"
    sealed = disk()
    assert sealed.startswith(MAGIC)
    assert WORD not in sealed
    assert len(sealed) == HEAD + size + TAG * max(1, -(-size // PIECE))
    with default_storage.open("org/file") as opened:
        assert (opened.size, opened.read(), opened.read()) == (size, plain, b"")
        for place in PLACES:
            opened.seek(place)
            assert opened.read(100) == plain[place : place + 100]
        opened.seek(-1 if size else 0, os.SEEK_END)
        assert opened.read() == plain[-1:]


def test_the_same_file_is_never_stored_as_the_same_bytes(disk):
    default_storage.save("org/file", ContentFile(WORD))
    default_storage.save("org/other", ContentFile(WORD))
    assert disk()[HEAD:] != disk("org/other")[HEAD:]


def changed(sealed: bytes) -> dict[str, bytes]:
    head, pieces = sealed[:HEAD], [sealed[at : at + SEALED] for at in range(HEAD, len(sealed), SEALED)]
    joined = {
        "cut off at a piece": pieces[:-1],
        "cut off at the first": pieces[:1],
        "swapped": [pieces[1], pieces[0], *pieces[2:]],
        "repeated": [pieces[0], pieces[0], *pieces[2:]],
        "gone from the middle": [pieces[0], *pieces[2:]],
        "longer": [*pieces, pieces[-1]],
        "empty": [],
    }
    flipped = {
        f"a bit of byte {at}": sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :]
        for at in (len(MAGIC), HEAD - 1, HEAD, HEAD + PIECE, len(sealed) - 1)
    }
    cut = {
        f"{n} bytes cut off": sealed[:-n] for n in (1, TAG, TAG + 1, len(sealed) - HEAD - TAG, len(sealed) - HEAD + 1)
    }
    return {**{name: head + b"".join(found) for name, found in joined.items()}, **flipped, **cut}


@pytest.mark.parametrize("size", [3 * PIECE, 3 * PIECE + 100])
def test_what_was_changed_does_not_open(disk, size):
    default_storage.save("org/file", ContentFile(of_size(size)))
    for name, bad in changed(disk()).items():
        disk(put=bad)
        with pytest.raises(Unreadable) as refused:
            read()
        assert (name, refused.value.reason, refused.value.status) == (name, "content_unreadable", 500)


def test_a_file_is_read_under_its_own_name_only(disk):
    default_storage.save("org/file", ContentFile(WORD))
    disk("other/file", put=disk())
    with pytest.raises(Unreadable):
        read("other/file")
    assert read() == WORD


def test_keys_are_replaced_as_those_of_text(disk, settings):
    default_storage.save("by/secret", ContentFile(b"0"))
    settings.CONTENT_KEYS = ["first" * 8]
    default_storage.save("by/first", ContentFile(b"1"))
    settings.CONTENT_KEYS = ["second" * 8, "first" * 8]
    default_storage.save("by/second", ContentFile(b"2"))
    assert [read(name) for name in ("by/secret", "by/first", "by/second")] == [b"0", b"1", b"2"]
    settings.CONTENT_KEYS = ["second" * 8]
    assert read("by/second") == b"2"
    with pytest.raises(Unreadable):
        read("by/first")


def test_what_was_stored_before_is_read_until_that_is_ended(disk, settings):
    disk(put=b"one\ntwo\n")
    disk("org/empty", put=b"")
    assert (read(), read("org/empty")) == (b"one\ntwo\n", b"")
    with open_lines("org/file", start=4, number=2) as lines:
        assert [(line.number, line.content) for line in lines] == [(2, b"two")]
    settings.PLAIN_FILES = False
    with pytest.raises(Unreadable):
        read()
    default_storage.save("org/sealed", ContentFile(WORD))
    assert read("org/sealed") == WORD


def test_what_is_written_by_its_owner_is_read_from_its_beginning(disk):
    """A draft is handed over at its end, as the next one of the same file is."""
    plain = io.BytesIO(of_size(PIECE + 5))
    plain.read()
    sealing = vault.Sealing(File(plain), "org/file")
    sealing.seek(0)
    for _ in range(2):
        disk(put=sealing.read())
        assert read() == of_size(PIECE + 5)
        assert sealing.read(10) == b""
        sealing.seek(0)


def test_a_name_that_is_taken_meanwhile_leaves_nothing(disk, monkeypatch):
    disk(put=b"theirs")
    monkeypatch.setattr(vault.SealedStorage, "get_available_name", lambda self, name, max_length=None: name)
    with pytest.raises(FileExistsError):
        default_storage.save("org/file", ContentFile(b"ours"))
    assert disk() == b"theirs"
    assert default_storage.listdir("org") == ([], ["file"])


LARGE = """
import hashlib, io, resource, django
django.setup()
from django.core.files.base import File
from django.core.files.storage import default_storage

class Source(io.RawIOBase):
    left = 200 * 2**20
    def read(self, size=-1):
        size = min(size, self.left); self.left -= size
        return b"x" * size

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
default_storage.save("large", File(Source()))
found = hashlib.sha256()
with default_storage.open("large") as opened:
    while part := opened.read(256 * 1024):
        found.update(part)
print(found.hexdigest(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.story
@pytest.mark.timeout(300)
def test_two_hundred_megabytes_are_never_in_memory(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LARGE],
        env={**os.environ, "DJANGO_SETTINGS_MODULE": "cango_portal.settings", "PORTAL_VAR": str(tmp_path)},
        cwd=portal.ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    digest, grown_kib = done.stdout.split()
    expected = hashlib.sha256()
    for _ in range(200):
        expected.update(b"x" * 2**20)
    assert digest == expected.hexdigest()
    assert int(grown_kib) < 8 * 1024
    assert (tmp_path / "files" / "large").stat().st_size == HEAD + 200 * 2**20 // PIECE * SEALED
