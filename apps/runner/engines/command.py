"""A server that the runner starts and keeps: any command that serves the OpenAI API, such as `vllm serve`."""

from __future__ import annotations

import sys
from pathlib import Path

from apps.runner.engines.child import Child
from apps.runner.engines.engine import Health
from apps.runner.engines.openai_http import OpenAIEngine
from apps.runner.engines.said import Said

WEIGHTS = "{weights}"  # in the command: where the weights that the portal named lie
END_SECONDS = 15.0  # such a server ends its own processes first


class CommandEngine(OpenAIEngine):
    """Its processes are a group of their own, which ends with it."""

    def __init__(
        self,
        *,
        name: str,
        command: list[str],
        weights: Path | None,
        log: Path,
        url: str,
        key: str,
        dimensions: bool,
        reranks: bool,
    ) -> None:
        super().__init__(url=url, key=key, dimensions=dimensions, reranks=reranks)
        filled = [part.replace(WEIGHTS, str(weights)) for part in command]
        self.child = Child(
            name,
            [sys.executable, "-m", "apps.runner.engines.under", *filled],
            said=Said(log),
            group=True,
            end_seconds=END_SECONDS,
        )

    async def start(self) -> None:
        self.child.start()

    async def stop(self) -> None:
        await super().stop()
        await self.child.stop()

    def children(self) -> list[Child]:
        return [self.child]

    async def health(self) -> Health:
        """Asked only while our own process runs: another's may answer at the same address."""
        if self.child.pid is None:
            return Health(ready=False, reason="the engine is being started again")
        return await super().health()
