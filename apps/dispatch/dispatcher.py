"""The process that repairs: feeds the backlog, sends orders again, ends lost leases, expires deadlines, frees orphaned holds.

Any number may run: rows are locked one at a time, and each step is compare-and-set. It needs PostgreSQL; with Redis or the
broker away it does what it can and tries again at the next tick.
"""

import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg
import redis
from django.conf import settings
from django.db import connection
from django.db.utils import Error as DatabaseError
from django.db.utils import OperationalError as DatabaseAway
from psycopg.errors import UniqueViolation

from apps.core import places
from apps.core.ids import public
from apps.core.sql import Plan, Row, Statement
from apps.dispatch import backlog, draining, ending, guarding, outbox
from apps.dispatch.outcomes import Outcome
from apps.files.sealing import Unreadable
from apps.jobs.statements import StaleState
from apps.ledger import statements as ledger
from apps.live import bell
from apps.runner import protocol
from apps.scheduling import placement, selectors, slots, starts
from apps.sites import acl, drains, lifecycle, rabbit
from apps.sites import statements as sites
from apps.sites.lifecycle import NodeMoved
from cango_portal import database, valkey

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
ORPHAN_SECONDS = 60
SERVED = 10_000  # organizations and models whose last turn is remembered

# Where the portal itself could take no heartbeats, its runners get a whole lease's time to say that they live.
LOST = """
SELECT j.id, j.attempt, j.streaming, j.state, p.code AS pool FROM jobs_job j JOIN sites_pool p ON p.id = j.pool_id
JOIN sites_node n ON n.id = p.node_id
WHERE j.state IN ('dispatched', 'running') AND j.lease_expires_at < clock_timestamp()
  AND NOT (%(frozen)s AND n.state = ANY(%(heard)s) AND n.heartbeat_at < clock_timestamp() - make_interval(secs => %(suspect)s))
  AND NOT EXISTS (
    SELECT FROM sites_listening l WHERE l.at < clock_timestamp() - make_interval(secs => %(deaf)s)
      OR l.since > clock_timestamp() - make_interval(secs => %(lease)s)
  )
ORDER BY j.lease_expires_at LIMIT 200
"""
# Shards of batches are ended by `batches`, which knows what their rows cost.
EXPIRED = (
    "SELECT id FROM jobs_job WHERE state = 'queued' AND batch_id IS NULL AND deadline_at <= clock_timestamp() LIMIT 200"
)
LEASED = """
SELECT p.code AS pool, j.batch_id IS NOT NULL AS shard, array_remove(array_agg(j.id::text || ':' || j.attempt), NULL) AS holders
FROM sites_pool p LEFT JOIN jobs_job j ON j.pool_id = p.id AND j.state IN ('dispatched', 'running') GROUP BY p.code, j.batch_id IS NOT NULL
"""
ORPHANS = """
SELECT h.key FROM ledger_hold h LEFT JOIN jobs_job j ON 'job:' || j.id = h.key
WHERE h.state = 'open' AND h.key LIKE 'job:%%' AND h.created_at < clock_timestamp() - make_interval(secs => %(seconds)s)
  AND (j.id IS NULL OR j.finished_at IS NOT NULL) LIMIT 200
"""


