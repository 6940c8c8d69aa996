"""A machine from enrolment to work: its runner process measures two pools, one of them on llama.cpp, and what it reports decides
whether Admit in the admin takes it."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import redis
from django.test import Client

from apps.accounts.models import AuditEvent
from apps.jobs.models import Job
from apps.ledger.models import Transfer
from apps.runner import models
from apps.sites.models import BurnIn, GoldenPrompt, NodeEvent, PowerCurve, SpeedCurve
from tests import make
from tests.admin.test_actions import act
from tests.engine import MODEL, Running, running
from tests.gateway.portal import serving
from tests.machines import Machine, dispatching, until
from tests.servers import servers

pytestmark = pytest.mark.timeout(300)

WATTS = 300.0
QUESTION = {"messages": [{"role": "user", "content": "What happens at the site?"}]}


@pytest.fixture
def site(transactional_db: None, valkey: redis.Redis, settings: Any, tmp_path: Path) -> Iterator[SimpleNamespace]:
    """A node that was described, its two pools, and a golden prompt for each; the one for llama.cpp has an answer it does not give."""
    settings.SITES_REDIS_URL = settings.SITES_BROKER_URL = servers.redis_url
    files = tmp_path / "models"
    models.make(files)
    staff = make.user(is_staff=True, is_superuser=True)
    client = Client()
    client.force_login(staff)
    _, secret = make.api_key(make.organization(credit_microusd=1_000_000))
    node = make.node(state="pending", heartbeat_at=None, expected_gpus=0)
    small, large = make.model(max_queue_seconds=3), make.model(max_queue_seconds=3)
    for model, code, slots in ((small, "llama", 1), (large, "gpu", 2)):
        make.pool(model=model, node=node, code=code, slots=slots, ready=False)
    golden = GoldenPrompt.objects.create(model=small, body=QUESTION, expects={"contains": "Paris"})
    GoldenPrompt.objects.create(model=large, body=QUESTION, expects={"contains": "the site sells its spare power"})
    with serving() as portal, running(tokens_per_second=100) as engine, dispatching():
        machine = Machine(tmp_path / "machine", portal=portal.url, node=node)
        try:
            yield SimpleNamespace(
                url=portal.url, client=client, secret=secret, node=node, small=small, large=large, golden=golden,
                machine=machine, files=files, engine=engine, staff=staff, nvml=nvml(tmp_path / "nvml.json"),
            )  # fmt: skip
        finally:
            machine.stop()


def nvml(lies: Path) -> list[str]:
    wave = {"since": 0.0, "base_w": WATTS, "swing_w": 0.0, "period_s": 60.0}
    lies.write_text(json.dumps({"gpus": 1, "uuids": ["GPU-7"], "wave": wave}))
    return [sys.executable, "-m", "tests.runner.fake_nvml", str(lies)]


def start(site: SimpleNamespace, engine: Running) -> None:
    llama = {"code": "llama", "kind": "chat", "slots": 1, "engine": "llama", "model": "demo", "gguf": models.CHAT_FILE}
    gpu = {"code": "gpu", "kind": "chat", "slots": 2, "engine": "url", "url": engine.url, "model": MODEL}
    site.machine.start(llama, gpu, models_dir=str(site.files), nvml_command=site.nvml)


def results(site: SimpleNamespace) -> dict[str, BurnIn]:
    """Of the newest step into burn-in, once there is one of each pool."""

    def all_of_them() -> dict[str, BurnIn]:
        step = NodeEvent.objects.filter(node=site.node, after="burn-in").latest("pk")
        found = {test.pool.code: test for test in BurnIn.objects.filter(step=step).select_related("pool")}
        return found if len(found) == 2 else {}

    found: dict[str, BurnIn] = until(all_of_them, seconds=120, story=site.machine.story)
    return found


def refused(site: SimpleNamespace, words: str) -> None:
    before = NodeEvent.objects.count(), AuditEvent.objects.count()
    answer = act(site.client, "sites_node", "admit", site.node, reason="It is well")
    page = site.client.get(answer.url).content.decode() if answer.status_code == 302 else answer.content.decode()
    assert words in page
    site.node.refresh_from_db()
    assert site.node.state == "burn-in"
    assert (NodeEvent.objects.count(), AuditEvent.objects.count()) == before


def chat(site: SimpleNamespace, model: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer {site.secret}"}
    body = {"model": model.name, **QUESTION, "max_tokens": 8}
    return httpx.post(f"{site.url}/v1/chat/completions", json=body, headers=headers, timeout=30)


def test_what_a_runner_measures_decides_whether_its_node_gets_work(site: SimpleNamespace) -> None:
    site.machine.enroll(by=site.staff)
    assert site.node.state == "burn-in"
    refused(site, "has no burn-in result yet")
    start(site, site.engine)
    first = results(site)
    assert {code: test.passed for code, test in first.items()} == {"llama": False, "gpu": True}, first["gpu"].findings
    wrong = next(each["text"] for each in first["llama"].findings if not each["good"])
    assert wrong.startswith("golden prompt 1: it answers ")
    refused(site, "Pool llama failed its burn-in: golden prompt 1")
    assert chat(site, site.large).status_code == 503  # ready and well, and not admitted
    assert not Job.objects.filter(attempt__gt=0).exists()
    assert not Transfer.objects.filter(credit="revenue").exists()

    said = re.search(r'"(.+)", without "Paris"', wrong)
    assert said
    site.golden.expects = {"contains": said[1].split(".")[0]}
    site.golden.save()
    for action, fields in (("maintain", {"minutes": 0}), ("test_again", {})):
        assert (
            act(site.client, "sites_node", action, site.node, reason="The prompt was wrong", **fields).status_code
            == 302
        )
    second = results(site)
    assert all(test.passed for test in second.values()), {code: test.findings for code, test in second.items()}
    assert act(site.client, "sites_node", "admit", site.node, reason="It is well").status_code == 302
    site.node.refresh_from_db()
    assert site.node.state == "admitted"
    for model in (site.small, site.large):
        answer = chat(site, model)
        assert answer.status_code == 200, answer.text
        assert 0 < answer.json()["usage"]["completion_tokens"] <= 8

    curves = measured(second)
    assert set(curves) == {"llama", "gpu"}
    assert all(tokens > 1 for _, tokens in curves["llama"])
    assert [concurrency for concurrency, _ in curves["llama"]] == [1]
    (_, alone), (_, both) = curves["gpu"]
    assert 10 < alone <= 110  # the engine says 100 tokens a second to each, and a busy machine fewer
    assert alone < both <= 220
    powers = PowerCurve.objects.filter(burn_in=second["gpu"]).order_by("concurrency")
    assert [(point.concurrency, point.quality) for point in powers] == [(0, "counter"), (1, "counter"), (2, "counter")]
    assert [point.power_w for point in powers] == pytest.approx([WATTS] * 3, rel=0.1)
    assert {(point.gpu, point.driver) for point in powers} == {("NVIDIA H200", "570.86.15")}
    assert set(PowerCurve.objects.filter(burn_in=second["llama"]).values_list("quality", flat=True)) == {"modelled"}


def measured(tests: dict[str, BurnIn]) -> dict[str, list[tuple[int, float]]]:
    return {
        code: list(
            SpeedCurve.objects.filter(burn_in=test)
            .order_by("concurrency")
            .values_list("concurrency", "tokens_per_second")
        )
        for code, test in tests.items()
    }
