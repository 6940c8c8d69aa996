"""What is stored of a job in English, in the reader's language: known by its form, with the values it holds."""

import re
from dataclasses import replace

import pytest
from django.utils import translation

from apps.dispatch import admission, ending, orders
from apps.dispatch.finishing import News, reason_of
from apps.jobs import reasons
from apps.ledger.statements import refusal
from apps.runner import resident
from apps.runner.execution import FAILURES
from apps.runner.protocol import Usage
from apps.scheduling.placement import rank
from tests.scheduling.test_placement import pool

LOST = "The site stopped answering while it worked on this."


@pytest.fixture
def chinese():
    with translation.override("zh-hans"):
        yield


@pytest.mark.usefixtures("chinese")
@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ("Waiting for a free GPU", "等待空闲 GPU"),
        ("Running at Georgia 1", "正在 Georgia 1 运行"),
        ("Georgia 1 is the one site ready for this model", "Georgia 1 是唯一可运行此模型的站点"),
        ("Waiting for a site: node silent for 7 s", "正在等待站点：节点已 7 秒没有消息"),
        (f"Attempt 2 ended: {LOST}", "第 2 次尝试已结束：站点在处理过程中停止响应。"),
        (f"{LOST} Nothing was charged.", "站点在处理过程中停止响应。未扣费。"),
        ("Stopping. Cancelled by the operator: fan is loud", "正在停止。已由运营方取消：fan is loud"),
        (
            "Cancelled by the operator: a; b; what was finished is kept and charged",
            "已由运营方取消：a; b；已完成的部分予以保留并扣费",
        ),
        ("Stopping. Cancelled by the operator: Billing", "正在停止。已由运营方取消：Billing"),
        ("Cancelled by the operator: Billing; nothing was charged", "已由运营方取消：Billing；未扣费"),
        ("Running at Usage", "正在 Usage 运行"),
        ("CUDA out of memory Nothing was charged.", "CUDA out of memory未扣费。"),
        ("what an engine said, 100%", "what an engine said, 100%"),
        ("", ""),
    ],
)
def test_a_stored_text_is_said_with_its_values(stored, said):
    assert reasons.said(stored) == said


@pytest.mark.usefixtures("chinese")
@pytest.mark.parametrize("kind", ["organization", "member", "key"])
def test_what_people_named_is_no_text_of_ours(kind):
    row = {"refused": "budget", "kind": kind, "title": "Usage", "period": "monthly", "most": 10, "used": 0}
    said = reasons.said(refusal(row, 7).message)
    assert "“Usage”" in said
    assert "每月" in said


def test_in_english_it_is_what_was_stored():
    assert reasons.said("Waiting for a site: node silent for 7 s") == "Waiting for a site: node silent for 7 s"


def placed():
    """What placement says, of pools that cannot work and of those that can."""
    away = [
        pool("A", draining=True),
        pool("A", silent_seconds=6.4),
        pool("A", silent_seconds=None),
        pool("A", ready=False),
        pool("A", ready=False, reason=resident.STARTING.reason),
        pool("A", node_state="draining"),
        pool("A", node_state="maintenance"),
        pool("A", node_state="quarantined"),
    ]
    yield from (each.refusal for each in rank([*away, pool("A", trusted=False)], ["US"]))
    yield from (admission.waiting_reason(rank([each])) for each in away)
    yield admission.waiting_reason([])
    yield admission.waiting_reason(rank([pool("A")], ["DE"]))
    for ranked in (rank([pool("A")]), rank([pool("A"), pool("A")]), rank([pool("A"), pool("A", country="DE")], ["US"])):
        yield orders.reason(ranked[0], ranked)


def ended():
    """How attempts and jobs end."""
    done = Usage(prompt_tokens=1, completion_tokens=1)
    for failure in (*FAILURES.values(), ending.LOST, None):
        yield from ([failure.message] if failure else [])
        news = News(state="failed", usage=done, energy=None, failure=failure, delivered=False, claimant="")
        yield from (reason_of("failed", news, delivered=delivered) for delivered in (False, True))
    for told in (news, replace(news, usage=Usage())):
        for state, by in (("succeeded", ""), ("cancelled", ""), ("cancelled", "Cancelled by the operator: 风扇")):
            yield reason_of(state, told, delivered=False, by=by)


def refused():
    """What a spender reads."""
    yield refusal({"refused": "owed", "owed": 5}, 7).message
    yield refusal({"refused": "credit", "available": 5}, 7).message
    for kind, title, used in (("organization", "", 0), ("member", "李", 10), ("key", "夜间", 0)):
        row = {"refused": "budget", "kind": kind, "title": title, "period": "monthly", "most": 10, "used": used}
        yield refusal(row, 7).message
        yield refusal({**row, "period": "total"}, 7).message


@pytest.mark.usefixtures("chinese")
@pytest.mark.parametrize("texts", [placed, ended, refused])
def test_what_the_portal_says_itself_is_known(texts):
    said = [reasons.said(each) for each in texts()]
    assert len(said) > 7
    english = re.compile(r"[A-Za-z]{2,} [A-Za-z]{2,}")
    assert [each for each in said if each and english.search(each)] == []
