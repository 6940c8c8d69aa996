"""NVML in a process that may be killed: each line read is a question, answered by one line of JSON, GPUs by UUID.

`energy`, or an empty line: `{"<uuid>": millijoules or null}`. `readings`: `{"<uuid>": {…}}`, see `readings`. Empty without a
GPU or its driver. What a GPU, a driver or a library of some age does not tell is null, never zero.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from apps.runner.engines.parent import die_with_parent

T = TypeVar("T")

GPU_SCOPE, MODULE_SCOPE = 0, 1  # NVML_POWER_SCOPE_…; a Grace-Hopper module knows only its own
INSTANT, AVERAGE, RECOVERY = 186, 185, 230  # NVML_FI_DEV_POWER_INSTANT, …_POWER_AVERAGE, …_GET_GPU_RECOVERY_ACTION
# Cumulative nanoseconds for which clocks were held back: NVML_FI_DEV_CLOCKS_EVENT_REASON_…
HELD_BACK = {"sw_power_cap": 74, "sync_boost": 76, "sw_thermal": 269, "hw_thermal": 270, "hw_power_brake": 271}
# nvmlClocksEventReason…
REASONS = {
    0x1: "idle", 0x2: "app_clocks", 0x4: "sw_power_cap", 0x8: "hw_slowdown", 0x10: "sync_boost", 0x20: "sw_thermal",
    0x40: "hw_thermal", 0x80: "hw_power_brake", 0x100: "display",
}  # fmt: skip
ACTIONS = {0: "none", 1: "gpu_reset", 2: "node_reboot", 3: "drain_p2p", 4: "drain_and_reset"}
VALUES = ("dVal", "uiVal", "ulVal", "ullVal", "sllVal", "siVal", "usVal")  # by nvmlValueType_t
XID_EVENT, EVENTS_AT_ONCE = 0x8, 256
MIB = 1024 * 1024
AMPERE = 7
GA100 = ("A100", "A800", "A30")  # the one Ampere chip whose nvmlDeviceGetPowerUsage is of the moment


def devices() -> dict[str, object]:
    """The handles of this machine's GPUs by UUID; empty where there is no library, no driver or no GPU.

    A GPU that does not say its UUID is left out: it fell off the bus, and nothing could be counted for it.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
    except pynvml.NVMLError:
        return {}
    found = {}
    for number in range(count):
        with suppress(pynvml.NVMLError):
            handle = pynvml.nvmlDeviceGetHandleByIndex(number)
            found[text(pynvml.nvmlDeviceGetUUID(handle))] = handle
    return found


def text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def told(call: Callable[[], T]) -> T | None:
    """What a call says, None where it says nothing: not supported, not in this library, or the GPU is gone."""
    import pynvml

    try:
        return call()
    except (pynvml.NVMLError, pynvml.NVMLLibraryMismatchError):  # the second where a versioned function is missing
        return None


def energy_mj(handle: object) -> int | None:
    """nvmlDeviceGetTotalEnergyConsumption, mJ since the driver was loaded; Volta and newer."""
    import pynvml

    return told(lambda: int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)))


def fields(handle: object, *wanted: tuple[int, int]) -> dict[int, float | int]:
    """Values of (field, scope) by field, in one call of the driver. Those it does not have are left out."""
    import pynvml

    values = told(lambda: pynvml.nvmlDeviceGetFieldValues(handle, list(wanted))) or ()
    return {
        value.fieldId: getattr(value.value, VALUES[value.valueType])
        for value in values
        if value.nvmlReturn == 0 and value.valueType < len(VALUES)
    }


def power(handle: object, *, name: str) -> dict[str, Any]:
    """Watts of the moment and over the last second, and whether a CPU on the same module is in them.

    nvmlDeviceGetPowerUsage means one or the other by the GPU's generation, so it fills only the gap that it fits.
    """
    import pynvml

    scope = GPU_SCOPE
    found = fields(handle, (INSTANT, scope), (AVERAGE, scope))
    if not found:
        found = fields(handle, (INSTANT, MODULE_SCOPE), (AVERAGE, MODULE_SCOPE))
        scope = MODULE_SCOPE if found else GPU_SCOPE
    if len(found) < 2 and (usage := told(lambda: pynvml.nvmlDeviceGetPowerUsage(handle))) is not None:
        architecture = told(lambda: pynvml.nvmlDeviceGetArchitecture(handle)) or 0
        is_average = architecture >= AMPERE and not any(chip in name for chip in GA100)
        found.setdefault(AVERAGE if is_average else INSTANT, usage)
    watts = {field: milliwatts / 1000 for field, milliwatts in found.items()}
    return {
        "power_w": watts.get(INSTANT),
        "power_average_w": watts.get(AVERAGE),
        "power_scope": "module" if scope == MODULE_SCOPE else "gpu",
    }


