"""What the portal wants a node to run, what the node says of it, and who gets work meanwhile."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator

import psycopg
import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from apps.agents import heartbeats
from apps.runner.protocol import Heartbeat, HeartbeatAnswer, PoolHealth, Wanted
from apps.scheduling import placement, selectors
from apps.sites import lifecycle, statements
from apps.sites.enrolment import Right
from apps.sites.models import Deployment, Pool
from cango_portal import database
from tests import make

SHA = "ab" * 32


@pytest.fixture
def pool(driver):
    model = make.model()
    node = make.node()
    deployment = Deployment.objects.create(site=node.site, model=model)
    return make.pool(model=model, node=node, deployment=deployment, ready=False)


def wanted(pool: Pool, version: str = "") -> Wanted | None:
    rows = database.run(statements.wanted([{"node": pool.node_id, "claimant": "c", "version": version}]))
    return Wanted(version=rows[0]["version"], pools=rows[0]["pools"]) if rows else None


def right(pool: Pool) -> Right:
    return Right(sha256=pool.node.token_sha256)


def beat(pool: Pool, **fields) -> None:
    health = PoolHealth(pool=pool.code, **{"ready": True, **fields})
    database.run(
        heartbeats.take([heartbeats.Beat(right(pool), Heartbeat(claimant="c", pools=[health]), None, pool.node_id)])
    )
    pool.refresh_from_db()


@contextlib.contextmanager
def dispatcher() -> Iterator[Callable[[], bool]]:
    """Call it: was a dispatcher woken since?"""
    with psycopg.connect(database.conninfo(), autocommit=True) as connection:
        connection.execute("LISTEN dispatch")
        yield lambda: bool(list(connection.notifies(timeout=0.05, stop_after=9)))


def test_the_line_moves_at_once_when_a_pool_or_a_node_changes(pool):
    with dispatcher() as woken:
        beat(pool)
        assert woken()
        beat(pool)
        assert not woken()
        database.run(lifecycle.step(pool.node_id, before="admitted", after="draining", reason="New fans"))
        assert woken()


def test_a_node_hears_what_it_is_to_run_until_it_has_heard_it(pool):
    make.pool(model=pool.model)  # another node's
    first = wanted(pool)
    assert first
    assert [(each.pool, each.state, each.weights, each.park_after_seconds) for each in first.pools] == [
        (pool.code, "ready", None, None)
    ]
    assert wanted(pool, first.version) is None
    Deployment.objects.update(weights_url="https://weights/a.gguf", weights_sha256=SHA, park_after_seconds=300)
    Pool.objects.filter(pk=pool.pk).update(desired="parked")
    (told,) = wanted(pool, first.version).pools
    assert (told.state, told.weights.url, told.weights.sha256, told.park_after_seconds) == (
        "parked", "https://weights/a.gguf", SHA, 300,
    )  # fmt: skip


def test_what_the_runner_says_of_a_model_is_written_and_measured_times_stay(pool):
    beat(pool, ready=False, state="loading", reason="the model is being loaded", fetch_seconds=61.5)
    assert (pool.ready, pool.state, pool.reason, pool.fetch_seconds, pool.load_seconds) == (
        False, "loading", "the model is being loaded", 61.5, None,
    )  # fmt: skip
    beat(pool, state="ready", load_seconds=8.2)
    assert (pool.ready, pool.state, pool.reason, pool.fetch_seconds, pool.load_seconds) == (
        True,
        "ready",
        "",
        61.5,
        8.2,
    )
    beat(pool, state="ready")  # a runner that was started again with all of it there
    assert (pool.fetch_seconds, pool.load_seconds) == (61.5, 8.2)
    assert pool.desired == "ready"
    beat(pool)  # an older runner
    assert (pool.ready, pool.state) == (True, "")


def test_another_nodes_pool_is_not_spoken_for(pool):
    other = make.pool(model=pool.model, ready=False)
    health = PoolHealth(pool=other.code, ready=True, state="ready")
    database.run(
        heartbeats.take([heartbeats.Beat(right(pool), Heartbeat(claimant="c", pools=[health]), None, pool.node_id)])
    )
    other.refresh_from_db()
    assert (other.ready, other.state) == (False, "")


def test_a_parked_model_takes_work_after_those_that_are_loaded(pool):
    loaded = make.pool(model=pool.model, node=make.node(site=make.site(power_usd_per_mwh=900)))
    partners = make.pool(model=pool.model, node=make.node(partner=make.partner()))
    beat(pool, state="parked", reason="parked: the next work loads it again")
    ranked = placement.rank(database.run(selectors.views(pool.model_id)))
    assert [each.pool.code for each in ranked] == [loaded.code, pool.code, partners.code]
    assert {each.refusal for each in ranked} == {""}
    beat(pool, ready=False, state="parked", reason="parked by the portal")
    ranked = placement.rank(database.run(selectors.views(pool.model_id)))
    assert {each.pool.code: each.refusal for each in ranked}[pool.code] == "parked by the portal"


@pytest.mark.parametrize(
    "fields",
    [
        {"pinned": True, "park_after_seconds": 60},
        {"weights_url": "https://weights/a.gguf"},
        {"weights_sha256": SHA},
        {"weights_url": "file:///etc/passwd", "weights_sha256": SHA},
        {"weights_url": "https://weights/a.gguf", "weights_sha256": "AB"},
    ],
)
def test_a_deployment_that_cannot_be_is_refused(pool, fields):
    deployment = Deployment.objects.get()
    for name, value in fields.items():
        setattr(deployment, name, value)
    with pytest.raises(ValidationError):
        deployment.full_clean()
    if not fields.get("weights_url", "").startswith("file") and fields.get("weights_sha256") != "AB":
        with pytest.raises(IntegrityError), transaction.atomic():
            deployment.save()


def test_the_answer_to_a_beat_says_it_once(pool):
    speaks = right(pool)

    async def beats() -> list[HeartbeatAnswer]:
        collector = heartbeats.Collector()
        first = await collector.add(speaks, Heartbeat(claimant="c", wanted=""))
        assert first.wanted
        second = await collector.add(speaks, Heartbeat(claimant="c", wanted=first.wanted.version))
        older = await collector.add(speaks, Heartbeat(claimant="c"))
        await database.close()
        return [first, second, older]

    first, second, older = asyncio.run(beats())
    assert first.wanted
    assert [each.pool for each in first.wanted.pools] == [pool.code]
    assert (second.wanted, older.wanted) == (None, None)
