"""Files as plans: what pages, doors and batches read and write.

A file goes through three steps, each a commit of its own: its row (`admit`), its bytes, its place in the list (`keep`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar
from uuid import UUID

from apps.core.errors import NotFound, PortalError
from apps.core.ids import public
from apps.core.sql import Plan, Row, Statement

FIELDS = (
    "id, organization_id, purpose, status, name, content_type, size_bytes, sha256, pages, path, created_at, expires_at"
)
# What customers may see: a job's own input is not in the list.
THERE = "purpose <> 'input' AND status = 'processed' AND (expires_at IS NULL OR expires_at > clock_timestamp())"
INCOMING_SECONDS = 3600  # a file whose bytes are not stored by then is swept away

# Serializes an organization's new files, so that two of them never pass its limit together; keys of foreign rows, which
# take FOR KEY SHARE, do not wait for it.
LOCK_ORGANIZATION = """
SELECT closed_at IS NOT NULL AS closed FROM accounts_organization WHERE id = %(organization)s FOR NO KEY UPDATE
"""
USED = """
SELECT COALESCE(sum(size_bytes), 0)::bigint AS bytes FROM files_file
WHERE organization_id = %(organization)s AND status <> 'deleted'
"""
ADMIT = f"""
INSERT INTO files_file (id, organization_id, purpose, status, name, content_type, size_bytes, sha256, path, created_at, expires_at)
VALUES (%(id)s, %(organization)s, %(purpose)s, 'incoming', %(name)s, %(content_type)s, %(size)s, %(sha256)s, %(path)s,
        clock_timestamp(), clock_timestamp() + make_interval(secs => {INCOMING_SECONDS}))
"""  # noqa: S608 - constants go in
# The deletion of an organization, which lets its files expire at once, is waited for: what arrives after it is not kept.
KEEP = f"""
WITH open AS (
    SELECT o.id FROM accounts_organization o JOIN files_file f ON f.organization_id = o.id
    WHERE f.id = %(id)s AND o.closed_at IS NULL FOR SHARE OF o
)
UPDATE files_file SET status = 'processed', path = %(path)s, expires_at = created_at + make_interval(secs => %(seconds)s::float8)
WHERE id = %(id)s AND status = 'incoming' AND organization_id IN (SELECT id FROM open) RETURNING {FIELDS}
"""  # noqa: S608 - constants go in
FIND = f"SELECT {FIELDS} FROM files_file WHERE id = %(id)s AND organization_id = %(organization)s AND {THERE}"  # noqa: S608 - constants go in
IN_USE = "SELECT reader FROM files_reading WHERE file_id = %(id)s LIMIT 1"
DELETE = "UPDATE files_file SET status = 'deleted', expires_at = clock_timestamp() WHERE id = %(id)s"
# Whoever begins to read holds the row's key: those are passed over, and of the others who reads is asked once they are ours.
PAST_LOCKED = """
SELECT id FROM files_file f WHERE expires_at <= clock_timestamp()
AND NOT EXISTS (SELECT FROM files_reading r WHERE r.file_id = f.id)
ORDER BY expires_at LIMIT %(most)s FOR UPDATE SKIP LOCKED
"""
TAKE_AWAY = """
UPDATE files_file f SET status = 'deleted' WHERE id = ANY(%(ids)s)
AND NOT EXISTS (SELECT FROM files_reading r WHERE r.file_id = f.id)
RETURNING id, path
"""
BEGIN_READING = """
INSERT INTO files_reading (file_id, reader) VALUES (%(id)s, %(reader)s) ON CONFLICT (file_id, reader) DO NOTHING
"""
END_READING = "DELETE FROM files_reading WHERE reader = %(reader)s"


class StorageFull(PortalError):
    """The organization's files would be more than it may keep. Nothing was stored."""

    code, status, type = "storage_limit_exceeded", 403, "insufficient_quota"
    retryable: ClassVar[bool | None] = False


class FileInUse(PortalError):
    """Work that has not ended reads it. Nothing was deleted."""

    code, status = "file_in_use", 409
    retryable: ClassVar[bool | None] = False


def stored(file_id: UUID) -> Plan[Row | None]:
    """Where a file's bytes are and how many: `path`, `size_bytes`. For runners, who were given its signed path."""
    rows = yield Statement(
        "SELECT path, size_bytes FROM files_file WHERE id = %(id)s AND status = 'processed'", {"id": file_id}
    )
    return rows[0] if rows else None