def readings(handle: object, xids: list[int]) -> dict[str, Any]:
    """All that is known of one GPU now. `xids` happened since the last time. `lost`: it does not answer at all."""
    import pynvml

    n = pynvml
    try:
        name = text(n.nvmlDeviceGetName(handle))
    except n.NVMLError as error:
        if error.value == n.NVML_ERROR_GPU_IS_LOST:
            return {"lost": True, "xids": xids}
        name = ""
    mig = told(lambda: n.nvmlDeviceGetMigMode(handle)[0] == 1)
    memory = told(lambda: n.nvmlDeviceGetMemoryInfo(handle, version=n.nvmlMemory_v2))
    use = None if mig else told(lambda: n.nvmlDeviceGetUtilizationRates(handle))  # not told of a GPU in parts
    bits = told(lambda: n.nvmlDeviceGetCurrentClocksEventReasons(handle))
    rows = told(lambda: n.nvmlDeviceGetRemappedRows(handle))
    running = told(lambda: n.nvmlDeviceGetComputeRunningProcesses(handle))
    held = fields(handle, *((field, 0) for field in HELD_BACK.values()))
    action = fields(handle, (RECOVERY, 0)).get(RECOVERY)
    return {
        "lost": False,
        "name": name,
        "driver": told(lambda: text(n.nvmlSystemGetDriverVersion())),
        "serial": told(lambda: text(n.nvmlDeviceGetSerial(handle))),
        "mig": mig,
        "energy_mj": energy_mj(handle),
        **power(handle, name=name),
        "utilization": use and use.gpu / 100,
        "memory_utilization": use and use.memory / 100,
        "memory_mib": memory and {part: getattr(memory, part) // MIB for part in ("total", "used", "reserved")},
        "temperature_c": told(lambda: n.nvmlDeviceGetTemperatureV(handle, n.NVML_TEMPERATURE_GPU)),
        "clocks_event_reasons": None if bits is None else [said for bit, said in REASONS.items() if bits & bit],
        "held_back_seconds": {said: held[field] / 1e9 for said, field in HELD_BACK.items() if field in held} or None,
        "ecc_uncorrected": told(
            lambda: int(n.nvmlDeviceGetTotalEccErrors(handle, 1, 0))
        ),  # since the driver was loaded
        "ecc_corrected": told(lambda: int(n.nvmlDeviceGetTotalEccErrors(handle, 0, 0))),
        "remapped_rows": rows
        and {"corrected": rows[0], "uncorrected": rows[1], "pending": bool(rows[2]), "failed": bool(rows[3])},
        "recovery_action": None if action is None else ACTIONS.get(int(action), f"action_{int(action)}"),
        "processes": None
        if running is None
        else [{"pid": one.pid, "memory_mib": one.usedGpuMemory and one.usedGpuMemory // MIB} for one in running],
        "xids": xids,
    }


class Events:
    """XID events of all GPUs since the process began; nothing earlier is ever told. Where there are none to hear: none."""

    def __init__(self, found: dict[str, object]) -> None:
        import pynvml

        self.set = told(pynvml.nvmlEventSetCreate)
        if self.set is not None:
            for handle in found.values():
                told(lambda handle=handle: pynvml.nvmlDeviceRegisterEvents(handle, XID_EVENT, self.set))  # type: ignore[misc]

    def take(self) -> dict[str, list[int]]:
        """By UUID, those since the last call."""
        import pynvml

        taken: dict[str, list[int]] = {}
        for _ in range(EVENTS_AT_ONCE if self.set is not None else 0):
            event = told(lambda: pynvml.nvmlEventSetWait_v2(self.set, 0))
            if event is None:  # none is left
                break
            uuid = told(lambda event=event: text(pynvml.nvmlDeviceGetUUID(event.device)))  # type: ignore[misc]
            if uuid is not None and event.eventType & XID_EVENT:
                taken.setdefault(uuid, []).append(int(event.eventData))
        return taken


def main() -> None:
    die_with_parent()
    found = devices()
    events = Events(found) if found else None
    for line in sys.stdin:
        if line.strip() == "readings":
            xids = events.take() if events else {}
            answer: dict[str, Any] = {uuid: readings(handle, xids.get(uuid, [])) for uuid, handle in found.items()}
        else:
            answer = {uuid: energy_mj(handle) for uuid, handle in found.items()}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
