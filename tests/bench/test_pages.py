"""The bench of pages: what it prints, and that the tables it fills get back what it took from them."""

from django.db import connection

from cango_portal.bench import indexes, pages


def test_a_ratio_is_that_of_the_multiples():
    found = pages.Measured(
        "jobs", p95_ms=[20.0, 45.0], multiple=[4.0, 5.0], cpu_ms=[10.0, 12.0], queries=[9, 10], kb=[40.4, 41.6]
    )
    [_, _, line, goal, _] = pages.table([found], [10_000, 10_000_000]).split("\n")
    assert found.ratio == 1.25
    assert line.split() == ["jobs", "9/10", "4.0x", "5.0x", "1.25", "10.0", "12.0", "1.20", "40/42"]
    assert goal == "Goal: a ratio of p95 below 1.5."


def test_a_table_gets_its_indexes_and_constraints_back(db):
    tables = {"tables": ["jobs_job", "ledger_hold", "ledger_transfer"]}

    def there() -> tuple[set[tuple[str, ...]], set[tuple[str, ...]]]:
        with connection.cursor() as cursor:
            cursor.execute(indexes.INDEXES, tables)
            made = {(name, rule.partition(" WHERE ")[0]) for name, rule in cursor.fetchall()}  # casts are written anew
            cursor.execute(indexes.CONSTRAINTS, tables)
            return made, {(*each, rule.removesuffix(" NOT VALID")) for *each, rule in cursor.fetchall()}

    before = there()
    assert ("jobs_job", "jobs_job_pkey", "PRIMARY KEY (id)") in before[1]
    with connection.cursor() as cursor, indexes.later(cursor, *tables["tables"]):
        assert there() == (set(), set())
    assert there() == before
