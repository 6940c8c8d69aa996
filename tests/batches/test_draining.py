"""A shard at a node that drains goes on elsewhere: no row is lost, none is charged twice, and it is no try of the shard's."""

import pytest

from apps.batches.models import Row
from apps.dispatch import draining
from apps.dispatch.dispatcher import Dispatcher
from apps.jobs.models import Job
from apps.runner.protocol import control
from apps.scheduling import slots
from apps.sites import drains
from apps.sites.models import Node, Pool
from cango_portal import database
from tests import make
from tests.batches.works import deliver, finished, some, started


def drain(node: Node) -> None:
    staff = make.user(is_staff=True)
    drains.drain(node=node, purpose="drain", seconds=600, reason="New fans", actor=staff)


def state_of(shard: Job) -> tuple[str, int]:
    shard.refresh_from_db()
    return shard.state, shard.attempt


@pytest.mark.parametrize("how", ["node", "pool"])
def test_a_shard_goes_on_elsewhere_and_no_row_is_lost_or_charged_twice(works, valkey, how):
    batch = works.begin(4)
    (shard,) = works.feed()
    deliver(started(shard))
    deliver(some(shard, [1, 2]))
    late = some(shard, [3])
    taken = slots.lane(works.pool.code, shard=True)
    if how == "node":
        drain(works.pool.node)
    else:
        Pool.objects.filter(pk=works.pool.pk).update(draining=True)
    Dispatcher().drain()
    assert state_of(shard) == ("queued", 1)
    assert valkey.zcard(slots.key(taken)) == 0
    ((_, told),) = valkey.xrange(control("runner-1"))
    assert '"stop"' in told["e"]
    assert not deliver(late).outcome.accepted
    assert works.feed() == []
    make.pool(model=works.model)
    assert works.feed() == [shard]
    deliver(finished(shard, [3, 4], claimant="runner-2"))
    assert state_of(shard) == ("succeeded", 2)
    assert sorted(Row.objects.values_list("line", flat=True)) == [1, 2, 3, 4]
    works.finalize(batch)
    works.correct(batch)


def test_only_shards_at_nodes_and_pools_that_are_emptied_go_back_and_only_their_attempt(works):
    works.begin(2)
    (shard,) = works.feed()
    given_back = set()
    for state in Node.State:
        Node.objects.filter(pk=works.pool.node_id).update(state=state)
        if [row["id"] for row in database.run(draining.shards())] == [shard.pk]:
            given_back.add(state)
    assert given_back == {"draining", "maintenance"}
    assert not database.run(draining.give_back(shard.pk, attempt=2)).accepted
    Node.objects.update(state="draining")
    Job.objects.filter(pk=shard.pk).update(batch_id=None)
    assert database.run(draining.shards()) == []
    assert not database.run(draining.give_back(shard.pk, attempt=1)).accepted
    assert state_of(shard) == ("dispatched", 1)


def test_a_drain_is_no_try_of_a_shard(works, valkey, settings):
    settings.BATCH_SHARD_ATTEMPTS = 2
    works.begin(2)
    (shard,) = works.feed()
    drain(works.pool.node)
    Dispatcher().drain()
    make.pool(model=works.model)
    states = []
    for _ in range(2):
        works.feed()
        deliver(finished(shard, []))
        states.append(state_of(shard))
    assert states == [("queued", 2), ("failed", 3)]


def test_a_shard_that_ended_there_is_not_looked_at_again(works):
    works.begin(2)
    (shard,) = works.feed()
    deliver(started(shard))
    drain(works.pool.node)
    assert [row["id"] for row in database.run(draining.shards())] == [shard.pk]
    deliver(finished(shard))
    assert state_of(shard) == ("succeeded", 1)
    assert database.run(draining.shards()) == []
