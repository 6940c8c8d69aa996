"""Debian's Chromium for the browser tests: found, installed where this user may, or named as missing."""

import shutil

from cango_portal.launcher import debian

NAMES = ("chromium", "chromium-browser", "google-chrome")


def find() -> str | None:
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def main() -> int:
    """0 where the browser tests can run."""
    reason = "" if find() else debian.install("Chromium", "chromium", found=find, purpose="the browser tests")
    if reason:
        print(f"The browser tests (marker browser) are left out: {reason}.", flush=True)
        return 1
    return 0
