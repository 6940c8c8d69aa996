"""An embedded llama.cpp server: a child process on a unix socket, spoken to like any other engine by URL."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

from apps.runner.engines.child import Child, module
from apps.runner.engines.engine import Health, Piece, Work
from apps.runner.engines.openai_http import BROKEN, OpenAIEngine
from apps.runner.engines.said import Said

READY_SECONDS = 10.0  # a request that comes while the model loads waits so long
PROBE_SECONDS = 0.02
SOCKET_BYTES = 107  # of a unix socket's path


class LlamaEngine:
    """Serves `gguf` under the name `model`, `slots` requests at a time, each with `context` tokens.

    The socket lies in `directory`, or in one of its own where that path would be too long for a socket.
    """

    def __init__(
        self,
        *,
        gguf: Path,
        model: str,
        slots: int,
        context: int,
        embeddings: bool,
        directory: Path,
        log: Path | None = None,
    ) -> None:
        self.temporary: Path | None = None
        self.socket = directory.resolve() / f"{model.replace('/', '-')}.sock"
        if len(str(self.socket).encode()) > SOCKET_BYTES:
            self.temporary = Path(tempfile.mkdtemp(prefix="cango-"))
            self.socket = self.temporary / "engine.sock"
        arguments = ["--model", str(gguf), "--name", model, "--socket", str(self.socket), "--slots", str(slots), "--context", str(context)]  # fmt: skip
        self.child = Child(
            model,
            module("apps.runner.engines.llama_server", *arguments, *(["--embeddings"] if embeddings else [])),
            said=Said(log) if log else None,
            before=lambda: self.socket.unlink(missing_ok=True),
        )
        self.http = OpenAIEngine(url="http://llama/v1", socket=str(self.socket), timings=True)

    async def start(self) -> None:
        self.child.start()

    async def stop(self) -> None:
        await self.http.stop()
        await self.child.stop()
        self.socket.unlink(missing_ok=True)
        if self.temporary:
            shutil.rmtree(self.temporary, ignore_errors=True)

    def processes(self) -> list[int]:
        return [] if self.child.pid is None else [self.child.pid]

    def children(self) -> list[Child]:
        return [self.child]

    async def health(self) -> Health:
        if self.child.pid is None:
            return Health(ready=False, reason="the engine is being started again")
        try:
            loaded = await self.http.status("http://llama/health", seconds=2) == 200
        except BROKEN:
            return Health(ready=False, reason="the engine does not answer yet")
        return Health(ready=loaded, reason="" if loaded else "the model is being loaded")

    async def run(self, work: Work) -> AsyncGenerator[Piece, None]:
        if self.child.pid is None or not self.socket.exists():
            await self.ready()
        async with aclosing(self.http.run(work)) as pieces:
            async for piece in pieces:
                yield piece

    async def ready(self) -> None:
        """Wait until the model is loaded, at most READY_SECONDS; then the request itself finds out."""
        try:
            async with asyncio.timeout(READY_SECONDS):
                while not (await self.health()).ready:  # noqa: ASYNC110 - another process, which rings nobody
                    await asyncio.sleep(PROBE_SECONDS)
        except TimeoutError:
            pass
