"""A node in burn-in hears by its heartbeat that it is to be tested, and tells what was found through the door."""

import asyncio
import json

import httpx
import pytest

from apps.agents.door import application
from apps.runner.protocol import BurnInResult, Finding, HeartbeatAnswer, Level
from apps.sites import lifecycle
from apps.sites.models import BurnIn, SpeedCurve
from cango_portal import database
from tests import make


@pytest.fixture
def pool(driver):
    made = make.pool(model=make.model(), node=make.node(token="cnode_right", state="pending"))
    database.run(lifecycle.step(made.node_id, before="pending", after="burn-in", reason="Enrolled"))
    return made


def call(path: str, content: str, *, token: str = "cnode_right") -> httpx.Response:
    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://portal") as client:
            headers = {"Authorization": f"Bearer {token}"}
            answer = await client.post(f"/agent/v1/{path}", headers=headers, content=content)
        await database.close()
        return answer

    return asyncio.run(ask())


def wanted(version: str = "") -> HeartbeatAnswer:
    return HeartbeatAnswer.model_validate(call("heartbeat", f'{{"claimant": "a", "wanted": "{version}"}}').json())


def test_it_is_asked_for_tells_and_is_asked_no_more(pool):
    first = wanted().wanted
    assert first
    (desired,) = first.pools
    assert desired.test is not None
    assert wanted(first.version).wanted is None
    level = Level(concurrency=1, seconds=5, requests=3, tokens_per_second=140)
    good = [Finding(good=True, text="golden prompt 1: right")]
    told = BurnInResult(
        pool=pool.code, test=desired.test, passed=True, findings=good, seconds=30, levels=[level]
    ).model_dump_json()
    assert call("burn-in", told, token="cnode_wrong").status_code == 401
    assert not BurnIn.objects.exists()
    assert call("burn-in", told).json() == {"accepted": True}
    assert call("burn-in", told).json() == {"accepted": False}  # an answer that was lost
    assert (BurnIn.objects.get().passed, SpeedCurve.objects.get().tokens_per_second) == (True, 140)
    second = wanted(first.version).wanted
    assert second
    assert [each.test for each in second.pools] == [None]


@pytest.mark.parametrize("wrong", [{"concurrency": 0}, {"seconds": 0}, {"tokens_per_second": -1}, {"power_w": 1e9}])
def test_what_cannot_be_measured_is_refused(pool, wrong):
    level = {"concurrency": 1, "seconds": 5, "requests": 3, "tokens_per_second": 140} | wrong
    test = wanted().wanted.pools[0].test
    given = {"pool": pool.code, "test": test, "passed": True, "findings": [], "seconds": 1, "levels": [level]}
    assert call("burn-in", json.dumps(given)).status_code == 400
    assert not BurnIn.objects.exists()
