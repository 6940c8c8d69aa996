"""What a running runner says of itself to its own machine: a small file in the spool, written anew each second."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ValidationError

from apps.runner.config import Configuration
from apps.runner.protocol import PoolHealth

FILE = "status"  # in the spool; reports there end in .json
STALE_SECONDS = 10.0  # a runner that has not written for so long hangs


class PoolStatus(PoolHealth):
    kind: str
    engine: str
    model: str
    slots: int


class GPUStatus(BaseModel):
    """What a GPU does not tell is null. `fault` is why it takes no work."""

    uuid: str
    name: str | None = None
    power_w: float | None = None
    temperature_c: float | None = None
    fault: str = ""


class Status(BaseModel):
    """Times are Unix seconds by this machine's clock."""

    pid: int
    claimant: str
    started_at: float
    at: float
    stopping: bool
    portal_at: float | None  # when it answered a heartbeat last
    attempts: int  # that run now
    reports: int  # that the portal has not taken yet
    pools: list[PoolStatus]
    gpus: list[GPUStatus]


def write(spool: Path, status: Status) -> None:
    """Whole or not at all, for its owner. Not for good: it tells of a process, and ends with the machine."""
    part = spool / f".{FILE}.part"
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(status.model_dump_json())
    part.replace(spool / FILE)


def remove(spool: Path) -> None:
    (spool / FILE).unlink(missing_ok=True)


def read(spool: Path) -> Status | None:
    """None where no runner works with this spool, or one that was killed did. Raises PermissionError for another user's."""
    try:
        status = Status.model_validate_json((spool / FILE).read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
    return status if alive(status.pid) else None


def alive(pid: int) -> bool:
    with contextlib.suppress(PermissionError):  # it is there, and another user's
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


State = Literal["running", "stopping", "hangs", "not running"]


def show(configuration: Configuration, *, as_json: bool, put: Callable[[str], object] = print) -> int:
    """Print what runs. 0 where a runner runs, hears from the portal, and some pool of it is ready; else 1."""
    spool = configuration.spool
    try:
        status = read(spool)
    except PermissionError:
        put(f"{spool / FILE} is another user's. Ask as the user that runs the runner, or as root.")
        return 2
    now = time.time()
    state = state_of(status, now)
    good = state == "running" and status is not None and heard(status, now) and any(p.ready for p in status.pools)
    if as_json:
        put(Shown(state=state, good=good, status=status).model_dump_json(indent=2))
    else:
        for line in lines(configuration, status, state, now):
            put(line)
    return 0 if good else 1


class Shown(BaseModel):
    state: State
    good: bool
    status: Status | None


def state_of(status: Status | None, now: float) -> State:
    if status is None:
        return "not running"
    if now - status.at > STALE_SECONDS:
        return "hangs"
    return "stopping" if status.stopping else "running"


def heard(status: Status, now: float) -> bool:
    return status.portal_at is not None and now - status.portal_at <= STALE_SECONDS


def lines(configuration: Configuration, status: Status | None, state: State, now: float) -> list[str]:
    if status is None:
        return [f"runner    not running with the spool {configuration.spool}. Start it: cango-runner run"]
    told = [
        f"runner    {state}, process {status.pid}, for {ago(now - status.started_at)}"
        + (f"; it last wrote {ago(now - status.at)} ago" if state == "hangs" else ""),
        f"portal    {configuration.portal_url} "
        + (f"answered {ago(now - status.portal_at)} ago" if status.portal_at else "has not answered yet"),
        f"work      {status.attempts} running; {status.reports} reports wait for the portal in {configuration.spool}",
    ]
    for pool in status.pools:
        ready = "ready" if pool.ready else "not ready"
        if pool.state not in {None, "ready"}:
            ready += f" ({pool.state})"
        why = f": {pool.reason}" if pool.reason else ""
        told.append(
            f"pool      {pool.pool}: {ready}, {pool.running} of {pool.slots} slots busy; {pool.engine} {pool.kind} {pool.model}{why}"
        )
    for gpu in status.gpus:
        said = [shown(gpu.name, ""), shown(gpu.power_w, " W"), shown(gpu.temperature_c, " °C"), gpu.fault or "well"]
        told.append(f"GPU       {gpu.uuid}: {', '.join(said)}")
    return told if status.gpus else [*told, "GPU       none here, or none that tells"]


def shown(value: Any, unit: str) -> str:
    return "unknown" if value is None else f"{value:.0f}{unit}" if isinstance(value, float) else f"{value}{unit}"


def ago(seconds: float) -> str:
    """`3 s`, `5 min`, `2 days`."""
    seconds = max(seconds, 0)
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds:.0f} s"
