"""Debian's Chromium for the browser tests: found, installed where this user may, or named as missing."""

import os
import shutil
import subprocess

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def install() -> str:
    """Try Debian's package; the reason why there is none, or an empty text."""
    if not shutil.which("apt-get"):
        return "Chromium is not installed, and there is no apt-get here to install it"
    if os.geteuid() != 0:
        return "Chromium is not installed, and only root may install it (apt-get install chromium)"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    print("Installing Debian's Chromium for the browser tests …", flush=True)
    for command in (["apt-get", "update"], ["apt-get", "install", "--yes", "--no-install-recommends", "chromium"]):
        done = subprocess.run(
            command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    if done.returncode or find() is None:
        return f"Chromium could not be installed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}"
    return ""


def main() -> int:
    """0 where the browser tests can run."""
    reason = "" if find() else install()
    if reason:
        print(f"The browser tests (marker browser) are left out: {reason}.", flush=True)
        return 1
    return 0
