"""Orders leave here: straight after commit, and again by the dispatcher for what that missed."""

import asyncio
import contextlib
import logging
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import redis
from celery import Celery
from django.conf import settings
from kombu.exceptions import OperationalError

from apps.core.sql import Plan, Row, Statement
from apps.dispatch.envelopes import UNQUOTED, enveloped
from apps.files.sealing import Unreadable
from apps.jobs import sealed
from apps.runner import protocol
from cango_portal import valkey

log = logging.getLogger(__name__)

SEND_SECONDS = 2  # what a request waits for the broker at most
RESEND_SECONDS = 2  # an order nobody claimed for so long is sent again; a second copy starts nothing

_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="orders")

UNCLAIMED = f"""
WITH due AS (
    SELECT o.id AS order_id, {sealed.REQUEST}
    FROM dispatch_order o JOIN jobs_job j ON j.id = o.job_id JOIN jobs_content c ON c.job_id = j.id
    WHERE j.state = 'dispatched' AND j.attempt = o.attempt AND j.claimant = '' AND j.lease_expires_at > clock_timestamp()
      AND coalesce(o.resent_at, o.created_at) < clock_timestamp() - make_interval(secs => %(seconds)s)
    ORDER BY o.created_at LIMIT 500
    FOR UPDATE OF o SKIP LOCKED
)
UPDATE dispatch_order SET resent_at = clock_timestamp() FROM due WHERE dispatch_order.id = due.order_id
RETURNING dispatch_order.body, due.*
"""  # noqa: S608 - constants go in


@cache
def broker() -> Celery:
    """The application that sends to the sites' queues. It never waits longer than 2 s and never tries twice."""
    app = Celery("orders", broker=settings.CELERY_BROKER_URL, set_as_current=False)
    app.conf.update(
        task_serializer="json",
        task_ignore_result=True,
        broker_pool_limit=8,
        broker_connection_timeout=2,
        broker_transport_options={
            "socket_timeout": 2,
            "socket_connect_timeout": 2,
            "max_retries": 0,
            "confirm_publish": True,
        },
    )
    return app


def send(body: dict[str, Any], *, queue: str) -> bool:
    """Hand one order to the broker. False where that failed; the dispatcher sends it again."""
    try:
        broker().send_task(protocol.TASK, args=[body], queue=queue, retry=False, **UNQUOTED)  # type: ignore[arg-type]
    except (OperationalError, *valkey.Away) as error:
        log.warning("order not sent", extra={"queue": queue, "reason": type(error).__name__})
        return False
    return True


def publish(order: protocol.Order) -> bool:
    return send(order.model_dump(mode="json"), queue=protocol.queue(order.pool))


async def publish_async(order: protocol.Order) -> bool:
    """`publish`, given at most 2 s: what a broker that hangs keeps from going is the dispatcher's."""
    if in_our_redis():
        try:
            async with asyncio.timeout(SEND_SECONDS):
                return await pushed(order)
        except TimeoutError:
            return False
    sending = asyncio.get_running_loop().run_in_executor(_threads, publish, order)
    done, _ = await asyncio.wait({sending}, timeout=SEND_SECONDS)
    if done:
        return sending.result()
    sending.cancel()  # one that has not begun never will
    return False


def in_our_redis() -> bool:
    """Whether the broker is the Redis that the doors have a connection to already."""
    return settings.CELERY_BROKER_URL.replace("redis+socket://", "unix://") == settings.REDIS_URL


async def pushed(order: protocol.Order) -> bool:
    queue = protocol.queue(order.pool)
    try:
        await valkey.ask_async("LPUSH", queue, enveloped(order))
    except (redis.ResponseError, *valkey.Away) as error:
        log.warning("order not sent", extra={"queue": queue, "reason": type(error).__name__})
        return False
    return True


def unclaimed() -> Plan[list[dict[str, Any]]]:
    """Orders to send again, marked as sent again now. One whose request cannot be read waits for its lease to end."""
    rows = yield Statement(UNCLAIMED, {"seconds": RESEND_SECONDS})
    found = []
    for row in rows:
        with contextlib.suppress(Unreadable):
            found.append(whole(row))
    return found


def whole(row: Row) -> dict[str, Any]:
    """The order as its runner takes it. Raises Unreadable."""
    order: dict[str, Any] = {"body": None, **row["body"]}
    if order["body"] is None and order["body_url"] is None:
        order["body"] = sealed.request_of(row).request
    return order
