"""What a child process does first: die with its parent, however that ends."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

PR_SET_PDEATHSIG = 1  # prctl(2), Linux


def die_with_parent() -> None:
    """Linux tells the child by a signal; everywhere the end of the inherited pipe on standard input does too.

    The parent must leave that pipe open and, where the child reads requests from it, the child must end at its end.
    """
    parent = os.getppid()
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent or parent == 1:
            os._exit(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the runner ends its children itself


def watch_input() -> None:
    """For a child that reads nothing: end when the parent's end of standard input is gone."""

    def wait() -> None:
        while os.read(0, 4096):
            pass
        os._exit(0)

    threading.Thread(target=wait, name="parent", daemon=True).start()
