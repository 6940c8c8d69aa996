"""What the doors share: one fact written down for those who listen, and the claim of what is due."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any
from uuid import UUID

from apps.core.ids import uuid7
from apps.core.sql import Plan, Row, Statement

# FOR KEY SHARE: an endpoint that is told is not deleted before this transaction ends (services.delete waits for it).
LISTENING = """
SELECT id FROM webhooks_endpoint
WHERE organization_id = %(organization)s AND enabled
  AND (cardinality(event_types) = 0 OR %(type)s::varchar = ANY (event_types))
ORDER BY id FOR KEY SHARE
"""

MESSAGE = """
INSERT INTO webhooks_message (id, organization_id, type, data, key, created_at)
VALUES (%(id)s, %(organization)s, %(type)s, %(data)s::jsonb, %(key)s, %(now)s)
ON CONFLICT (organization_id, key) DO NOTHING RETURNING id
"""

DELIVERIES = """
INSERT INTO webhooks_delivery (id, message_id, endpoint_id, replay, state, attempts, next_try_at, request_headers,
                               request_body, response_excerpt, last_error, created_at)
SELECT id, %(message)s, endpoint, false, 'pending', 0, %(now)s, '{}'::jsonb, '', '', '', %(now)s
FROM unnest(%(ids)s::uuid[], %(endpoints)s::uuid[]) AS given (id, endpoint)
"""

# Each endpoint has a few at once, a failing one a single one: none keeps the others waiting. `busy` steps through the
# index from endpoint to endpoint, so that a backlog of one costs the others nothing. The conditions on a delivery stand
# where it is locked: they are checked again on a row another worker had in its hands.
CLAIM = """
WITH RECURSIVE busy AS (
  (SELECT endpoint_id FROM webhooks_delivery WHERE state = 'pending' ORDER BY endpoint_id LIMIT 1)
  UNION ALL
  SELECT (SELECT delivery.endpoint_id FROM webhooks_delivery AS delivery
          WHERE delivery.state = 'pending' AND delivery.endpoint_id > busy.endpoint_id
          ORDER BY delivery.endpoint_id LIMIT 1)
  FROM busy WHERE busy.endpoint_id IS NOT NULL
), waiting AS MATERIALIZED (
  SELECT delivery.id, delivery.next_try_at, sending.already,
         CASE WHEN endpoint.consecutive_failures > 0 THEN 1 ELSE %(each)s END AS allowed,
         row_number() OVER (PARTITION BY endpoint.id ORDER BY delivery.next_try_at) AS place
  FROM busy JOIN webhooks_endpoint AS endpoint ON endpoint.id = busy.endpoint_id AND endpoint.enabled
  CROSS JOIN LATERAL (
    SELECT count(*) AS already FROM webhooks_delivery AS sent
    WHERE sent.endpoint_id = endpoint.id AND sent.lease_expires_at > %(now)s
  ) AS sending
  CROSS JOIN LATERAL (
    SELECT due.id, due.next_try_at FROM webhooks_delivery AS due
    WHERE due.endpoint_id = endpoint.id AND due.state = 'pending' AND due.next_try_at <= %(now)s
      AND (due.lease_expires_at IS NULL OR due.lease_expires_at <= %(now)s)
    ORDER BY due.next_try_at LIMIT %(each)s FOR UPDATE SKIP LOCKED
  ) AS delivery
), due AS (
  SELECT id FROM waiting WHERE place + already <= allowed ORDER BY next_try_at LIMIT %(most)s
)
UPDATE webhooks_delivery AS delivery
SET attempts = attempts + 1, lease_expires_at = %(lease_expires_at)s
FROM due, webhooks_message AS message, webhooks_endpoint AS endpoint
WHERE delivery.id = due.id AND message.id = delivery.message_id AND endpoint.id = delivery.endpoint_id
RETURNING delivery.id, delivery.attempts, delivery.endpoint_id, endpoint.url, endpoint.secret, endpoint.previous_secret,
          endpoint.previous_secret_expires_at, message.id AS message_id, message.type, message.data,
          message.created_at AS happened_at
"""


def notify(*, organization: UUID, type: str, data: dict[str, Any], key: str, now: datetime) -> Plan[UUID | None]:
    """Write one message and a delivery for each endpoint that listens. None where none does or `key` was used."""
    listening = yield Statement(LISTENING, {"organization": organization, "type": type})
    if not listening:
        return None
    message = uuid7()
    made = yield Statement(
        MESSAGE,
        {
            "id": message,
            "organization": organization,
            "type": type,
            "data": json.dumps(data),
            "key": key,
            "now": now,
        },
    )
    if not made:
        return None
    endpoints = [row["id"] for row in listening]
    yield Statement(
        DELIVERIES, {"message": message, "endpoints": endpoints, "ids": [uuid7() for _ in endpoints], "now": now}
    )
    return message


def claim(*, now: datetime, lease_expires_at: datetime, most: int, each: int) -> Plan[list[Row]]:
    """Take up to `most` due deliveries, at most `each` of an endpoint at once. Each has one attempt more."""
    rows = yield Statement(CLAIM, {"now": now, "lease_expires_at": lease_expires_at, "most": most, "each": each})
    return rows