def check_room(organization_id: UUID, *, size_bytes: int, limit_bytes: int) -> Plan[None]:
    """Raises StorageFull where `size_bytes` more would pass the limit."""
    rows = yield Statement(USED, {"organization": organization_id})
    if rows[0]["bytes"] + size_bytes > limit_bytes:
        raise StorageFull(
            f"Your organization's files may have {limit_bytes:,} bytes together; they have {rows[0]['bytes']:,} now, "
            f"and this one has {size_bytes:,}. Nothing was stored. Delete files you no longer need, or let them expire.",
            param="file",
        )


def admit(organization_id: UUID, *, limit_bytes: int | None, file: Mapping[str, Any]) -> Plan[None]:
    """The row before the bytes. Raises StorageFull, and NotFound where the organization was deleted; `limit_bytes` None is for what the portal itself writes."""
    if limit_bytes is not None:
        locked = yield Statement(LOCK_ORGANIZATION, {"organization": organization_id})
        if locked and locked[0]["closed"]:
            raise NotFound("The organization was deleted. Nothing was stored.", code="organization_closed")
        yield from check_room(organization_id, size_bytes=file["size"], limit_bytes=limit_bytes)
    yield Statement(ADMIT, {"organization": organization_id, **file})


def keep(file_id: UUID, *, path: str, seconds: int | None) -> Plan[Row | None]:
    """The bytes are stored: the file is there, for so long; None: until it is deleted.

    Returns None where the sweep or the deletion of the organization was first: then there is no file.
    """
    rows = yield Statement(KEEP, {"id": file_id, "path": path, "seconds": seconds})
    return rows[0] if rows else None


def found(organization_id: UUID, file_id: UUID | None, *, lock: str = "") -> Plan[Row]:
    """Raises NotFound, with one message for unknown, foreign, deleted and expired files."""
    rows = []
    if file_id is not None:
        rows = yield Statement(f"{FIND} {lock}", {"id": file_id, "organization": organization_id})
    if not rows:
        raise NotFound("There is no such file.", param="file_id", code="file_not_found")
    return rows[0]


def listed(
    organization_id: UUID, *, purpose: str | None, after: UUID | None, newest_first: bool, limit: int
) -> Plan[list[Row]]:
    """By time of creation, which ids follow. `limit` as it is: ask for one more to know whether there are more."""
    order, beyond = ("DESC", "<") if newest_first else ("ASC", ">")
    where = ("" if purpose is None else " AND purpose = %(purpose)s") + (
        "" if after is None else f" AND id {beyond} %(after)s"
    )
    rows = yield Statement(
        f"""
        SELECT {FIELDS} FROM files_file WHERE organization_id = %(organization)s AND {THERE}{where}
        ORDER BY id {order} LIMIT {int(limit)}
        """,  # noqa: S608 - constants and a number go in
        {"organization": organization_id, "purpose": purpose, "after": after},
    )
    return rows


def delete(organization_id: UUID, file_id: UUID | None) -> Plan[Row]:
    """Take a file out of sight, for `services.discard` to remove. Raises NotFound, FileInUse."""
    file = yield from found(organization_id, file_id, lock="FOR UPDATE")
    if (yield Statement(IN_USE, {"id": file["id"]})):
        raise FileInUse(
            f"The file {public('file', file['id'])} is read by a batch that has not ended. Nothing was deleted. "
            "Wait for its end, or cancel it.",
            param="file_id",
        )
    yield Statement(DELETE, {"id": file["id"]})
    return file


def past(most: int) -> Plan[list[Row]]:
    """Take files past their time that nothing reads out of sight: their id and path, for `services.discard` to remove."""
    locked = yield Statement(PAST_LOCKED, {"most": most})
    if not locked:
        return []
    return (yield Statement(TAKE_AWAY, {"ids": [row["id"] for row in locked]}))


def begin_reading(organization_id: UUID, file_id: UUID | None, *, reader: str) -> Plan[Row]:
    """The file, kept from deletion and expiry until `end_reading(reader)`. Safe to repeat. Raises NotFound."""
    file = yield from found(organization_id, file_id, lock="FOR KEY SHARE")
    yield Statement(BEGIN_READING, {"id": file["id"], "reader": reader})
    return file


def end_reading(reader: str) -> Plan[None]:
    """Safe to repeat."""
    yield Statement(END_READING, {"reader": reader})
