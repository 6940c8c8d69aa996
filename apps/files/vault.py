"""Django's default storage: whatever is saved is encrypted on its way into the store behind it, and opened on its way out.

A sealed file is a head, then pieces of PIECE bytes, each AES-256 in Galois/Counter mode with its tag. The nonce of a piece is
its number and whether it is the last (the STREAM construction, Hoang et al. 2015, as in age), and each is bound to the head
and to the file's name: pieces that were cut off, swapped, repeated or brought from another file do not open. A key is for
one file: out of a random salt and the first of the secrets that seal text (`sealing`); all of those open.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import os
from datetime import datetime
from functools import lru_cache
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import Storage
from django.utils.module_loading import import_string

from apps.files.sealing import Unreadable, secrets

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# The head: MAGIC, the name of the secret, the salt.
MAGIC = b"\x00cango.file.1\n"
NAME, SALT = 4, 32  # bytes
HEAD = len(MAGIC) + NAME + SALT
PIECE, TAG = 64 * 1024, 16
SEALED = PIECE + TAG


class Bound(NamedTuple):
    """What a piece is opened with: its file's key, and what it is bound to."""

    key: AESGCM
    about: bytes


class SealedStorage(Storage):
    """`store`: the storage behind it, as STORAGES names one. Sizes are those of the store.

    What was stored before files were encrypted is read as it is, unless PLAIN_FILES is off.
    """

    def __init__(self, store: dict[str, Any]) -> None:
        self.store: Storage = import_string(store["BACKEND"])(**store.get("OPTIONS", {}))

    def _open(self, name: str, mode: str = "rb") -> File[bytes]:
        """Raises FileNotFoundError, Unreadable."""
        if mode != "rb":
            raise ValueError("stored files are only read")
        opened = self.store.open(name)
        try:
            return File(io.BufferedReader(Unsealed(opened, name), PIECE), name)
        except Plain:
            opened.seek(0)
            return opened
        except BaseException:
            opened.close()
            raise

    def _save(self, name: str, content: File[bytes]) -> str:
        stored = self.store.save(name, File(cast("IO[bytes]", Sealing(content, name)), name))
        if stored != name:  # somebody saved under this name meanwhile, and ours is bound to it
            self.store.delete(stored)
            raise FileExistsError(name)
        return stored

    def get_available_name(self, name: str, max_length: int | None = None) -> str:
        return self.store.get_available_name(name, max_length)

    def delete(self, name: str) -> None:
        self.store.delete(name)

    def exists(self, name: str) -> bool:
        return self.store.exists(name)

    def listdir(self, path: str) -> tuple[list[str], list[str]]:
        return self.store.listdir(path)

    def size(self, name: str) -> int:
        return self.store.size(name)

    def get_modified_time(self, name: str) -> datetime:
        return self.store.get_modified_time(name)


class Plain(Exception):
    """It was stored before files were encrypted."""


class Sealing(io.RawIOBase):
    """A file as it is encrypted, read from its beginning; at most a piece more than is asked for is in memory."""

    def __init__(self, content: File[bytes], name: str) -> None:
        super().__init__()
        self.content = content
        self.name = name
        self.begin()

    def begin(self) -> None:
        secret = ring(*secrets())[0]
        head = b"".join((MAGIC, secret.name, os.urandom(SALT)))
        self.bound = secret.bind(head, self.name)
        self.ready = bytearray(head)
        self.number = -1  # of the next piece, once one was asked for
        self.ahead: bytes | None = None

    def piece(self) -> bytes:
        """Of what is plain: shorter than PIECE only at the end."""
        found: bytes = self.content.read(PIECE)
        while found and len(found) < PIECE and (more := self.content.read(PIECE - len(found))):
            found += more
        return found

    def read(self, size: int = -1, /) -> bytes:
        if self.number < 0:
            if self.content.seekable():
                self.content.seek(0)
            self.number, self.ahead = 0, self.piece()
        while self.ahead is not None and (size < 0 or len(self.ready) < size):
            here, following = self.ahead, self.piece() if len(self.ahead) == PIECE else b""
            self.ready += self.bound.key.encrypt(nonce(self.number, last=not following), here, self.bound.about)
            self.number += 1
            self.ahead = following or None
        size = len(self.ready) if size < 0 else size
        given = bytes(self.ready[:size])
        del self.ready[:size]
        return given

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Only to the beginning: stores go there first."""
        if (offset, whence) != (0, os.SEEK_SET):
            raise io.UnsupportedOperation("seek")
        if self.number >= 0:
            if not self.content.seekable():
                raise io.UnsupportedOperation("seek")
            self.begin()
        return 0

    def seekable(self) -> bool:
        return False

    def readable(self) -> bool:
        return True


class Unsealed(io.RawIOBase):
    """A sealed file as it was before, from any offset. Raises Unreadable where a piece does not open, and Plain at once.

    That its end was cut off is found at what is its last piece then.
    """

    def __init__(self, sealed: IO[bytes] | File[bytes], name: str) -> None:
        super().__init__()
        head = sealed.read(HEAD)
        if not head.startswith(MAGIC):
            raise Plain if settings.PLAIN_FILES else unreadable()
        used = head[len(MAGIC) : len(MAGIC) + NAME]
        secret = next((secret for secret in ring(*secrets()) if secret.name == used), None)
        length = sealed.seek(0, os.SEEK_END)
        length = (sealed.tell() if length is None else length) - HEAD
        self.last = max(0, -(-length // SEALED) - 1)
        self.length = length - (self.last + 1) * TAG
        if secret is None or self.length < self.last * PIECE:
            raise unreadable()
        self.sealed = sealed
        self.bound = secret.bind(head, name)
        self.at = 0
        self.number, self.piece = -1, b""
        if not self.length:
            self.open_piece(0)  # an empty file has one piece, which says that it is empty

    def open_piece(self, number: int) -> bytes:
        if number != self.number:
            self.sealed.seek(HEAD + number * SEALED)
            try:
                self.piece = self.bound.key.decrypt(
                    nonce(number, last=number == self.last), self.sealed.read(SEALED), self.bound.about
                )
            except (InvalidTag, ValueError):
                raise unreadable() from None
            self.number = number
        return self.piece

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        if self.at >= self.length:
            return 0
        into = memoryview(buffer).cast("B")
        number, start = divmod(self.at, PIECE)
        found = memoryview(self.open_piece(number))[start : start + len(into)]
        into[: len(found)] = found
        self.at += len(found)
        return len(found)

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        self.at = max(0, offset + {os.SEEK_SET: 0, os.SEEK_CUR: self.at, os.SEEK_END: self.length}[whence])
        return self.at

    def tell(self) -> int:
        return self.at

    def close(self) -> None:
        if not self.closed and hasattr(self, "sealed"):
            self.sealed.close()
        super().close()


def nonce(number: int, *, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])


def unreadable() -> Unreadable:
    return Unreadable(
        "The stored file cannot be read: it was changed, or the key it was encrypted with is not in use any more."
    )


class Secret(NamedTuple):
    name: bytes
    root: bytes

    def bind(self, head: bytes, name: str) -> Bound:
        key = hmac.digest(self.root, head, hashlib.sha256)
        return Bound(AESGCM(key), b"file " + head + name.encode())


@lru_cache(maxsize=8)
def ring(*secrets: str) -> list[Secret]:
    """Out of each secret what keys of files are made of, and the name that finds it again."""
    roots = [hmac.digest(secret.encode(), b"cango.files.1", hashlib.sha256) for secret in secrets]
    return [Secret(hmac.digest(root, b"name", hashlib.sha256)[:NAME], root) for root in roots]
