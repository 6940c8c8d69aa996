"""Stands in for libnvidia-ml at the edge where pynvml loads it, and lies on request.

`python -m tests.runner.fake_nvml <file>` is the sampler's process with this library. The file holds the lies as JSON, read
anew at each call: `gpus` how many there are, `missing` names the library does not have, `lost` GPUs that fell off the bus,
`hang` a name that never returns, `energy` each GPU's counter, `unsupported` names, `xids` to be told once as [gpu, xid],
`module_only` GPUs that know their power only as a module, and values such as `temperature`. With `uuids` GPUs have names of
their own; with `wave` (`since`, `base_w`, `swing_w`, `period_s`, each GPU a little later than the one before) their power
swings and the counter is its exact integral.
"""

import ctypes
import json
import math
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

NOT_SUPPORTED, NOT_FOUND, TIMEOUT, GPU_IS_LOST = 3, 6, 10, 15
BASE = 0x1000  # a handle is an address; nobody looks behind it
MIB = 1024 * 1024
ALWAYS = {"nvmlDeviceGetCount_v2", "nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetUUID"}
FIELDS = {186: 412_500, 185: 400_000, 74: 3_000_000_000, 76: 0, 269: 0, 270: 500_000_000, 271: 0}


class Library:
    def __init__(self, path: str) -> None:
        self.path = Path(path)
        self.told = 0  # XID events

    @property
    def lies(self) -> dict[str, Any]:
        lies: dict[str, Any] = json.loads(self.path.read_text())
        return lies

    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("nvml"):
            return object.__getattribute__(self, name)
        if name in self.lies.get("missing", ()):
            raise AttributeError(name)
        function = object.__getattribute__(self, name)

        def call(*given: Any) -> int:
            lies = self.lies
            while name == lies.get("hang"):
                time.sleep(60)
            if name in lies.get("unsupported", ()):
                return NOT_SUPPORTED
            of_a_gpu = name.startswith("nvmlDeviceGet") and name not in ALWAYS
            if of_a_gpu and index_of(given[0]) in lies.get("lost", ()):
                return GPU_IS_LOST
            result: int = function(lies, *given) or 0
            return result

        return call

    def nvmlInitWithFlags(self, lies: Any, flags: Any) -> None: ...

    def nvmlDeviceGetCount_v2(self, lies: Any, count: Any) -> None:
        count._obj.value = lies.get("gpus", 2)

    def nvmlDeviceGetHandleByIndex_v2(self, lies: Any, index: Any, handle: Any) -> None:
        point(handle._obj, index.value)

    def nvmlDeviceGetUUID(self, lies: Any, handle: Any, buffer: Any, size: Any) -> int:
        if index_of(handle) in lies.get("nameless", ()):
            return GPU_IS_LOST
        uuids = lies.get("uuids") or [f"GPU-{n}" for n in range(lies.get("gpus", 2))]
        buffer.value = uuids[index_of(handle)].encode()
        return 0

    def nvmlDeviceGetName(self, lies: Any, handle: Any, buffer: Any, size: Any) -> None:
        buffer.value = lies.get("name", "NVIDIA H200").encode()

    def nvmlSystemGetDriverVersion(self, lies: Any, buffer: Any, size: Any) -> None:
        buffer.value = b"570.86.15"

    def nvmlDeviceGetSerial(self, lies: Any, handle: Any, buffer: Any, size: Any) -> None:
        buffer.value = b"165012345"

    def nvmlDeviceGetArchitecture(self, lies: Any, handle: Any, architecture: Any) -> None:
        architecture._obj.value = lies.get("architecture", 9)

    def nvmlDeviceGetTotalEnergyConsumption(self, lies: Any, handle: Any, energy: Any) -> None:
        if "wave" in lies:
            energy._obj.value = Wave(**lies["wave"]).millijoules(index_of(handle))
        else:
            energy._obj.value = lies.get("energy", [123_456, 7])[index_of(handle)]

    def nvmlDeviceGetPowerUsage(self, lies: Any, handle: Any, milliwatts: Any) -> None:
        milliwatts._obj.value = 399_000

    def nvmlDeviceGetFieldValues(self, lies: Any, handle: Any, count: Any, values: Any) -> None:
        known = {**FIELDS, 230: lies.get("recovery", 0)}
        if "wave" in lies:
            known[186] = known[185] = Wave(**lies["wave"]).milliwatts(index_of(handle))
        for value in values._obj:
            wrong_scope = index_of(handle) in lies.get("module_only", ()) and value.scopeId == 0 and value.fieldId < 200
            if value.fieldId not in known or value.fieldId in lies.get("unknown_fields", ()) or wrong_scope:
                value.nvmlReturn = NOT_SUPPORTED
            else:
                value.nvmlReturn, value.valueType = 0, 1 if value.fieldId in (185, 186, 230) else 3
                value.value.ullVal = known[value.fieldId]

    def nvmlDeviceGetMemoryInfo_v2(self, lies: Any, handle: Any, memory: Any) -> None:
        memory._obj.total, memory._obj.used, memory._obj.reserved = 143_771 * MIB, 1_000 * MIB, 600 * MIB

    def nvmlDeviceGetUtilizationRates(self, lies: Any, handle: Any, use: Any) -> None:
        use._obj.gpu, use._obj.memory = 97, 0

    def nvmlDeviceGetTemperatureV(self, lies: Any, handle: Any, temperature: Any) -> None:
        temperature._obj.temperature = lies.get("temperature", 61)

    def nvmlDeviceGetCurrentClocksEventReasons(self, lies: Any, handle: Any, reasons: Any) -> None:
        reasons._obj.value = 0x4 | 0x40

    def nvmlDeviceGetTotalEccErrors(self, lies: Any, handle: Any, kind: Any, counter: Any, count: Any) -> None:
        count._obj.value = lies.get("ecc", 0) if kind.value == 1 else 5

    def nvmlDeviceGetRemappedRows(
        self, lies: Any, handle: Any, corrected: Any, uncorrected: Any, pending: Any, failed: Any
    ) -> None:
        corrected._obj.value, uncorrected._obj.value = 1, 0
        pending._obj.value, failed._obj.value = lies.get("remap", (0, 0))

    def nvmlDeviceGetMigMode(self, lies: Any, handle: Any, current: Any, pending: Any) -> None:
        current._obj.value = int(index_of(handle) in lies.get("mig", ()))

    def nvmlDeviceGetComputeRunningProcesses_v3(self, lies: Any, handle: Any, count: Any, processes: Any) -> int:
        if processes is None:
            count._obj.value = 1
            return 7  # NVML_ERROR_INSUFFICIENT_SIZE
        count._obj.value = 1
        processes[0].pid, processes[0].usedGpuMemory = 4711, 900 * MIB
        return 0

    def nvmlEventSetCreate(self, lies: Any, events: Any) -> None:
        ctypes.c_void_p.from_buffer(events._obj).value = BASE

    def nvmlDeviceRegisterEvents(self, lies: Any, handle: Any, kinds: Any, events: Any) -> None: ...

    def nvmlEventSetWait_v2(self, lies: Any, events: Any, data: Any, milliseconds: Any) -> int:
        xids = lies.get("xids", [])
        if self.told >= len(xids):
            return TIMEOUT
        gpu, xid = xids[self.told]
        self.told += 1
        data._obj.device = handle_of(gpu, type(data._obj.device))
        data._obj.eventType, data._obj.eventData = 0x8, xid
        return 0


@dataclass(frozen=True, slots=True)
class Wave:
    """Power that swings around `base_w`, and its integral since `since` (Unix seconds)."""

    since: float
    base_w: float
    swing_w: float
    period_s: float

    def angle(self, index: int) -> float:
        return 2 * math.pi * (time.time() - self.since) / self.period_s + index

    def milliwatts(self, index: int) -> int:
        return round(1000 * (self.base_w + self.swing_w * math.sin(self.angle(index))))

    def millijoules(self, index: int) -> int:
        swung = self.swing_w * self.period_s / (2 * math.pi) * (math.cos(index) - math.cos(self.angle(index)))
        return round(1000 * (self.base_w * (time.time() - self.since) + swung))


def index_of(handle: Any) -> int:
    return (ctypes.cast(handle, ctypes.c_void_p).value or 0) - BASE


def point(handle: Any, index: int) -> None:
    ctypes.c_void_p.from_buffer(handle).value = BASE + index


def handle_of(index: int, kind: Any) -> Any:
    handle = kind()
    point(handle, index)
    return handle


if __name__ == "__main__":
    import pynvml

    from apps.runner import nvml

    pynvml.nvmlLib = Library(sys.argv[1])
    nvml.main()
