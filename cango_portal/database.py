"""The two ways to PostgreSQL: Django's connection for pages and commands, an async pool for the lean doors.

Both run the same plans (`apps.core.sql`), each in one transaction.
"""

import asyncio
import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from django.conf import settings
from django.db import connection, transaction
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from psycopg.rows import dict_row
from psycopg.types.json import set_json_dumps
from psycopg_pool import AsyncConnectionPool

from apps.core import jsons, sql

T = TypeVar("T")
Pool = AsyncConnectionPool[AsyncConnection[dict[str, Any]]]

# A plan of a statement with an array is made anew each time it runs, which takes PostgreSQL longer than the running. One plan
# for all keeps what it was when the tables were small, so none may read a whole table where there is another way.
PLANS = """
SELECT set_config(name, value, false) FROM (VALUES
    ('plan_cache_mode', 'force_generic_plan'), ('enable_seqscan', 'off'), ('jit', 'off')
) AS wanted(name, value)
"""

_pools: WeakKeyDictionary[asyncio.AbstractEventLoop, Pool] = WeakKeyDictionary()


def conninfo() -> str:
    """Where Django's connection goes now: a test run points it at its own database after settings were read."""
    config = connection.settings_dict
    given = {
        "dbname": config["NAME"],
        "user": config["USER"],
        "password": config["PASSWORD"],
        "host": config["HOST"],
        "port": config["PORT"],
    }
    return make_conninfo("", **{name: value for name, value in given.items() if value})


def run(plan: sql.Plan[T]) -> T:
    """Run a plan in a transaction of Django's connection; an outer `atomic` takes it in."""
    with transaction.atomic(), connection.cursor() as cursor:
        return sql.run(cursor, plan)


async def run_async(plan: sql.Plan[T]) -> T:
    """Run a plan in a transaction of its own on the async pool of this event loop."""
    async with acquire() as held:
        return await sql.run_async(held, plan)


@asynccontextmanager
async def acquire() -> AsyncIterator[AsyncConnection[dict[str, Any]]]:
    """A connection in autocommit, given back at the end. Waits at most 5 s (psycopg_pool.PoolTimeout)."""
    pool = _pool()
    if pool.closed:  # not open yet
        await pool.open()
    held = await pool.getconn()
    try:  # without `pool.connection()`, which ends a transaction that autocommit never begins
        yield held
    finally:
        await pool.putconn(held)


async def check(connection: AsyncConnection[Any]) -> None:
    """Raise where the server has ended an idle connection. It then left something to read, so others are not asked."""
    poll = select.poll()
    poll.register(connection.pgconn.socket, select.POLLIN)
    if poll.poll(0):
        await AsyncConnectionPool.check_connection(connection)


async def configure(connection: AsyncConnection[Any]) -> None:
    set_json_dumps(jsons.encoded, connection)
    await connection.execute(PLANS)


def _pool() -> Pool:
    loop = asyncio.get_running_loop()
    pool = _pools.get(loop)
    if pool is None:
        pool = AsyncConnectionPool(
            conninfo(),
            min_size=1,
            max_size=settings.DOOR_DATABASE_CONNECTIONS,
            timeout=5,
            open=False,
            kwargs={"row_factory": dict_row, "autocommit": True},
            check=check,
            configure=configure,
        )
        _pools[loop] = pool
    return pool


async def close() -> None:
    """Close this event loop's pool: at shutdown, and between tests."""
    pool = _pools.pop(asyncio.get_running_loop(), None)
    if pool is not None:
        await pool.close()
