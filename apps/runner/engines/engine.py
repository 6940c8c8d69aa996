"""The small interface every engine has."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Protocol

from apps.runner.engines.child import Child
from apps.runner.protocol import Failure, Kind, Usage

Choices = list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Work:
    """One request, with everything it needs at hand."""

    kind: Kind
    model: str
    body: dict[str, Any]
    max_completion_tokens: int = 0  # 0: no ceiling but the model's own
    file: bytes = b""
    file_type: str = ""  # media type, as the portal found it


@dataclass(frozen=True, slots=True)
class Piece:
    """What an engine had to say since its last piece. `usage` is cumulative; None: as before."""

    choices: Choices | None = None
    usage: Usage | None = None
    done: int | None = None
    total: int | None = None
    result: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class Health:
    ready: bool
    reason: str = ""


class EngineFailed(Exception):
    """The engine did not do it. `failure` is what the customer gets."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


class Computes(Protocol):
    """All that an execution knows of an engine."""

    def run(self, work: Work) -> AsyncGenerator[Piece, None]:
        """Do the work. Closing the generator ends it at once. Raises EngineFailed."""


class Engine(Computes, Protocol):
    async def start(self) -> None:
        """Begin to become ready; returns at once. `health` says when it is."""

    async def stop(self) -> None:
        """End what `start` began and leave no process."""

    async def health(self) -> Health: ...

    def processes(self) -> list[int]:
        """The processes that compute, where they are children of ours: energy is modelled from their CPU time."""

    def children(self) -> list[Child]:
        """What is supervised here; none where the engine is somebody else's process."""


def unavailable(message: str = "The engine is not answering. The request may be sent again.") -> EngineFailed:
    return EngineFailed(Failure(code="engine_unavailable", message=message, status=503, retryable=True))


def refused(code: str, message: str, *, param: str | None = None, status: int = 400) -> EngineFailed:
    return EngineFailed(Failure(code=code, message=message, status=status, param=param))
