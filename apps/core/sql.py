"""Statements as values, so that a page and an async door run the same ones.

A *plan* is a generator that yields `Statement`s and receives the rows of each (dicts). It says what happens in one
transaction and knows neither driver: `run` drives it on a DB-API cursor, `run_async` on a psycopg async connection.
Under READ COMMITTED each statement sees its own moment anyway, so one that only reads needs no transaction around it.

>>> def balance(organization: int) -> Plan[int]:
...     rows = yield Statement("SELECT credit_microusd FROM ledger_account WHERE organization_id = %(o)s", {"o": organization})
...     return rows[0]["credit_microusd"]
"""

import contextlib
import json
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

Row = dict[str, Any]
T = TypeVar("T")

JSONB_OID = 3802


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement with named parameters (`%(name)s`). A parameter that may be NULL is cast in the SQL.

    `alone`: it only reads and takes no lock, or it is the one statement of its plan that writes, and needs no other to be
    true with it. The transaction begins after it, which saves a door BEGIN and COMMIT where there is no other.
    """

    sql: str
    params: Mapping[str, Any] = field(default_factory=dict)
    alone: bool = False


Plan = Generator[Statement, list[Row], T]


def array(values: Iterable[object]) -> str:
    """Ids and numbers as PostgreSQL writes an array: the driver takes longer over a list than over all else it is given."""
    return f"{{{','.join(map(str, values))}}}"


def _rows(cursor: Any) -> list[Row]:
    result = cursor.pgresult  # its names without the objects that `description` makes for each column
    if result is None or not result.nfields:
        return []
    names = [result.fname(column).decode() for column in range(result.nfields)]
    rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
    # Django's connection hands jsonb over as text, psycopg's own decodes it.
    for column in [name for number, name in enumerate(names) if result.ftype(number) == JSONB_OID]:
        for row in rows:
            if isinstance(row[column], str):
                row[column] = json.loads(row[column])
    return rows


def run(cursor: Any, plan: Plan[T]) -> T:
    """Drive a plan on a synchronous cursor. The caller holds the transaction."""
    try:
        statement = next(plan)
        while True:
            try:
                cursor.execute(statement.sql, statement.params)
                rows = _rows(cursor)
            except Exception as error:
                statement = plan.throw(error)
            else:
                statement = plan.send(rows)
    except StopIteration as stop:
        result: T = stop.value
        return result


async def run_async(connection: Any, plan: Plan[T]) -> T:
    """Drive a plan on a psycopg async connection whose row factory is `dict_row`, in one transaction.

    On a connection in autocommit it begins with the first statement that is not `alone`; a caller may hold an outer one.
    """
    transaction = contextlib.AsyncExitStack()
    begun = False
    async with transaction:
        try:
            statement = next(plan)
            while True:
                try:
                    if not (begun or statement.alone):
                        await transaction.enter_async_context(connection.transaction())
                        begun = True
                    cursor = await connection.execute(statement.sql, statement.params)
                    answer = cursor.pgresult  # as in `_rows`
                    rows = await cursor.fetchall() if answer is not None and answer.nfields else []
                except Exception as error:
                    statement = plan.throw(error)
                else:
                    statement = plan.send(rows)
        except StopIteration as stop:
            result: T = stop.value
            return result
    raise AssertionError  # no context here swallows what is raised
