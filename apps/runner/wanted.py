"""What the portal wants to run on this node, kept in the spool for a start without the portal."""

from __future__ import annotations

import contextlib
from pathlib import Path

from pydantic import ValidationError

from apps.runner.protocol import Wanted

FILE = "wanted"  # in the spool; reports there end in .json
NOTHING = Wanted(version="", pools=[])  # each pool is to be ready, as the file names it


def load(spool: Path) -> Wanted:
    try:
        return Wanted.model_validate_json((spool / FILE).read_bytes())
    except (OSError, ValidationError):
        return NOTHING


def keep(spool: Path, wanted: Wanted) -> None:
    """A disk that is full costs the memory and nothing else: the portal says it again."""
    part = spool / f".{FILE}.part"
    with contextlib.suppress(OSError):
        part.write_text(wanted.model_dump_json())
        part.replace(spool / FILE)
