"""Directories of portals that tests start, and their complete removal."""

import shutil
from pathlib import Path

from cango_portal.launcher.servers import elsewhere


def remove(directory: Path) -> None:
    """The directory, and where root's PostgreSQL went when it could not stay in it."""
    shutil.rmtree(elsewhere(directory), ignore_errors=True)
    shutil.rmtree(directory, ignore_errors=True)
