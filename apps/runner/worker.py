"""The runner's Celery application: takes orders off the queues of its pools and hands them over.

It shares nothing with the portal's application but the broker. Its worker runs in a thread of its own with the solo
pool, since a task here only passes its argument on to the runner's event loop.

Orders are consumed without acknowledgement: an order belongs to nobody until its claim is written, and one that is lost
on the way is sent again by the portal when its dispatch lease expires. That also spares Redis kombu's bookkeeping, and us
the acknowledgement that Celery sends all the same: a turn to Redis for each order, about nothing.
"""

from __future__ import annotations

import logging
import threading
import time
import warnings
from collections.abc import Callable
from typing import Any

from celery import Celery
from celery.exceptions import WorkerShutdown, WorkerTerminate
from celery.worker import WorkController, state
from celery.worker.consumer import Consumer
from kombu import Exchange, Queue

from apps.runner import protocol

log = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0  # seconds, while the broker is away
BLOCK_SECONDS = 1.0  # of one wait for an order; a stop is noticed in between


def application(*, broker_url: str, pools: list[str], accept: Callable[[dict[str, Any]], object]) -> Celery:
    """`accept` is called in the worker's thread with each order's JSON."""
    # No fix-ups: Celery's own for Django would load it wherever DJANGO_SETTINGS_MODULE is set.
    app = Celery("runner", broker=broker_url, set_as_current=False, fixups=[])
    # kombu keeps these beside the queue; below the queue's name, one pattern per pool (`pool.<code>.*`) covers a node's
    # rights. A worker has one connection for all its pools, so it takes the name of its first.
    bookkeeping = f"{protocol.queue(pools[0])}.kombu"
    app.conf.update(
        task_queues=[Queue(protocol.queue(pool), routing_key=protocol.queue(pool), no_ack=True) for pool in pools],
        task_create_missing_queues=False,
        task_default_queue=protocol.queue(pools[0]),
        task_serializer="json",
        accept_content=["json"],
        task_ignore_result=True,
        task_acks_late=False,
        worker_consumer="apps.runner.worker:PatientConsumer",
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_send_task_events=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        worker_detect_quorum_queues=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_retry=True,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=4,
        broker_transport_options=transport_options(broker_url, bookkeeping),
    )

    for queue in app.amqp.queues.values():
        # The nameless one, in place of Celery's default: the routing key is the queue, and no binding is kept anywhere.
        queue.exchange = Exchange("")

    @app.task(name=protocol.TASK, ignore_result=True, shared=False)
    def run(order: dict[str, Any]) -> None:
        accept(order)

    app.finalize()
    return app


def transport_options(broker_url: str, bookkeeping: str) -> dict[str, Any]:
    if not broker_url.startswith(("redis", "rediss", "sentinel")):
        return {}
    return {
        "unacked_key": f"{bookkeeping}.unacked",
        "unacked_index_key": f"{bookkeeping}.unacked_index",
        "unacked_mutex_key": f"{bookkeeping}.unacked_mutex",
        "fanout_prefix": f"{bookkeeping}.fanout.",
        "priority_steps": [0],  # one list per queue, named like it
        "socket_connect_timeout": 2,
        "socket_timeout": 10,
        "socket_keepalive": True,
        "polling_interval": BLOCK_SECONDS,
        "health_check_interval": 5,  # a link that died without a word is found within about 11 s
    }


def ignored(*_: object, **__: object) -> None:
    """In place of an acknowledgement."""


class PatientConsumer(Consumer):
    """Waits for a broker that is away, for ever, and says so once. Acknowledges nothing."""

    def create_task_handler(self, *given: Any) -> Any:
        handle = super().create_task_handler(*given)

        def unacknowledged(message: Any) -> Any:
            message.ack_log_error = ignored
            return handle(message)

        return unacknowledged

    def ensure_connected(self, conn: Any) -> Any:
        pause, told = FIRST_PAUSE, False
        while True:
            state.maybe_shutdown()
            try:
                conn.connect()
                conn.default_channel.client.ping() if conn.transport.driver_type == "redis" else None
            except (*conn.connection_errors, *conn.channel_errors) as error:
                if not told:
                    log.warning("the broker does not answer; trying again until it does", extra={"error": repr(error)})
                told = True
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE)
            else:
                if told:
                    log.info("the broker answers again")
                return conn

    def on_connection_error_after_connected(self, exc: Exception) -> None:
        log.warning("the broker broke off", extra={"error": repr(exc)})
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about late acknowledgement, which is off
            super().on_connection_error_after_connected(exc)


class Worker:
    """A Celery worker in a thread. One per process: Celery keeps its stop flags in a module."""

    def __init__(self, app: Celery) -> None:
        self.app = app
        self.thread = threading.Thread(target=self.work, name="celery", daemon=True)
        self.stopping = threading.Event()
        self.ready = threading.Event()

    def start(self) -> None:
        state.should_stop = None
        state.should_terminate = None
        self.thread.start()

    def stop(self) -> None:
        """Take no more orders. Returns when the worker has ended, or after five seconds."""
        self.stopping.set()
        state.should_stop = True  # type: ignore[assignment]
        if self.thread.is_alive():
            self.thread.join(5)

    def work(self) -> None:
        self.app.set_current()  # for this thread; where a message's task is looked up
        pause = FIRST_PAUSE
        while not self.stopping.is_set():
            try:
                WorkController(
                    app=self.app,
                    pool_cls="solo",
                    concurrency=1,
                    without_gossip=True,
                    without_mingle=True,
                    without_heartbeat=True,
                    hostname="runner",
                    ready_callback=lambda _: self.ready.set(),
                ).start()
            except (WorkerShutdown, WorkerTerminate, SystemExit):
                return
            except Exception:
                log.exception("the worker stopped; starting it again")
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
