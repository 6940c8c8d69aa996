"""NVML in a process that may be killed: each line read is answered by one line `{"<uuid>": millijoules or null}`.

Empty without a GPU or its driver. Call: nvmlDeviceGetTotalEnergyConsumption, Volta and newer.
"""

from __future__ import annotations

import json
import sys

from apps.runner.engines.parent import die_with_parent


def devices() -> dict[str, object]:
    """The handles of this machine's GPUs by UUID; empty where there is no library, no driver or no GPU."""
    import pynvml

    try:
        pynvml.nvmlInit()
        found = {}
        for number in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(number)
            uuid = pynvml.nvmlDeviceGetUUID(handle)
            found[uuid.decode() if isinstance(uuid, bytes) else uuid] = handle
    except pynvml.NVMLError:
        return {}
    return found


def energy_mj(handle: object) -> int | None:
    import pynvml

    try:
        return int(pynvml.nvmlDeviceGetTotalEnergyConsumption(handle))
    except pynvml.NVMLError:
        return None


def main() -> None:
    die_with_parent()
    found = devices()
    for _ in sys.stdin:
        print(json.dumps({uuid: energy_mj(handle) for uuid, handle in found.items()}), flush=True)


if __name__ == "__main__":
    main()
