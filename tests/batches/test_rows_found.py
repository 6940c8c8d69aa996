"""The rows on a running batch's page are found by indexes, in a batch of any size and beside any others."""

from __future__ import annotations

import json

from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.batches.models import Batch
from apps.batches.pages.batch import BatchPage
from apps.batches.pages.rows import MOST, RowsPage
from tests.batches.works import deliver, started

SIZE = 50_000
ADD = """
INSERT INTO batches_row (batch_id, line, job_id, status, prompt_tokens, cached_prompt_tokens, completion_tokens, charge_microusd, body, at)
SELECT %s, 1000 + n, %s, CASE WHEN n %% 5000 = 77 THEN 400 ELSE 200 END, 0, 0, 0, 0, '{"choices": []}', now() + n / 64 * interval '1 second'
FROM generate_series(1, %s) n
"""
PAGES = 60  # of the database, of 8 kB


def filled(works) -> Batch:
    batch = works.begin(40)
    job = works.feed()[-1]
    deliver(started(job))
    with connection.cursor() as cursor:
        cursor.execute(ADD, [batch.pk, job.pk, SIZE])
    Batch.objects.filter(pk=batch.pk).update(failed=10)
    batch.refresh_from_db()
    return batch


def pages_read(statement: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}")
        plan = cursor.fetchone()[0]
    [found] = json.loads(plan) if isinstance(plan, str) else plan
    return found["Plan"]["Shared Hit Blocks"] + found["Plan"]["Shared Read Blocks"]


def test_ten_failed_rows_among_so_many_are_found_by_their_index(works):
    batch = filled(works)
    other = filled(works)  # its rows are newer
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE batches_row")
    assert batch.pk != other.pk
    page = RowsPage(BatchPage(batch))
    with CaptureQueriesContext(connection) as captured:
        failed, answered = page.failed, page.answered
    assert [row.name for row in failed] == [f"Line {1000 + 77 + 5000 * n:,}" for n in range(9, -1, -1)]
    assert [row.name for row in answered] == [f"Line {1000 + SIZE - n:,}" for n in range(MOST)]
    asked = [each["sql"] for each in captured if 'FROM "batches_row"' in each["sql"] and "LIMIT 10" in each["sql"]]
    assert len(asked) == 2
    assert [pages_read(statement) for statement in asked if pages_read(statement) > PAGES] == []
