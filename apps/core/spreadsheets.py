"""Tables for spreadsheets: CSV that opens as UTF-8 and runs nothing."""

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Any

BYTE_ORDER_MARK = "\ufeff"  # spreadsheets read UTF-8 as such only behind it


def harmless(value: Any) -> Any:
    """A spreadsheet would run a text that begins like a formula. Numbers may be negative.

    >>> harmless("=1+1"), harmless(-1)
    ("'=1+1", -1)
    """
    return f"'{value}" if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def lines(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([harmless(value) for value in row] for row in rows)
    return text.getvalue()
