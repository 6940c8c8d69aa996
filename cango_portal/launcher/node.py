"""Node and the official OpenAI client for it, for the compatibility tests: found, installed where this user may, or named
as missing. The client is pinned with its hash in `tests/compat/node/package-lock.json`.
"""

import shutil
import subprocess
from pathlib import Path

from cango_portal.launcher import debian
from cango_portal.launcher.place import ROOT

PACKAGE = ROOT / "tests" / "compat" / "node"
OLDEST = 18  # the client's own lower bound, and what Debian 12 has


def find() -> str | None:
    return shutil.which("node") if shutil.which("npm") else None


def version() -> int:
    """Node's major version."""
    told = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout
    return int(told.lstrip("v").partition(".")[0])


def client() -> str:
    """The reason why the pinned client could not be installed, or an empty text."""
    return install(PACKAGE, "OpenAI's client for Node")


def install(package: Path, what: str) -> str:
    """What a folder's lock names, by hash; the reason why that failed, or an empty text. Nothing is done where it stands already."""
    installed = package / "node_modules" / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= (package / "package-lock.json").stat().st_mtime:
        return ""
    done = subprocess.run(
        ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
        cwd=package,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    last = (done.stderr.strip().splitlines() or ["no message"])[-1]
    return f"{what} could not be installed: {last}" if done.returncode else ""


def main() -> int:
    """0 where the tests with OpenAI's client for Node can run."""
    reason = (
        ""
        if find()
        else debian.install("Node", "nodejs", "npm", found=find, purpose="the tests of OpenAI's client for it")
    )
    if not reason and version() < OLDEST:
        reason = f"Node {version()} is here and the client needs {OLDEST}"
    reason = reason or client()
    if reason:
        print(f"OpenAI's client for Node (marker node) was NOT tested: {reason}.", flush=True)
        return 1
    return 0
