"""NVML as it is in the field: symbols that are missing, GPUs that fell off, counters that fall, calls that never return."""

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pynvml
import pytest

from apps.runner import counters, faults, identity, nvml
from apps.runner.counters import GPUCounter, Sampler
from apps.runner.watch import MOST_MISSES, Watch
from tests.runner import fake_nvml
from tests.runner.test_execution import until
from tests.runner.test_resident import gone

ROOT = Path(__file__).parent.parent.parent


class Driver:
    """The fake library's lies, changed at any time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lie()

    def lie(self, **lies: Any) -> None:
        part = self.path.with_suffix(".part")
        part.write_text(json.dumps(lies))
        part.replace(self.path)


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    return Driver(tmp_path / "lies.json")


@pytest.fixture
def read(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """All readings in this process, under these lies."""

    def all_of(**lies: Any) -> dict[str, Any]:
        driver.lie(**lies)
        monkeypatch.setattr(pynvml, "nvmlLib", fake_nvml.Library(str(driver.path)))
        monkeypatch.setattr(pynvml, "_nvmlGetFunctionPointer_cache", {})
        found = nvml.devices()
        xids = nvml.Events(found).take()
        return {uuid: nvml.readings(handle, xids.get(uuid, [])) for uuid, handle in found.items()}

    return all_of


def test_all_that_a_gpu_tells(read: Callable[..., dict[str, Any]]) -> None:
    told = read(xids=[[1, 31]])
    assert list(told) == ["GPU-0", "GPU-1"]
    assert (told["GPU-0"]["xids"], told["GPU-1"]["xids"]) == ([], [31])
    assert told["GPU-0"] == {
        "lost": False,
        "name": "NVIDIA H200",
        "driver": "570.86.15",
        "serial": "165012345",
        "mig": False,
        "energy_mj": 123_456,
        "power_w": 412.5,
        "power_average_w": 400.0,
        "power_scope": "gpu",
        "utilization": 0.97,
        "memory_utilization": 0.0,
        "memory_mib": {"total": 143_771, "used": 1_000, "reserved": 600},
        "temperature_c": 61,
        "clocks_event_reasons": ["sw_power_cap", "hw_thermal"],
        "held_back_seconds": {
            "sw_power_cap": 3.0, "sync_boost": 0.0, "sw_thermal": 0.0, "hw_thermal": 0.5, "hw_power_brake": 0.0,
        },
        "ecc_uncorrected": 0,
        "ecc_corrected": 5,
        "remapped_rows": {"corrected": 1, "uncorrected": 0, "pending": False, "failed": False},
        "recovery_action": "none",
        "processes": [{"pid": 4711, "memory_mib": 900}],
        "xids": [],
    }  # fmt: skip


NEEDED = {"nvmlInitWithFlags", "nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetUUID"}
NAMES = sorted(name for name in vars(fake_nvml.Library) if name.startswith("nvml") and name not in NEEDED)


@pytest.mark.parametrize("how", ["missing", "unsupported"])
def test_what_is_not_told_is_null_and_never_zero(read: Callable[..., dict[str, Any]], how: str) -> None:
    everything = read()["GPU-0"]
    for name in NAMES:
        told = read(**{how: [name]})["GPU-0"]
        changed = {key for key, value in told.items() if value != everything[key]}
        allowed = {"power_average_w": 399.0} if name == "nvmlDeviceGetFieldValues" else {"name": ""}
        assert all(told[key] is None or told[key] == allowed.get(key) for key in changed), (name, changed)
    nothing = read(**{how: NAMES})["GPU-0"]
    assert {key for key, value in nothing.items() if value is not None} == {"lost", "name", "power_scope", "xids"}
    assert faults.fault(nothing, nothing["xids"]) == ""


@pytest.mark.parametrize(
    ("architecture", "name", "power", "average"),
    [
        (9, "NVIDIA H200", None, 399.0),
        (7, "NVIDIA A40", None, 399.0),
        (7, "NVIDIA A100-SXM4-80GB", 399.0, None),
        (5, "Tesla V100", 399.0, None),
    ],
)
def test_one_call_means_two_powers_by_the_generation(
    read: Callable[..., dict[str, Any]], architecture: int, name: str, power: float | None, average: float | None
) -> None:
    told = read(missing=["nvmlDeviceGetFieldValues"], architecture=architecture, name=name)["GPU-0"]
    assert (told["power_w"], told["power_average_w"]) == (power, average)


def test_a_module_says_that_its_cpu_is_in_its_power(read: Callable[..., dict[str, Any]]) -> None:
    told = read(module_only=[1])
    assert [(one["power_w"], one["power_scope"]) for one in told.values()] == [(412.5, "gpu"), (412.5, "module")]


def test_a_gpu_in_parts_has_no_utilization(read: Callable[..., dict[str, Any]]) -> None:
    told = read(mig=[0])
    assert [(one["mig"], one["utilization"]) for one in told.values()] == [(True, None), (False, 0.97)]


def test_a_gpu_that_fell_off_takes_no_other_with_it(read: Callable[..., dict[str, Any]]) -> None:
    told = read(lost=[0])
    assert told["GPU-0"] == {"lost": True, "xids": []}
    assert told["GPU-1"]["energy_mj"] == 7
    assert list(read(nameless=[0])) == ["GPU-1"]
    assert read(gpus=0) == {}


@pytest.mark.parametrize(
    ("lies", "words"),
    [
        ({}, ""),
        ({"lost": [0]}, "does not answer"),
        ({"xids": [[0, 79]]}, "XID 79: the GPU fell off the bus"),
        ({"xids": [[0, 45], [0, 13], [0, 63], [0, 999]]}, ""),
        ({"xids": [[1, 48]]}, ""),
        ({"recovery": 1}, "asks for a reset"),
        ({"recovery": 2}, "asks for a reboot"),
        ({"remap": [1, 0]}, ""),
        ({"remap": [0, 1]}, "replace the GPU"),
        ({"temperature": 97}, "97 °C"),
        ({"ecc": 3}, ""),
    ],
)
def test_the_verdict(read: Callable[..., dict[str, Any]], lies: dict[str, Any], words: str) -> None:
    told = read(**lies)["GPU-0"]
    found = faults.fault(told, told["xids"])
    assert (words in found) if words else found == ""


def test_what_takes_a_gpu_out_whatever_else_it_says() -> None:
    assert {xid for xid in range(1000) if faults.fault({}, [xid])} == {46, 48, 79, 95, 119, 120}
    actions = [*nvml.ACTIONS.values(), None]
    assert [action for action in actions if not faults.fault({"recovery_action": action}, [])] == ["none", None]


# Counters


class Scripted(Sampler):
    def __init__(self, *energy: int) -> None:
        super().__init__(present=True)
        self.energy = list(energy)

    async def read(self) -> dict[str, int] | None:
        return {"GPU-0": self.energy.pop(0)}


async def test_a_counter_that_cannot_be_believed_is_no_reading() -> None:
    """By a little less, or by more than any GPU draws: neither is energy of a job."""
    gigajoule = 10**12
    counter = GPUCounter(Scripted(gigajoule, gigajoule + 100, gigajoule + 50, gigajoule + 60, 9 * gigajoule, 9 * gigajoule + 7), ["GPU-0"])  # fmt: skip
    assert [await counter.read() for _ in range(6)] == [0, 100, None, 110, None, 117]


# The process


@pytest.fixture
async def sampler(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Sampler]:
    monkeypatch.chdir(ROOT)
    made = Sampler([sys.executable, "-m", "tests.runner.fake_nvml", str(driver.path)], present=True)
    yield made
    driver.lie()
    await made.stop()


@pytest.mark.story
async def test_a_call_that_never_returns_costs_its_process_and_nothing_else(
    sampler: Sampler, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert await sampler.read() == {"GPU-0": 123_456, "GPU-1": 7}
    first = sampler.process
    assert first
    driver.lie(hang="nvmlDeviceGetTemperatureV")
    monkeypatch.setattr(counters, "ANSWER_SECONDS", 0.3)
    began = time.monotonic()
    assert await sampler.readings() is None
    assert time.monotonic() - began < 10  # who asks is not kept waiting
    assert first.returncode == -signal.SIGKILL
    monkeypatch.undo()
    monkeypatch.chdir(ROOT)
    assert await sampler.read() == {"GPU-0": 123_456, "GPU-1": 7}  # a new process; only that one call hangs
    driver.lie()
    told, energy = await asyncio.gather(sampler.readings(), sampler.read())
    assert told is not None
    assert energy is not None
    assert told["GPU-1"]["energy_mj"] == energy["GPU-1"] == 7
    assert sampler.misses == 0


@pytest.mark.story
async def test_beside_a_process_that_cannot_be_ended_none_is_started(
    sampler: Sampler, driver: Driver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await sampler.read()
    process = sampler.process
    assert process
    monkeypatch.setattr(counters, "ANSWER_SECONDS", 0.2)
    monkeypatch.setattr(counters, "KILL_SECONDS", 0.05)
    monkeypatch.setattr(process, "kill", lambda: None)  # as in a driver that never returns to user space
    driver.lie(hang="nvmlDeviceGetTotalEnergyConsumption")
    assert await sampler.read() is None
    driver.lie()  # a second process would be answered
    monkeypatch.setattr(counters, "ANSWER_SECONDS", 5)
    assert await sampler.read() is None
    assert (sampler.process, sampler.stuck, sampler.misses) == (None, process, 2)
    os.kill(process.pid, signal.SIGKILL)
    await process.wait()
    assert await sampler.read() == {"GPU-0": 123_456, "GPU-1": 7}


SILENT = ["sh", "-c", "exec sleep 60"]
COUNTED = ["sh", "-c", 'while read -r question; do echo "$question" >> "$0"; echo "{}"; done']


async def test_a_driver_that_never_begins_costs_its_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counters, "START_SECONDS", 0.05)
    silent = Sampler(SILENT, present=True)
    async with asyncio.timeout(10):
        assert await silent.read() is None
    assert (silent.process, silent.stuck, silent.misses) == (None, None, 1)


async def test_readers_at_the_same_time_share_one_answer(tmp_path: Path) -> None:
    asked = tmp_path / "asked"
    sampler = Sampler([*COUNTED, str(asked)], present=True)
    assert await asyncio.gather(*(sampler.read() for _ in range(5))) == [{}] * 5
    assert asked.read_text().split() == ["energy", "energy"]  # the first is the start's
    await sampler.read()
    assert asked.read_text().split() == ["energy"] * 3
    await sampler.stop()


@pytest.mark.story
async def test_no_driver_outlives_its_runner(driver: Driver, tmp_path: Path) -> None:
    """Its standard input does: one that hangs in a call would not see that end."""
    questions = tmp_path / "questions"
    os.mkfifo(questions)
    program = f'{sys.executable} -m tests.runner.fake_nvml "$0" < "$1" & echo $!; wait'
    runner = await asyncio.create_subprocess_exec("sh", "-c", program, str(driver.path), str(questions), stdout=PIPE)
    assert runner.stdout
    with os.fdopen(os.open(questions, os.O_RDWR), "wb") as asking:
        child = int(await runner.stdout.readline())
        asking.write(b"energy\n")
        asking.flush()
        assert json.loads(await runner.stdout.readline()) == {"GPU-0": 123_456, "GPU-1": 7}
        runner.kill()
        await until(lambda: gone(child))


# The watch


class Looked(Sampler):
    """Answers what the test says."""

    def __init__(self, *answers: dict[str, Any] | None) -> None:
        super().__init__(present=True)
        self.answers = list(answers)

    async def readings(self) -> dict[str, dict[str, Any]] | None:
        answer = self.answers.pop(0)
        self.misses = 0 if answer is not None else self.misses + 1
        return answer


WELL = {"GPU-0": {"xids": []}, "GPU-1": {"xids": []}}


async def looked(*answers: dict[str, Any] | None) -> tuple[Watch, int]:
    changes = 0

    def changed() -> None:
        nonlocal changes
        changes += 1

    watch = Watch(Looked(*answers), changed=changed)
    watch.known = {"GPU-0", "GPU-1"}
    for _ in answers:
        await watch.look()
    return watch, changes


async def test_one_faulty_gpu_takes_its_pool_out_and_no_other() -> None:
    watch, changes = await looked(WELL, {**WELL, "GPU-0": {"xids": [79]}}, WELL)
    assert watch.refusal(["GPU-0"]) == "GPU-0: XID 79: the GPU fell off the bus"  # told once, and it holds
    assert watch.refusal(["GPU-1"]) == watch.refusal([]) == ""
    assert changes == 1
    gone, _ = await looked({"GPU-1": {"xids": []}})
    assert gone.refusal(["GPU-0", "GPU-1"]) == "GPU-0: the GPU does not answer any more"


async def test_what_was_only_hot_works_again() -> None:
    watch, changes = await looked({**WELL, "GPU-0": {"temperature_c": 99}}, WELL)
    assert (watch.refusal(["GPU-0"]), changes) == ("", 2)


async def test_a_driver_that_hangs_three_times_is_not_trusted() -> None:
    watch, changes = await looked(WELL, *[None] * (MOST_MISSES - 1))
    assert (watch.refusal(["GPU-1"]), changes) == ("", 0)
    watch, changes = await looked(WELL, *[None] * MOST_MISSES)
    assert watch.refusal(["GPU-1"]) == "NVML does not answer"
    assert watch.refusal([]) == ""  # a pool on the CPU goes on
    watch, changes = await looked(*[None] * MOST_MISSES, WELL)
    assert (watch.refusal(["GPU-1"]), changes) == ("", 2)


@pytest.mark.parametrize(("misses", "named"), [(2, ["GPU-0", "GPU-1"]), (3, None)])
async def test_a_machine_is_asked_three_times_what_it_is(driver: Driver, misses: int, named: list[str] | None) -> None:
    asked = driver.path.with_name("asked")
    fake = (sys.executable, "-m", "tests.runner.fake_nvml", str(driver.path))
    stumbling = f'echo >> "$0"; test $(wc -l < "$0") -le {misses} || exec "$@"'
    sampler = Sampler(["sh", "-c", stumbling, str(asked), *fake], present=True)
    if named is None:
        with pytest.raises(identity.NotEnrolled, match="NVML is here and does not answer"):
            await identity.taken(sampler)
    else:
        assert [gpu.uuid for gpu in (await identity.taken(sampler)).gpus] == named
    assert asked.read_text().count("\n") == 3
    assert sampler.process is None
