"""Migrations are complete, linear, reversible, small, and safe to run beside the old code."""

from collections.abc import Iterator, Sequence
from io import StringIO
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib.postgres.operations import AddIndexConcurrently, RemoveIndexConcurrently
from django.core.management import CommandError, call_command
from django.db import connection, migrations, models
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.operations.base import Operation
from django_migration_linter import MigrationLinter
from django_migration_linter.sql_analyser import analyse_sql_statements, get_sql_analyser_class

ROOT: Path = settings.ROOT
# Their tables are small (a row for each organization, and for each of its spenders), and the code before them writes no other type.
SMALL = {"ledger.0020_account_of_amounts": ["ALTER_COLUMN"], "ledger.0021_budget_of_amounts": ["ALTER_COLUMN"]}
OURS = {config.label for config in apps.get_app_configs() if Path(config.path).is_relative_to(ROOT / "apps")}


def lint(operations: Sequence[Operation], *, atomic: bool = True, tables: Sequence[str] = ()) -> list[str]:
    """What is wrong with one migration by its operations alone; `tables` are models it may treat as new (lower case)."""
    wrong = []
    new = {name.lower() for name in tables}
    concurrent = [
        operation for operation in operations if isinstance(operation, AddIndexConcurrently | RemoveIndexConcurrently)
    ]
    for operation in operations:
        if isinstance(operation, migrations.CreateModel):
            new.add(operation.name.lower())
        elif isinstance(operation, migrations.RunPython | migrations.RunSQL) and not operation.reversible:
            wrong.append(f"{type(operation).__name__} is not reversible")
        elif isinstance(operation, migrations.SeparateDatabaseAndState):
            wrong += lint(operation.database_operations, atomic=atomic, tables=sorted(new))
        elif isinstance(operation, AddIndexConcurrently | RemoveIndexConcurrently):
            continue
        elif isinstance(operation, migrations.AddIndex | migrations.RemoveIndex):
            if operation.model_name.lower() not in new:
                wrong.append(f"{type(operation).__name__} on {operation.model_name} locks it: do it concurrently")
        elif isinstance(operation, migrations.AlterField) and operation.field.remote_field:
            if operation.field.db_constraint and operation.model_name.lower() not in new:
                wrong.append(
                    f"{operation.model_name}.{operation.name} checks each reference anew and locks it: alter the state alone"
                )
        elif isinstance(operation, migrations.AddField) and operation.model_name.lower() not in new:
            field = operation.field
            if getattr(field, "db_index", False) or field.unique:
                wrong.append(f"the index of {operation.model_name}.{operation.name} locks it: add it concurrently")
            elif not field.null and field.db_default is models.NOT_PROVIDED and not field.many_to_many:
                wrong.append(f"{operation.model_name}.{operation.name} needs null or db_default beside the old code")
    if concurrent and (len(operations) > 1 or atomic):
        wrong.append("a concurrent index stands alone, with atomic = False")
    return wrong


@pytest.fixture
def loader(transactional_db: None) -> MigrationLoader:
    return MigrationLoader(connection)


@pytest.fixture
def ours(loader: MigrationLoader) -> Iterator[tuple[str, Any]]:
    return (
        (f"{label}.{name}", migration)
        for (label, name), migration in sorted(loader.disk_migrations.items())
        if label in OURS
    )


@pytest.mark.django_db
def test_models_and_migrations_agree() -> None:
    output = StringIO()
    try:
        call_command("makemigrations", check_changes=True, dry_run=True, no_input=True, stdout=output, stderr=output)
    except (SystemExit, CommandError):
        pytest.fail(output.getvalue())


def test_each_app_has_one_line_of_migrations(loader: MigrationLoader) -> None:
    assert loader.detect_conflicts() == {}
    for label in OURS & {label for label, _ in loader.disk_migrations}:
        assert len(loader.graph.leaf_nodes(label)) == 1
        numbers = sorted(int(name[:4]) for app, name in loader.disk_migrations if app == label)
        assert numbers[0] == 1
        assert all(later == earlier + 1 for earlier, later in pairwise(numbers))


