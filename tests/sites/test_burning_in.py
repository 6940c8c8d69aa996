"""A node is admitted when what was asked of it in burn-in was right; what was measured is kept as curves."""

import pytest
from django.core.exceptions import ValidationError

from apps.accounts.models import AuditEvent
from apps.core.sql import Plan
from apps.runner.protocol import BurnInResult, Finding, Level, Wanted
from apps.sites import burning_in, drains, lifecycle, statements
from apps.sites.burning_in import NotTested
from apps.sites.models import BurnIn, GoldenPrompt, Node, NodeEvent, PowerCurve, SpeedCurve
from cango_portal import database
from tests import make
from tests.threads import one_after_the_other

GOOD = Finding(good=True, text="golden prompt 1: right")
BAD = Finding(good=False, text='golden prompt 2: it answers "no", without "yes"')


@pytest.fixture
def staff(driver):
    return make.user(is_staff=True)


@pytest.fixture
def pool(driver):
    """On a node that entered burn-in as nodes do."""
    made = make.pool(model=make.model(), node=make.node(state="pending"))
    database.run(lifecycle.step(made.node_id, before="pending", after="burn-in", reason="Enrolled"))
    made.node.refresh_from_db()
    return made


def step(pool) -> int:
    return NodeEvent.objects.filter(node=pool.node, after="burn-in").latest("pk").pk


def result(of, *findings: Finding, **fields) -> BurnInResult:
    findings = findings or (GOOD,)
    return BurnInResult(
        **{
            "pool": of.code, "test": step(of), "passed": all(each.good for each in findings), "findings": findings,
            "seconds": 61.0, "gpu": "NVIDIA H200", "driver": "570.86.15", "idle_w": 117.0, "quality": "counter",
            "levels": [
                Level(concurrency=1, seconds=5, requests=3, tokens_per_second=140.5, first_token_seconds=0.04, power_w=477),
                Level(concurrency=4, seconds=5, requests=9, tokens_per_second=520, power_w=None),
            ],
            **fields,
        }
    )  # fmt: skip


def record(of, *findings: Finding, **fields) -> bool:
    return database.run(burning_in.record(of.node_id, result(of, *findings, **fields))).accepted


def asked(pool) -> int | None:
    rows = database.run(statements.wanted([{"node": pool.node_id, "claimant": "c", "version": ""}]))
    return {each.pool: each.test for each in Wanted(version="x", pools=rows[0]["pools"]).pools}[pool.code]


def admit(pool, staff, **fields) -> None:
    drains.move(node=Node.objects.get(pk=pool.node_id), after="admitted", reason="It is well", actor=staff, **fields)


def refused(pool, staff, words: str) -> None:
    before = NodeEvent.objects.count(), AuditEvent.objects.count()
    with pytest.raises(NotTested, match=words):
        admit(pool, staff)
    assert Node.objects.get(pk=pool.node_id).state != "admitted"
    assert (NodeEvent.objects.count(), AuditEvent.objects.count()) == before


def test_a_result_is_asked_for_until_it_is_here_and_kept_as_curves(pool):
    assert asked(pool) == step(pool)
    assert record(pool)
    assert asked(pool) is None
    made = BurnIn.objects.get()
    assert (made.pool, made.passed, made.gpu, made.driver, made.wrong) == (pool, True, "NVIDIA H200", "570.86.15", "")
    speeds = SpeedCurve.objects.order_by("concurrency").values_list("model", "gpu", "driver", "concurrency", "tokens_per_second", "first_token_seconds")  # fmt: skip
    about = (pool.model_id, "NVIDIA H200", "570.86.15")
    assert list(speeds) == [(*about, 1, 140.5, 0.04), (*about, 4, 520.0, None)]
    powers = PowerCurve.objects.order_by("concurrency").values_list("concurrency", "power_w", "quality")
    assert list(powers) == [(0, 117.0, "counter"), (1, 477.0, "counter")]  # no reading is no point
    assert {each.at for each in SpeedCurve.objects.all()} == {made.at}
    assert record(pool, BAD) is False  # it came once
    assert BurnIn.objects.get().passed


def test_without_a_meter_there_is_no_power_curve(pool):
    assert record(pool, quality=None, idle_w=None)
    assert (SpeedCurve.objects.count(), PowerCurve.objects.count()) == (2, 0)


def test_a_result_of_another_test_node_or_state_is_not_taken(pool, staff):
    other = make.pool(model=pool.model)
    assert record(pool, test=step(pool) - 1) is False
    assert record(pool, pool=other.code) is False
    assert database.run(burning_in.record(other.node_id, result(pool, pool=other.code))).accepted is False
    admit(pool, staff, untested=True)
    assert asked(pool) is None  # a node at work is not tested
    assert record(pool) is False
    assert not BurnIn.objects.exists()


