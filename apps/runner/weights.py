"""Model files on this node, by what is in them: fetched once, verified, and named by their SHA-256."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import shutil
from pathlib import Path
from typing import IO

import httpx

from apps.runner.protocol import Weights

log = logging.getLogger(__name__)

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
WRITE_BYTES = 8 * 1024 * 1024
SPARE_BYTES = 1024**3  # of the disk, left to everything else


class NotFetched(Exception):
    """The weights are not here, and the message says why. It may be tried again."""


class Store:
    """A directory of files `sha256-…`. A download that broke off goes on where it was, where its server can."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.turns: dict[str, asyncio.Lock] = {}
        self.claims: dict[str, str] = {}  # pool: the SHA-256 of what it is to have
        self.come: dict[str, tuple[int, int]] = {}  # bytes here, bytes in all, of what is being fetched

    def path(self, weights: Weights) -> Path:
        return self.directory / f"sha256-{weights.sha256}"

    def progress(self, weights: Weights) -> str:
        here, total = self.come.get(weights.sha256, (0, 0))
        return f"{here * 100 // total} % of {total // 2**20} MiB" if total else f"{here // 2**20} MiB"

    async def fetch(self, weights: Weights) -> Path:
        """Where they lie. Raises NotFetched."""
        async with self.turns.setdefault(weights.sha256, asyncio.Lock()):  # two pools may want the same
            path = self.path(weights)
            if not path.exists():
                try:
                    await self.download(weights, path.with_name(f"{path.name}.part"))
                except (httpx.HTTPError, httpx.InvalidURL) as error:
                    raise NotFetched(f"{host(weights)} does not give them ({type(error).__name__})") from error
                except OSError as error:
                    raise NotFetched(f"they cannot be written to {self.directory}: {error.strerror}") from error
                path.with_name(f"{path.name}.part").rename(path)
            return path

    async def download(self, weights: Weights, part: Path) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        seen = hashlib.sha256()
        here = await asyncio.to_thread(hashed, part, seen)
        timeout = httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS)
        async with httpx.AsyncClient(trust_env=False, timeout=timeout, follow_redirects=True) as client:
            headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={here}-"} if here else {})
            async with client.stream("GET", weights.url, headers=headers) as answer:
                if here and answer.status_code != 206:  # its server begins anew, or has no more than we do
                    seen, here = hashlib.sha256(), 0
                    if answer.status_code == 416:
                        await asyncio.to_thread(part.unlink)
                        raise NotFetched("the file there is shorter than what was fetched of it")
                if answer.status_code not in {200, 206}:
                    raise NotFetched(f"{host(weights)} answers {answer.status_code}")
                total = here + int(answer.headers.get("content-length") or 0)
                room(self.directory, total - here)
                with part.open("ab" if here else "wb") as out:
                    data = bytearray()
                    try:
                        async for received in answer.aiter_raw():
                            data += received
                            here += len(received)
                            self.come[weights.sha256] = (here, total)
                            if len(data) >= WRITE_BYTES:
                                await asyncio.to_thread(add, out, seen, bytes(data))
                                data.clear()
                    finally:
                        add(out, seen, bytes(data))  # what came before it broke off is not asked for again
        self.come.pop(weights.sha256, None)
        if seen.hexdigest() != weights.sha256:
            await asyncio.to_thread(part.unlink)
            raise NotFetched(f"what {host(weights)} gives has another SHA-256: {seen.hexdigest()}")

    def claim(self, pool: str, weights: Weights | None) -> None:
        self.claims.pop(pool, None)
        if weights is not None:
            self.claims[pool] = weights.sha256

    def remove(self, weights: Weights) -> None:
        """Unless another pool is to have them."""
        if weights.sha256 not in self.claims.values():
            self.path(weights).unlink(missing_ok=True)
            self.path(weights).with_name(f"{self.path(weights).name}.part").unlink(missing_ok=True)


def hashed(part: Path, seen: hashlib._Hash) -> int:
    if not part.exists():
        return 0
    with part.open("rb") as given:
        while data := given.read(WRITE_BYTES):
            seen.update(data)
        return given.tell()


def add(out: IO[bytes], seen: hashlib._Hash, data: bytes) -> None:
    out.write(data)
    seen.update(data)


def room(directory: Path, needed: int) -> None:
    free = shutil.disk_usage(directory).free - SPARE_BYTES
    if needed > free:
        raise NotFetched(f"they need {needed // 2**20} MiB in {directory}, and {max(free, 0) // 2**20} are free")


def host(weights: Weights) -> str:
    """Without path and query, which may hold a right to the file."""
    return httpx.URL(weights.url).host
