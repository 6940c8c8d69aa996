"""May a GPU go on? What its readings say, as data and a verdict in words. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

Act = Literal["out", "later", "engine", "none"]

# What an XID means for us (NVIDIA's XID catalog and its page on health validation; 46 and 48 are critical there, the rest
# is our reading of it). `out`: the GPU takes no work until it was reset or replaced; `later`: to be reset at the next
# maintenance; `engine`: a program's own fault, its engine is started again where it died; `none`: noise.
XIDS: Mapping[int, tuple[Act, str]] = {
    13: ("engine", "a program read or wrote out of bounds"),
    31: ("engine", "a program's memory access faulted"),
    43: ("engine", "a program's channel was reset"),
    45: ("none", "a program was preempted or ended"),
    46: ("out", "the GPU stopped processing"),
    48: ("out", "double-bit memory error"),
    63: ("later", "a memory row was remapped"),
    64: ("later", "a memory row could not be remapped yet"),
    79: ("out", "the GPU fell off the bus"),
    94: ("engine", "a contained memory error"),
    95: ("out", "an uncontained memory error"),
    119: ("out", "the GPU's own processor (GSP) does not answer"),
    120: ("out", "the GPU's own processor (GSP) failed"),
}
# A recovery action of the driver; XID 154 says that it changed.
RECOVERIES = {
    "gpu_reset": "the driver asks for a reset of the GPU",
    "node_reboot": "the driver asks for a reboot of the node",
    "drain_p2p": "the driver asks to drain its peers",
    "drain_and_reset": "the driver asks to drain and reset the GPU",
}
TOO_HOT_C = 95.0  # beyond any data-centre GPU's own limit: what says so is broken or about to be


def fault(reading: Mapping[str, Any], xids: Iterable[int]) -> str:
    """Why a GPU takes no work, by what it says now and the XIDs since it was last well; empty where it may.

    What a reading does not tell is no fault: an old driver is not a broken GPU.
    """
    if reading.get("lost"):
        return "the GPU does not answer any more"
    for xid in xids:
        act, words = XIDS.get(xid, ("none", ""))
        if act == "out":
            return f"XID {xid}: {words}"
    if asked := RECOVERIES.get(reading.get("recovery_action") or ""):
        return asked
    if (reading.get("remapped_rows") or {}).get("failed"):
        return "a memory row could not be remapped: replace the GPU"
    temperature = reading.get("temperature_c")
    if temperature is not None and temperature >= TOO_HOT_C:
        return f"{temperature} °C"
    return ""