@pytest.mark.parametrize(
    "told", [{"findings": [BAD], "passed": True}, {"findings": [], "passed": True}, {"passed": False}]
)
def test_only_what_says_so_and_found_something_and_all_of_it_good_has_passed(pool, told):
    record(pool, **told)
    assert BurnIn.objects.get().passed is False


def test_a_node_is_admitted_when_all_its_pools_passed(pool, staff):
    second = make.pool(model=pool.model, node=pool.node)
    refused(pool, staff, f"Pool {pool.code} has no burn-in result yet")
    record(pool)
    refused(pool, staff, f"Pool {second.code} has no burn-in result yet")
    record(second)
    admit(pool, staff)
    assert Node.objects.get(pk=pool.node_id).state == "admitted"


def test_one_that_failed_is_refused_in_its_own_words_and_tested_again(pool, staff):
    record(pool, GOOD, BAD)
    refused(pool, staff, 'failed its burn-in: golden prompt 2: it answers "no", without "yes"')
    node = Node.objects.get(pk=pool.node_id)
    drains.move(node=node, after="maintenance", reason="New fans", actor=staff)
    refused(pool, staff, "failed its burn-in")  # nor by a way around
    drains.move(node=node, after="burn-in", reason="Tested again", actor=staff)
    assert asked(pool) == step(pool)
    refused(pool, staff, "no burn-in result yet")  # the old one is of before
    record(pool)
    admit(pool, staff)
    node.refresh_from_db()
    drains.drain(node=node, purpose="drain", seconds=1, reason="Fans", actor=staff)
    admit(pool, staff)  # from draining it needs no other


def test_who_admits_a_node_while_it_is_tested_again_is_refused(transactional_db):
    pool = make.pool(model=make.model(), node=make.node(state="pending"))
    database.run(lifecycle.step(pool.node_id, before="pending", after="burn-in", reason="Enrolled"))
    record(pool)

    def again() -> Plan[None]:
        yield from lifecycle.step(pool.node_id, before="burn-in", after="maintenance", reason="New fans")
        yield from lifecycle.step(pool.node_id, before="maintenance", after="burn-in", reason="Tested again")

    def admitted() -> Plan[None]:
        yield from burning_in.check(pool.node_id, untested=False)
        yield from lifecycle.step(pool.node_id, before="burn-in", after="admitted", reason="It is well")

    _, outcome = one_after_the_other(again(), admitted())
    assert isinstance(outcome, NotTested)
    assert Node.objects.get().state == "burn-in"


def test_staff_may_admit_it_all_the_same_and_that_is_kept(pool, staff):
    record(pool, BAD)
    admit(pool, staff, untested=True)
    assert Node.objects.get(pk=pool.node_id).state == "admitted"
    event = AuditEvent.objects.get(action="node.admitted")
    assert (event.reason, event.data) == ("It is well", {"before": "burn-in", "untested": True})


def test_a_node_without_pools_or_a_known_step_is_not_tested(staff):
    node = make.node(state="burn-in")
    with pytest.raises(NotTested, match="no pool"):
        drains.move(node=node, after="admitted", reason="It is well", actor=staff)
    make.pool(model=make.model(), node=node)
    with pytest.raises(NotTested, match="no burn-in result"):
        drains.move(node=node, after="admitted", reason="It is well", actor=staff)
    assert not NodeEvent.objects.exists()


def test_golden_prompts_reach_the_nodes_of_their_model(pool):
    body = {"messages": [{"role": "user", "content": "Capital of France?"}]}
    GoldenPrompt.objects.create(model=pool.model, body=body, expects={"contains": "Paris"})
    GoldenPrompt.objects.create(model=make.model(), body=body, expects={"contains": "Rome"})
    rows = database.run(statements.wanted([{"node": pool.node_id, "claimant": "c", "version": ""}]))
    (told,) = Wanted(version="x", pools=rows[0]["pools"]).pools
    assert [(each.body, each.contains, each.max_completion_tokens) for each in told.golden] == [(body, "Paris", 16)]


@pytest.mark.parametrize(
    "expects", [{}, [], {"contains": " "}, {"contains": "a", "best": 0}, {"best": -1}, {"best": True}, {"vector": []}, {"vector": ["a"]}, {"says": "a"}],
)  # fmt: skip
def test_a_golden_prompt_without_a_known_answer_is_refused(pool, expects):
    with pytest.raises(ValidationError):
        GoldenPrompt(model=pool.model, body={"messages": []}, expects=expects).full_clean()


@pytest.mark.parametrize("expects", [{"contains": "Paris"}, {"best": 0}, {"vector": [0.5, 1]}])
def test_a_golden_prompt_with_one_is_taken(pool, expects):
    GoldenPrompt(model=pool.model, body={"messages": []}, expects=expects).full_clean()