class Dispatcher:
    def __init__(self) -> None:
        self.stopping = False
        self.last: dict[str, float] = {}
        self.listener: psycopg.Connection | None = None
        self.sending = True
        self.served: dict[tuple[int, UUID], float] = {}
        self.started: dict[UUID, str] = {}  # in this round, and the pool

    def run(self) -> None:
        """Tick until `stopping`, at least once a second, at once when a writer notifies."""
        while not self.stopping:
            self.tick()
            self.wait()

    def wait(self) -> None:
        try:
            if self.listener is None or self.listener.closed:
                self.listener = psycopg.connect(database.conninfo(), autocommit=True, connect_timeout=2)
                self.listener.execute("LISTEN dispatch")
            for _ in self.listener.notifies(timeout=TICK_SECONDS, stop_after=1):
                pass
        except psycopg.Error:
            self.listener = None
            time.sleep(TICK_SECONDS)

    def tick(self) -> None:
        self.step(self.lose_leases)
        self.step(self.expire)
        self.step(self.drain, every=1)
        self.step(self.feed)
        self.step(self.send_again)
        self.step(self.renew_slots, every=2)
        self.step(self.free_orphans, every=30)
        if settings.SITES_REDIS_URL:
            self.step(self.grant, every=2)
        if settings.RABBITMQ_MANAGEMENT_URL:
            self.step(self.grant_in_rabbitmq, every=2)

    def step(self, work: Callable[[], None], *, every: float = 0) -> None:
        """One kind of repair; a server that is away, or a bug in one step, does not keep the others from their work."""
        now = time.monotonic()
        if every and now - self.last.get(work.__name__, -every) < every:
            return
        self.last[work.__name__] = now
        try:
            work()
        except valkey.Away as error:
            log.warning("step without Redis", extra={"step": work.__name__, "reason": type(error).__name__})
        except (DatabaseError, psycopg.Error) as error:
            log.warning("step without PostgreSQL", extra={"step": work.__name__, "reason": type(error).__name__})
            connection.close()
        except Exception:
            log.exception("step failed", extra={"step": work.__name__})

    def feed(self) -> None:
        """Give queued jobs the slots that are free."""
        waiting = sorted(database.run(backlog.next_in_line()), key=self.turn)
        if not waiting:
            return
        pools = {model: database.run(selectors.views(model)) for model in {row["model_id"] for row in waiting}}
        ranked: dict[tuple[int, places.Rule], list[placement.Candidate]] = {}
        full: set[tuple[int, places.Rule, bool]] = set()
        self.sending = True
        self.started = {}
        for row in waiting:
            rule = rule_of(row)
            which = row["model_id"], rule
            lane = *which, row["shard"]
            if lane not in full:
                if which not in ranked:
                    ranked[which] = placement.rank(pools[row["model_id"]], rule)
                with alone("placing", row["id"]):
                    if not self.assign(row, ranked[which]):
                        full.add(lane)
        self.record(waiting, {which for which, found in ranked.items() if any(not each.refusal for each in found)})

    def record(self, waiting: list[Row], served: set[tuple[int, places.Rule]]) -> None:
        """What started of what waited, for those who are told when theirs will. Who waits for a site, or for cheaper power, waits for no turn."""
        started: Counter[tuple[int, str, str]] = Counter()
        left: set[tuple[int, str]] = set()
        for row in waiting:
            lane = starts.lane(row["tier"], shard=row["shard"])
            if pool := self.started.get(row["id"]):
                started[row["model_id"], lane, pool] += 1
            elif row["max_usd_per_mwh"] is None and (row["model_id"], rule_of(row)) in served:
                left.add((row["model_id"], lane))
        starts.record(time.time(), started, left)

    def turn(self, row: Row) -> tuple[bool, int, int, bool, float]:
        """Who has a reserved slot free goes first; then standard work before flexible, and that before batches.

        Among equals nobody waits for longer than who was served last: slots come free one by one, and the line alone
        would give each to whoever came first. Work that somebody waits for goes before work that may wait.
        """
        served = self.served.get((row["model_id"], row["organization_id"]), 0.0)
        return not row["first"], row["rank"], row["turn"], not row["interactive"], served

    def assign(self, row: Row, ranked: list[placement.Candidate]) -> bool:
        """False where no pool of the model that the job may run at has a slot left.

        The first order that cannot be sent leaves the others to the outbox: each may take 2 s to fail.
        """
        attempt = row["attempt"] + 1
        holder = slots.holder(row["id"], attempt)
        try:
            chosen = slots.win(placement.affordable(ranked, row["max_usd_per_mwh"]), holder=holder, shard=row["shard"])
        except slots.Contended:
            return True
        if chosen is None:
            return row["max_usd_per_mwh"] is not None
        try:
            assigned = database.run(backlog.assign(row["id"], attempt=attempt, chosen=chosen, ranked=ranked))
        except BaseException as error:
            slots.free(slots.lane(chosen.pool.code, shard=row["shard"]), holder=holder)
            if isinstance(error, Unreadable):
                log.error("a request cannot be read", extra={"job": public("job", row["id"])})
                self.apply(ending.unreadable_plan(row["id"]))
                return True
            raise
        if assigned is None:
            slots.free(slots.lane(chosen.pool.code, shard=row["shard"]), holder=holder)
            return True
        order, topics = assigned
        self.started[row["id"]] = chosen.pool.code
        self.sending = self.sending and outbox.publish(order)
        bell.ring(*topics)
        if len(self.served) >= SERVED:
            self.served.clear()
        self.served[row["model_id"], row["organization_id"]] = time.monotonic()
        return True

    def lose_leases(self) -> None:
        """End, or send back, what a silent runner held."""
        away = False  # asked once: each question may take seconds to fail
        lease = settings.INTERACTIVE_LEASE_SECONDS
        given = {"deaf": sites.DEAF_SECONDS, "lease": lease, "suspect": placement.SUSPECT_SECONDS}
        frozen = database.run(guarding.frozen())
        for row in database.run(rows(LOST, frozen=frozen, heard=list(lifecycle.HEARD), **given)):
            entries: list[protocol.Entry] = []
            try:
                entries = [] if away else told(row)
            except valkey.Away:
                away = True
            if away and row["streaming"]:
                continue  # what the client has seen is unknown until Redis is back
            with alone("losing", row["id"]):
                self.apply(ending.lose_plan(row["id"], attempt=row["attempt"], entries=entries))
                log.warning(
                    "lease lost",
                    extra={"job": public("job", row["id"]), "attempt": row["attempt"], "pool": row["pool"]},
                )

    def expire(self) -> None:
        for row in database.run(rows(EXPIRED)):
            with alone("expiring", row["id"]):
                self.apply(ending.expire_plan(row["id"]))

    def drain(self) -> None:
        """Begin announced maintenance, send shards of draining nodes back to the line, note which nodes are empty."""
        for row in database.run(drains.due()):
            move(drains.begin(row))
        for row in database.run(draining.shards()):
            with alone("draining", row["id"]):
                self.apply(draining.give_back(row["id"], attempt=row["attempt"]))
                ending.tell_to_stop(row)
        for row in database.run(draining.emptied()):
            move(draining.note(row))

    def apply(self, plan: Plan[Outcome]) -> None:
        try:
            outcome = database.run(plan)
        except StaleState:
            return
        outcome.announce()

    def send_again(self) -> None:
        """The first that fails ends the round: a broker that hangs must not keep the other steps from their work."""
        for body in database.run(outbox.unclaimed()):
            if not outbox.send(body, queue=protocol.queue(body["pool"])):
                return

    def renew_slots(self) -> None:
        """Leases that ended while this wrote are freed again; whatever ends later frees its slot itself."""
        renewed = database.run(rows(LEASED))
        for row in renewed:
            slots.renew(slots.lane(row["pool"], shard=row["shard"]), holders=row["holders"])
        leased = {holder for row in database.run(rows(LEASED)) for holder in row["holders"]}
        for row in renewed:
            for holder in set(row["holders"]) - leased:
                slots.free(slots.lane(row["pool"], shard=row["shard"]), holder=holder)

    def grant(self) -> None:
        """What enrolled nodes may do in Redis is what PostgreSQL says of them, soon after it changes."""
        acl.grant(database.run(acl.nodes()))

    def grant_in_rabbitmq(self) -> None:
        rabbit.grant(database.run(acl.nodes()))

    def free_orphans(self) -> None:
        """A hold whose job has ended or never came to be: cannot happen while one transaction writes both, so it alarms."""
        for row in database.run(rows(ORPHANS, seconds=ORPHAN_SECONDS)):
            log.error("orphaned hold released", extra={"hold": row["key"]})
            try:
                database.run(ledger.release(row["key"]))
            except UniqueViolation:
                continue


def told(row: Row) -> list[protocol.Entry]:
    """What the attempt's stream holds, as far as it can be read. Raises `valkey.Away`."""
    key = protocol.stream(row["pool"], str(row["id"]), row["attempt"])
    try:
        found: list[Any] = valkey.client().xrange(key) or []
    except redis.ResponseError:  # no stream lies there: nothing a runner of ours writes
        found = []
    return [entry for _, fields in found if (entry := ending.readable(fields)) is not None]


def move(plan: Plan[None]) -> None:
    """A step of a node's life, which another dispatcher or a person may have taken first."""
    with contextlib.suppress(NodeMoved):
        database.run(plan)


@contextlib.contextmanager
def alone(doing: str, job_id: UUID) -> Iterator[None]:
    """One row that cannot be worked on keeps no other back; a server that is away ends the step."""
    try:
        yield
    except (*valkey.Away, DatabaseAway, psycopg.OperationalError):
        raise
    except Exception:
        log.exception("a job is stuck", extra={"job": public("job", job_id), "doing": doing})


def rule_of(row: Row) -> places.Rule:
    return None if row["residency"] is None else tuple(row["residency"])


def rows(sql: str, **params: object) -> Plan[list[Row]]:
    return (yield Statement(sql, params))
