"""What builds images on this machine. `python -m tests.runner.builder` is 0 where one runs, else it says why none is used."""

import shutil
import subprocess
import sys

BUILDERS = ("podman", "docker")  # each builds and runs an image by the same words
NONE = "no podman or docker runs here: its steps were run in a clean environment"


def find() -> str | None:
    """The one that builds; a client without its daemon is none."""
    for name in BUILDERS:
        if (
            shutil.which(name)
            and subprocess.run([name, "info"], capture_output=True, timeout=20, check=False).returncode == 0
        ):
            return name
    return None


if __name__ == "__main__":
    if find() is None:
        print(f"The runner's image (marker builder) was NOT built: {NONE}.", flush=True)
        sys.exit(1)
