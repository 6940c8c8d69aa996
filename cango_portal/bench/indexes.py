"""Tables written without their indexes, which are made afterwards: a sort of all rows in the place of a search for each."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

# Of the tables, and foreign keys of others on them, those first.
CONSTRAINTS = """
SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid)
FROM pg_constraint
WHERE (conrelid = ANY(%(tables)s::regclass[]) AND contype IN ('p', 'u', 'f')) OR (confrelid = ANY(%(tables)s::regclass[]) AND contype = 'f')
ORDER BY contype = 'f' DESC, oid
"""
INDEXES = """
SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index
WHERE indrelid = ANY(%(tables)s::regclass[])
    AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = indexrelid AND contype IN ('p', 'u'))
ORDER BY indexrelid
"""


@contextmanager
def later(cursor: Any, *tables: str) -> Iterator[None]:
    """Only of a database that can be thrown away: after a fault its tables are left without. Foreign keys come back unchecked."""
    cursor.execute(CONSTRAINTS, {"tables": list(tables)})
    constraints = cursor.fetchall()
    cursor.execute(INDEXES, {"tables": list(tables)})
    indexes = cursor.fetchall()
    for table, name, _ in constraints:
        cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
    for name, _ in indexes:
        cursor.execute(f"DROP INDEX {name}")
    yield
    cursor.execute("SET maintenance_work_mem = '1GB'")
    for _, definition in indexes:
        cursor.execute(definition)
    for table, name, definition in reversed(constraints):
        unchecked = " NOT VALID" if definition.startswith("FOREIGN KEY") else ""
        cursor.execute(f"ALTER TABLE {table} ADD CONSTRAINT {name} {definition}{unchecked}")
    cursor.execute("RESET maintenance_work_mem")
