"""What is stored of a job in English, in the reader's language: known by its form, with the values it holds."""

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import pytest
from django.conf import settings
from django.utils import translation
from pydantic import Field, create_model

from apps.core.errors import InvalidRequest
from apps.core.ids import uuid7
from apps.dispatch import ending, orders
from apps.dispatch.finishing import News, reason_of
from apps.jobs import reasons
from apps.keys.rates import window
from apps.keys.rates.limit import limit_of
from apps.keys.rates.window import Window
from apps.keys.rates.window import refusal as refusal_of
from apps.keys.services import Caller
from apps.ledger.statements import refusal
from apps.runner import resident
from apps.runner.execution import FAILURES
from apps.runner.protocol import Usage
from apps.scheduling.placement import rank, waits
from apps.wire import bodies, chat, responses
from apps.wire.chat import TextPart
from tests.scheduling.test_placement import pool

ENGLISH = re.compile(r"[A-Za-z]{2,} [A-Za-z]{2,}")
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
    yield from (waits(rank([each])) for each in away)
    yield waits([])
    yield waits(rank([pool("A")], ["DE"]))
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
    assert [each for each in said if each and ENGLISH.search(each)] == []


# What may be wrong with a request, in the code that says so: name of what is called, and which argument is the text.
SAYS = {
    **dict.fromkeys(
        ("InvalidRequest", "Unprocessable", "NotFound", "StorageFull", "Unavailable", "ModelNotAllowed", "NowhereAllowed",
         "TooManyTokens", "TooManyOpenJobs", "TooManyAtOnce", "RateLimited", "Unreadable"), 0,
    ),
    "PydanticCustomError": 1,
    "_invalid": 1,
    "wrong": 1,
}  # fmt: skip
MODULES = (
    *sorted(path.name and f"wire/{path.name}" for path in (settings.ROOT / "apps/wire").glob("*.py")),
    "batches/checking.py", "batches/endpoints.py", "dispatch/allowance.py", "dispatch/intake.py", "dispatch/situation.py",
    "files/content.py", "files/sealing.py", "files/services.py", "files/writing.py",
    "keys/rates/window.py",
)  # fmt: skip


