"""Files of a batch that has ended stay no longer than its organization keeps text, whatever was said when they were made.

With 0 days they can be fetched for `forgetting.FETCHED_SECONDS`, as the answer of a background job. A file that another batch
still reads waits for that one's end.
"""

from __future__ import annotations

from uuid import UUID

from apps.core.sql import Plan, Statement
from apps.dispatch.forgetting import FETCHED_SECONDS

SHORTEN = """
WITH kept AS (
    SELECT b.id, unnest(ARRAY[b.input_file_id, b.output_file_id, b.error_file_id]) AS file_id,
        coalesce(b.completed_at, b.failed_at, b.expired_at, b.cancelled_at)
            + make_interval(days => o.keep_text_days, secs => CASE o.keep_text_days WHEN 0 THEN %(fetched)s ELSE 0 END) AS until
    FROM batches_batch b JOIN accounts_organization o ON o.id = b.organization_id
    WHERE b.organization_id = %(organization)s::uuid AND (%(batch)s::uuid IS NULL OR b.id = %(batch)s::uuid)
      AND b.state IN ('completed', 'failed', 'expired', 'cancelled')
)
UPDATE files_file f SET expires_at = kept.until FROM kept
WHERE f.id = kept.file_id AND f.status = 'processed' AND (f.expires_at IS NULL OR f.expires_at > kept.until)
  AND NOT EXISTS (SELECT FROM files_reading r WHERE r.file_id = f.id)
RETURNING f.id
"""


def shorten(organization_id: UUID, *, batch_id: UUID | None = None) -> Plan[int]:
    """Of one batch that has just ended, or of all of an organization that keeps text for less time than before.

    Returns how many files go sooner than they would have gone.
    """
    params = {"organization": organization_id, "batch": batch_id, "fetched": FETCHED_SECONDS}
    return len((yield Statement(SHORTEN, params)))