def test_names_say_what_they_do(ours: Iterator[tuple[str, Any]]) -> None:
    for name, migration in ours:
        assert "_auto_" not in name
        assert len(migration.name) <= 60
        assert migration.name[4] == "_"
        # An initial migration is as long as the app has tables; a later one is one step.
        assert migration.initial or len(migration.operations) <= 6, name


def test_operations_are_reversible_and_lock_nothing_that_exists(ours: Iterator[tuple[str, Any]]) -> None:
    assert {
        name: wrong for name, migration in ours if (wrong := lint(migration.operations, atomic=migration.atomic))
    } == {}


def issues(sql: list[str]) -> list[str]:
    """What django-migration-linter says of these statements for PostgreSQL, its warnings counted as faults."""
    errors, _, warnings = analyse_sql_statements(get_sql_analyser_class("postgresql"), sql)
    return [issue.code for issue in [*errors, *warnings]]


def test_the_sql_runs_beside_the_code_before_it(ours: Iterator[tuple[str, Any]]) -> None:
    linter = MigrationLinter(no_cache=True, no_output=True)
    found = {}
    for name, migration in ours:
        errors, _, warnings = linter.analyse_data_migration(migration)
        wrong = issues(linter.get_sql(migration.app_label, migration.name))
        if wrong := [*wrong, *(issue.code for issue in [*errors, *warnings])]:
            found[name] = wrong
    assert found == SMALL


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        (['ALTER TABLE "a" DROP COLUMN "b" CASCADE;'], "DROP_COLUMN"),
        (['ALTER TABLE "a" ADD COLUMN "b" integer NOT NULL;'], "NOT_NULL"),
        (['CREATE INDEX "i" ON "a" ("b");'], "CREATE_INDEX"),
        (['ALTER TABLE "a" ADD CONSTRAINT "c" UNIQUE ("b");'], "ADD_UNIQUE"),
        (['ALTER TABLE "a" RENAME COLUMN "b" TO "c";'], "RENAME_COLUMN"),
    ],
)
def test_planted_sql_is_found(sql: list[str], code: str) -> None:
    assert issues(sql) == [code]


INDEX = models.Index(fields=["a"], name="i")
REFERENCE = migrations.AlterField("job", "a", models.ForeignKey("b", models.PROTECT, db_index=False))
NUMBER = migrations.AddField("job", "a", models.IntegerField(default=0))


@pytest.mark.parametrize(
    ("operations", "atomic", "wrong"),
    [
        ([migrations.RunPython(migrations.RunPython.noop)], True, "RunPython is not reversible"),
        ([migrations.RunSQL("SELECT 1")], True, "RunSQL is not reversible"),
        ([migrations.AddIndex("job", INDEX)], True, "AddIndex on job locks it"),
        ([AddIndexConcurrently("job", INDEX)], True, "stands alone"),
        ([AddIndexConcurrently("job", INDEX), NUMBER], False, "stands alone"),
        ([NUMBER], True, "needs null or db_default"),
        ([REFERENCE], True, "alter the state alone"),
        (
            [migrations.AddField("job", "a", models.IntegerField(null=True, db_index=True))],
            True,
            "add it concurrently",
        ),
    ],
)
def test_a_planted_operation_is_found(operations: list[Operation], atomic: bool, wrong: str) -> None:
    assert any(wrong in found for found in lint(operations, atomic=atomic))


def test_good_operations_pass() -> None:
    new = migrations.CreateModel("Job", [("id", models.BigAutoField(primary_key=True))])
    assert lint([new, migrations.AddIndex("job", INDEX), NUMBER]) == []
    assert lint([AddIndexConcurrently("job", INDEX)], atomic=False) == []
    assert lint([migrations.SeparateDatabaseAndState(state_operations=[REFERENCE])]) == []
    assert lint([migrations.AddField("job", "a", models.IntegerField(db_default=0))]) == []
    assert lint([migrations.RunPython(migrations.RunPython.noop, migrations.RunPython.noop)]) == []
