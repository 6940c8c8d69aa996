"""A machine asks to be taken out of work, and sees itself as the portal does."""

import asyncio

import httpx
import pytest

from apps.agents.door import application
from apps.dispatch.dispatcher import Dispatcher
from apps.sites import drains
from apps.sites.models import Drain, Node, NodeEvent
from cango_portal import database
from tests import make
from tests.dispatch import site
from tests.threads import one_after_the_other

WISH = {"reason": "New fans", "seconds": 300}


@pytest.fixture
def node(shop):
    shop.pool.node = make.node(token="cnode_right")
    shop.pool.save()
    return shop.pool.node


def call(method: str, path: str, *, token: str = "cnode_right", **fields) -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://portal") as client:
            answer = await client.request(
                method, f"/agent/v1/{path}", headers={"Authorization": f"Bearer {token}"}, **fields
            )
        await database.close()
        return answer

    return asyncio.run(ask())


def test_a_machine_is_drained_and_hears_when_it_is_empty(shop, valkey, node):
    running = shop.submit()
    site.deliver(site.report(running, "started"))
    told = call("POST", "drain", json=WISH).json()
    assert (told["node"], told["site"], told["state"], told["running"]) == (node.code, node.site.code, "draining", 1)
    assert told["drain"] == {
        "purpose": "drain", "reason": "At the machine: New fans", "left_seconds": pytest.approx(300, abs=5), "drained": False,
    }  # fmt: skip
    event = NodeEvent.objects.get()
    assert (event.after, event.actor, event.reason) == ("draining", None, "At the machine: New fans")
    again = call("POST", "drain", json={"reason": "Twice", "seconds": 1}).json()
    assert again["drain"]["left_seconds"] == pytest.approx(300, abs=5)  # the one under way goes on
    assert (Drain.objects.count(), NodeEvent.objects.count()) == (1, 1)
    assert shop.submit().state == "queued"
    site.deliver(site.report(running))
    Drain.objects.update(began_at=Drain.objects.get().began_at.replace(year=2020))
    Dispatcher().drain()
    told = call("GET", "node").json()
    assert (told["running"], told["drain"]["drained"]) == (0, True)
    drains.move(node=Node.objects.get(pk=node.pk), after="admitted", reason="Done", actor=make.user(is_staff=True))
    told = call("GET", "node").json()
    assert (told["state"], told["drain"]) == ("admitted", None)


def test_two_who_ask_at_once_are_both_answered(transactional_db):
    node = make.node()
    both = (drains.ask(node.pk, seconds=300, reason="New fans") for _ in range(2))
    assert one_after_the_other(*both) == [None, None]
    assert (Drain.objects.count(), NodeEvent.objects.count()) == (1, 1)


@pytest.mark.parametrize("state", ["burn-in", "maintenance"])
def test_only_a_node_at_work_is_drained(shop, node, state):
    Node.objects.filter(pk=node.pk).update(state=state)
    answer = call("POST", "drain", json=WISH)
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "node_state")
    assert Node.objects.get(pk=node.pk).state == state
    assert (Drain.objects.count(), NodeEvent.objects.count()) == (0, 0)


@pytest.mark.parametrize("wish", [{"reason": "", "seconds": 1}, {"reason": "x", "seconds": -1}, {"reason": "x"}])
def test_a_wish_without_reason_or_deadline_changes_nothing(shop, node, wish):
    assert call("POST", "drain", json=wish).status_code == 400
    assert Node.objects.get(pk=node.pk).state == "admitted"
    assert not Drain.objects.exists()


def test_nobody_drains_another_node(shop, node):
    assert call("POST", "drain", json=WISH, token="cnode_wrong").status_code == 401
    assert call("GET", "node", token="cnode_wrong").status_code == 401
    assert not Drain.objects.exists()
