"""The one read the runners' door needs."""

from uuid import UUID

from apps.core.sql import Plan, Row, Statement


def stored(file_id: UUID) -> Plan[Row | None]:
    """Where a file's bytes are and how many: `path`, `size_bytes`."""
    rows = yield Statement("SELECT path, size_bytes FROM files_file WHERE id = %(id)s", {"id": file_id})
    return rows[0] if rows else None
