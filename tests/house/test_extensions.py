"""Production must not use what the embedded PostgreSQL lacks: no extension but plpgsql, no collation of its own."""

import pytest
from django.db import connection


@pytest.mark.django_db
def test_the_database_has_no_extension_but_plpgsql() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT extname FROM pg_extension ORDER BY 1")
        assert cursor.fetchall() == [("plpgsql",)]


@pytest.mark.django_db
def test_no_column_asks_for_a_collation() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = 'public' AND collation_name IS NOT NULL"
        )
        assert cursor.fetchall() == []