def texts_of(node: ast.expr) -> Iterator[str]:
    """Each text an expression may be, with a number in the place of each value; none where it is a name."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield re.sub(r"\{\w+\}", "7", node.value)
    elif isinstance(node, ast.JoinedStr):
        yield "".join(part.value if isinstance(part, ast.Constant) else "7" for part in node.values)
    elif isinstance(node, ast.IfExp):
        yield from texts_of(node.body)
        yield from texts_of(node.orelse)
    elif isinstance(node, ast.BinOp):
        yield from (f"{left}{right}" for left in texts_of(node.left) for right in texts_of(node.right))


def complaints() -> Iterator[tuple[str, str]]:
    for module in MODULES:
        for node in ast.walk(ast.parse(Path(settings.ROOT / "apps" / module).read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in SAYS and len(node.args) > SAYS[name]:
                yield from ((module, text) for text in texts_of(node.args[SAYS[name]]) if " " in text)


@pytest.mark.usefixtures("chinese")
def test_whatever_is_wrong_with_a_request_is_said():
    found = sorted(set(complaints()))
    assert len(found) > 70
    assert [(module, text) for module, text in found if ENGLISH.search(reasons.said(text))] == []
    parts = [*chat.UNSUPPORTED.values(), *responses.UNSUPPORTED.values(), *chat.OTHER_PARTS.values(), *window.WORDS]
    assert [part for part in parts if part and ENGLISH.search(reasons.said(part))] == []


@pytest.mark.usefixtures("chinese")
@pytest.mark.parametrize(
    ("shape", "value", "words"),
    [
        (int, "1", "应为整数"),
        (str, 1, "应为字符串"),
        (bool, 1, "应为 true 或 false"),
        (float, "1", "应为数字"),
        (float, float("inf"), "应为有限的数字"),
        (list[int], 1, "应为列表"),
        (dict[str, int], 1, "应为对象"),
        (TextPart, 1, "应为对象（TextPart）"),
        (None, 1, "应为 null"),
        (Annotated[int, Field(ge=1)], 0, "应大于或等于 1"),
        (Annotated[int, Field(le=1)], 2, "应小于或等于 1"),
        (Annotated[int, Field(gt=1)], 1, "应大于 1"),
        (Annotated[int, Field(lt=1)], 1, "应小于 1"),
        (Annotated[list[int], Field(min_length=1)], [], "至少应有 1 项"),
        (Annotated[list[int], Field(min_length=2)], [], "至少应有 2 项"),
        (Annotated[list[int], Field(max_length=1)], [1, 2], "最多可有 1 项"),
        (Annotated[dict[str, int], Field(max_length=0)], {"a": 1}, "最多可有 0 项"),
        (Annotated[str, Field(min_length=1)], "", "至少应有 1 个字符"),
        (Annotated[str, Field(max_length=2)], "abc", "最多可有 2 个字符"),
        (Annotated[str, Field(pattern="^a$")], "b", "应符合模式 '^a$'"),
        (Literal["POST"], "GET", "应为 'POST'"),
        (Literal["auto", "low", "high"], 1, "应为 'auto', 'low' 或 'high'"),
    ],
)
def test_what_pydantic_says_of_a_value_is_known(shape, value, words):
    with pytest.raises(InvalidRequest) as refused:
        bodies.fit(create_model("Wrong", __base__=bodies.Shape, n=(shape, ...)), {"n": value})
    assert reasons.said(refused.value.message) == f"'n' 的值无效：{words}。"


@pytest.mark.usefixtures("chinese")
@pytest.mark.parametrize(
    ("stored", "said"),
    [
        ("Missing required parameter: 'body.model'.", "缺少必需的参数：'body.model'。"),
        ("Missing required parameter: 'messages[0].content'.", "缺少必需的参数：'messages[0].content'。"),
        ("Invalid value for 'method': it should be 'POST'.", "'method' 的值无效：应为 'POST'。"),
        (
            "Invalid value for 'service_tier': it should be 'auto', 'default' or 'flex'.",
            "'service_tier' 的值无效：应为 'auto', 'default' 或 'flex'。",
        ),
        (
            "The model 'acme/chat' does not do this; it is for embeddings. Use /v1/embeddings.",
            "模型 'acme/chat' 不能做这个；它用于向量嵌入。请使用 /v1/embeddings。",
        ),
        (
            "The custom_id 'starting' is used by an earlier line. Each must be its own.",
            "custom_id 'starting' 已被前面的行使用。每个 custom_id 必须唯一。",
        ),
        (
            "This organization, for the model acme/chat, at the tier flexible, may use 60 requests a minute: 60 are used "
            "and this request needs up to 1. Nothing was accepted or charged. Try again in 1.5s.",
            "此组织对模型 acme/chat 在弹性档位的限额为每分钟请求数 60：已使用 60，此请求最多需要 1。未接受请求，也未扣费。请在 1.5s 后重试。",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_values(stored, said):
    assert reasons.said(stored) == said


@pytest.mark.usefixtures("chinese")
@pytest.mark.parametrize("counter", ["org", "key"])
def test_a_rate_limit_is_told_for_whomever_it_is(counter):
    row = {"is_key": counter == "key", "requests_per_minute": 60, "input_tokens_per_minute": 9, "output_tokens_per_minute": 9, "concurrent_requests": 2}  # fmt: skip
    caller = Caller(organization_id=uuid7(), api_key_id=uuid7(), user_id=None)
    for model, tier in (("", ""), ("acme/chat", ""), ("", "standard"), ("acme/chat", "flexible")):
        now = Window(limit_of(caller, {**row, "model": model, "tier": tier}), requests=60)
        for metric in range(4):
            for needed in (1, 99):
                said = reasons.said(refusal_of([now], now, metric, (needed,) * 3, 1500).message)
                assert said.startswith("此 API 密钥" if counter == "key" else "此组织")
                assert not ENGLISH.search(said), said
