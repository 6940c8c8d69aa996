"""Where the time of a job went: stages that follow each other and fill the whole, whatever clocks said."""

from datetime import UTC, datetime, timedelta

import pytest

from apps.jobs.models import Job
from apps.jobs.pages.waterfall import stages

BEGAN = datetime(2026, 11, 25, 14, tzinfo=UTC)


def at(seconds):
    return None if seconds is None else BEGAN + timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("dispatched", "started", "first", "finished", "shown"),
    [
        (1, 1.5, 2, 4, [("Queue", "0.00", "25.00"), ("Route to the site", "25.00", "12.50"), ("First token", "37.50", "12.50"), ("Rest of the answer", "50.00", "50.00")]),
        (1, 0.5, 9, 4, [("Queue", "0.00", "25.00"), ("Route to the site", "25.00", "0.00"), ("First token", "25.00", "75.00"), ("Rest of the answer", "100.00", "0.00")]),
        (None, None, None, 4, [("Queue", "0.00", "100.00")]),
        (1, 2, 3, None, []),
        (None, None, None, 0, []),
    ],
)  # fmt: skip
def test_stages_fill_the_whole(dispatched, started, first, finished, shown):
    job = Job(
        kind="chat",
        created_at=BEGAN,
        dispatched_at=at(dispatched),
        started_at=at(started),
        finished_at=at(finished),
    )
    assert [(stage.title, stage.x, stage.width) for stage in stages(job, at(first))] == shown


def test_work_that_writes_nothing_has_no_first_token():
    job = Job(kind="ocr", attempt=2, created_at=BEGAN, dispatched_at=at(1), started_at=at(2), finished_at=at(4))
    assert [(stage.title, stage.took) for stage in stages(job, None)] == [
        ("Queue and earlier attempts", "1.0\xa0s"),
        ("Route to the site", "1.0\xa0s"),
        ("Work", "2.0\xa0s"),
    ]
