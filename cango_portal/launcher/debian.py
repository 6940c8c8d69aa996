"""Programs of Debian's that only tests need: installed where this user may, or named as missing."""

import os
import shutil
import subprocess
from collections.abc import Callable


def install(name: str, *packages: str, found: Callable[[], object], purpose: str) -> str:
    """Try Debian's `packages`; the reason why `found()` still finds nothing, or an empty text."""
    wanted = " ".join(packages)
    if not shutil.which("apt-get"):
        return f"{name} is not installed, and there is no apt-get here to install it"
    if os.geteuid() != 0:
        return f"{name} is not installed, and only root may install it (apt-get install {wanted})"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    print(f"Installing Debian's {name} for {purpose} …", flush=True)
    for command in (["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", *packages]):
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    if done.returncode or not found():
        return f"{name} could not be installed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
    return ""
