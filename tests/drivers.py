"""Each plan runs on two drivers: Django's connection and psycopg's async one. The same tests hold for both."""

import asyncio
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from apps.core import sql
from cango_portal import database


async def _run(plan: sql.Plan[Any]) -> Any:
    async with (
        await psycopg.AsyncConnection.connect(database.conninfo(), autocommit=True, row_factory=dict_row) as connection,
        connection.transaction(),
    ):
        return await sql.run_async(connection, plan)


@pytest.fixture(params=["django", "async"])
def driver(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, transactional_db: None) -> None:
    if request.param == "async":
        monkeypatch.setattr(database, "run", lambda plan: asyncio.run(_run(plan)))
