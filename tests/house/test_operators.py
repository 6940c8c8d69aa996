"""Nothing is read first within an operator of a template's `if`: a failure there is False, and the part looks whole."""

from __future__ import annotations

from typing import Any

import pytest
from django.conf import settings
from django.template import engines

from apps.batches.pages.batch import BatchPage
from apps.batches.pages.events import EventsPage
from apps.batches.pages.live import LivePage
from apps.batches.pages.rows import RowsPage
from apps.jobs.pages.day import DayPage, DaysPage
from apps.jobs.pages.job import JobPage
from apps.jobs.pages.usage import UsagePage
from apps.portal.context import Shell
from tests.house.operators import Reader, properties, readings

ROOT = settings.ROOT
ENGINE = engines["django"].engine  # type: ignore[attr-defined]
CONTEXTS = {name for file in sorted((ROOT / "apps").rglob("*.py")) for name in readings(file.read_text())}
PAGES: dict[str, dict[str, list[type]]] = {  # what stands for objects that read where they are asked
    "batches/detail.html": {"page": [BatchPage], "rows": [RowsPage], "events": [EventsPage], "live": [LivePage]},
    "jobs/detail.html": {"page": [JobPage]},
    "jobs/_usage.html": {"page": [UsagePage]},
    "portal/_running.html": {"page": [BatchPage, JobPage]},
    "portal/dashboard.html": {"spend": [DaysPage, DayPage], "where": [DaysPage, DayPage], "page": [BatchPage, JobPage]},
}
VIEWS = [f"jobs/{file.name}" for file in sorted((ROOT / "templates/jobs").glob("_view_*.html"))]


def late(pages: dict[str, list[type]]) -> set[str]:
    return (CONTEXTS - set(pages)) | {
        f"{name}.{each}"
        for name, kinds in {**pages, "shell": [Shell]}.items()
        for kind in kinds
        for each in properties(kind)
    }


def found(template: Any, pages: dict[str, list[type]]) -> list[str]:
    return Reader(ENGINE, late(pages), {"view_template": VIEWS}).parts(template.nodelist)


def templates() -> list[str]:
    folder = ROOT / "templates"
    return [
        file.relative_to(folder).as_posix() for file in sorted(folder.rglob("*.html")) if "{% part " in file.read_text()
    ]


def test_the_parts_of_pages_read_nothing_within_an_operator() -> None:
    assert set(PAGES) <= set(templates())
    read = {name: found(ENGINE.get_template(name), PAGES.get(name, {})) for name in templates()}
    assert {name: first for name, first in read.items() if first} == {}


@pytest.mark.parametrize(
    ("template", "first"),
    [
        ("{% if plans or standing.subscription %}…{% endif %}", ["plans"]),
        ("{% for row in standing.rows %}{% if row in plans %}…{% endif %}{% endfor %}", ["plans"]),
        ("{% if not page.files %}…{% endif %}", ["page.files"]),
        ("{% if page.files|length == 2 %}…{% endif %}", ["page.files"]),
        ("{% if 2 == 2|add:page.files %}…{% endif %}", ["page.files"]),
        ("{% if now %}{{ plans }}{% elif plans and now %}…{% endif %}", ["plans"]),
        ("{% if now %}{{ plans }}{% endif %}{% if plans and now %}…{% endif %}", ["plans"]),
        ("{% if plans %}{% if plans and now %}…{% endif %}{% endif %}", []),
        ("{% with files=page.files %}{% if page.files and now %}…{% endif %}{% endwith %}", []),
        ("{{ page.files.first }}{% if page.files and now %}…{% endif %}", []),
        ("{% if standing.subscription and standing.entitlement %}…{% endif %}", []),  # the part's own
    ],
)
def test_a_planted_reading_is_found(template: str, first: list[str]) -> None:
    made = ENGINE.from_string(f"{{% load parts %}}{{% part standing quiet %}}{template}{{% endpart %}}")
    assert found(made, {"page": [BatchPage]}) == first


def test_what_reads_is_known_by_the_code() -> None:
    assert {"plans", "paid", "balance", "running"} <= CONTEXTS
    assert {"files", "stored", "start", "starts"} <= properties(BatchPage)  # by way of one another too
    assert {"failed", "answered", "there", "tables"} <= properties(RowsPage)
    assert not {"topic", "at", "shown"} & properties(BatchPage)
