"""OCR of images and PDF pages by child processes, one file each at a time, page by page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

from apps.runner.engines.child import Child, module
from apps.runner.engines.engine import EngineFailed, Health, Piece, Work, unavailable
from apps.runner.engines.said import Said
from apps.runner.protocol import Failure, Usage

READER = "apps.runner.engines.ocr_reader"
READY_SECONDS = 60.0


class RapidOCREngine:
    """`slots` readers. A reader that is interrupted is killed, since a page cannot be left half read; another starts."""

    def __init__(self, *, name: str, slots: int, log: Path | None = None) -> None:
        said = Said(log) if log else None
        self.readers = [Reader(f"{name} {number}", said) for number in range(1, slots + 1)]
        self.free: asyncio.Queue[Reader] = asyncio.Queue()
        for reader in self.readers:
            self.free.put_nowait(reader)

    async def start(self) -> None:
        for reader in self.readers:
            reader.child.start()

    async def stop(self) -> None:
        await asyncio.gather(*(reader.child.stop() for reader in self.readers))

    def processes(self) -> list[int]:
        return [reader.child.pid for reader in self.readers if reader.child.pid is not None]

    def children(self) -> list[Child]:
        return [reader.child for reader in self.readers]

    async def health(self) -> Health:
        if any(reader.child.pid is not None for reader in self.readers):
            return Health(ready=True)
        return Health(ready=False, reason="the reader is being started again")

    async def run(self, work: Work) -> AsyncGenerator[Piece, None]:
        if work.kind != "ocr":
            raise ValueError(f"this engine does no {work.kind}")
        reader = await self.free.get()
        whole = False
        try:
            pages = []
            await reader.ask(work)
            while True:
                answer = await reader.answer()
                if failure := answer.get("failure"):
                    whole = True
                    raise EngineFailed(Failure.model_validate(failure))
                if answer.get("end"):
                    whole = True
                    break
                number, total = answer["page"], answer["total"]
                pages.append({"page": number, "text": answer["text"], "lines": answer["lines"]})
                text = answer["text"] if number == 1 else "\n\n" + answer["text"]
                delta = {"index": 0, "delta": {"content": text}, "finish_reason": None}
                yield Piece(choices=[delta], usage=Usage(pages=number), done=number, total=total)
            stop = {"index": 0, "delta": {}, "finish_reason": "stop"}
            yield Piece(choices=[stop], result={"pages": pages})
        finally:
            if not whole:
                reader.child.kill()
            self.free.put_nowait(reader)


class Reader:
    def __init__(self, name: str, said: Said | None = None) -> None:
        self.child = Child(name, module(READER), talks=True, said=said)
        self.greeted: object = None  # the process that said it is ready

    async def ask(self, work: Work) -> None:
        try:
            async with asyncio.timeout(READY_SECONDS):
                await self.child.started.wait()
                process = self.child.process
                assert process
                assert process.stdin
                if self.greeted is not process:
                    await self.answer()
                    self.greeted = process
                process.stdin.write(json.dumps({"type": work.file_type, "bytes": len(work.file)}).encode() + b"\n")
                process.stdin.write(work.file)
                await process.stdin.drain()
        except (TimeoutError, OSError) as error:
            raise unavailable("The reader is not running. The request may be sent again.") from error

    async def answer(self) -> dict[str, Any]:
        process = self.child.process
        assert process
        assert process.stdout
        line = await process.stdout.readline()
        if not line.endswith(b"\n"):
            raise unavailable("The reader stopped. The request may be sent again.")
        answer = json.loads(line)
        assert isinstance(answer, dict)
        return answer
