"""The audit log of an organization: what is in it, for whom, and that nobody changes it."""

import csv
import io
import re
from datetime import UTC, datetime, timedelta

import pytest
import time_machine
from django.conf import settings
from django.db import IntegrityError, connection, transaction
from django.test import Client
from django.utils import translation

from apps.accounts import audit, trail, witness
from apps.accounts.models import AuditEvent
from tests import make

PATH = "/settings/audit/"


@pytest.fixture
def owner(db):
    user = make.user(email="lena@meridian.example")
    make.organization(owner=user)
    return user


@pytest.fixture
def page(owner) -> Client:
    return signed_in(owner)


def signed_in(user) -> Client:
    client = Client()
    client.force_login(user, "allauth.account.auth_backends.AuthenticationBackend")
    return client


def rows(answer) -> list[str]:
    body = answer.content.decode().partition("<tbody")[2].partition("</tbody>")[0]
    return [" ".join(re.sub(r"<[^>]+>", " ", row).split()) for row in body.split("<tr")[1:]]


def test_who_did_what_when_from_where(owner, page):
    with time_machine.travel(datetime(2026, 11, 29, 10, 0, tzinfo=UTC), tick=False):
        page.post("/settings/organization/", {"name": "Meridian", "keep_text_days": "7"}, REMOTE_ADDR="2001:db8::7")
    event = AuditEvent.objects.get()
    [row] = rows(page.get(PATH))
    assert row.startswith('role="row"> Organization changed name: Meridian Foods → Meridian keep text days: 30 → 7 ')
    assert f"{owner.organizations.get().public_id} lena@meridian.example 2001:db8::7 29 Nov 2026" in row
    assert event.address == "2001:db8::7"


@pytest.mark.story
def test_it_is_fed_by_money_keys_members_and_settings(owner, page):
    organization = owner.organizations.get()
    staff = make.user(is_staff=True, email="ops@cango.example")
    audit.record(
        organization=organization,
        actor=staff,
        action="credit.granted",
        target="g",
        reason="Trial",
        data={"amount_microusd": 5_000_000},
    )
    page.post("/keys/new/", {"name": "sync", "scopes": ["inference"]})
    page.post("/settings/members/invite/", {"email": "sam@meridian.example", "role": "billing"})
    page.post("/billing/limits/organization/", {"monthly": "100"})
    audit.record(organization=organization, actor=None, action="webhook.disabled", target="we_1", reason="No answer")
    audit.record(organization=make.organization(name="Theirs"), actor=None, action="api_key.created", target="theirs")
    found = [re.sub(r"^.*?> ", "", row) for row in rows(page.get(PATH))]
    whats = ["Webhook disabled", "Limits changed", "Member invited", "API key created", "Credit granted"]
    assert [next(what for what in whats if row.startswith(what)) for row in found] == whats
    assert "Reason: No answer" in found[0]
    assert "Cango Portal –" in found[0]
    assert "monthly: none → $100.00" in found[1]
    assert "amount: $5.00 Reason: Trial g Staff of Cango Portal –" in found[4]
    assert "ops@cango.example" not in page.get(PATH).content.decode()
    for query, count in (
        ("kind=keys", 1),
        ("kind=money", 2),
        ("who=staff", 1),
        ("who=portal", 1),
        (f"who={owner.pk}", 3),
        ("who=key", 0),
        (f"who={owner.pk}&kind=members", 1),
        ("until=2020-01-01", 0),
        ("since=2020-01-01", 5),
    ):
        assert len(rows(page.get(f"{PATH}?{query}"))) == count, query
    assert page.get(f"{PATH}?who={staff.pk}").status_code == 422  # nobody's number is tried out here
    table = list(csv.reader(io.StringIO(page.get("/settings/audit.csv?kind=money").getvalue().decode("utf-8-sig"))))
    assert [row[2] for row in table] == ["action", "limits.changed", "credit.granted"]
    assert table[2][1] == "Staff of Cango Portal"


def test_what_the_portal_calls_things_is_in_the_readers_language(owner, page):
    owner.language = "zh-hans"
    owner.save()
    organization = owner.organizations.get()
    for action, actor, reason, data in (
        ("member.role_changed", owner, "billing", {"from": "viewer", "to": "developer"}),
        ("member.invited", owner, "", {"role": "admin"}),
        ("api_key.revoked", owner, "replaced", {"prefix": "cango_1"}),
        ("organization.changed", owner, "", {"name": {"from": "owner", "to": "developer"}}),
        ("credit.bought", owner, "", {"amount_cents": 500, "source": "automatic"}),
        ("webhook.disabled", None, "No event arrived for three days.", {}),
    ):
        audit.record(organization=organization, actor=actor, action=action, target="t", reason=reason, data=data)
    assert [row.partition("> ")[2].partition(" t ")[0].partition(" cango_1")[0] for row in rows(page.get(PATH))] == [
        "停用 Webhook 原因：三天内没有事件送达。",
        "购买额度 来源：自动 金额：$5.00",
        "更改组织 名称：owner → developer",
        "吊销 API 密钥 原因：已更换",
        "邀请成员 角色：管理员",
        "更改成员角色 查看者 → 开发者 原因：billing",
    ]


ACTS = re.compile(r'action="([a-z_]+\.[a-z_]+)"|recorded\(\w+, "([a-z_]+\.[a-z_]+)"')
# Of the portal's own things: in no organization's log.
STAFF = ("freeze.", "gpu.", "incident.", "meter.", "node.", "pool.", "stripe_event.", "user.")


def test_every_act_has_words_in_the_second_language():
    found = {
        next(filter(None, act))
        for path in (settings.ROOT / "apps").rglob("*.py")
        for act in ACTS.findall(path.read_text())
    } | {f"{noun}.{verb}" for noun in witness.NOUNS.values() for verb in ("added", "removed")}
    found = {act for act in found if not act.startswith(STAFF)}
    assert len(found) > 35
    with translation.override("zh-hans"):
        said = {act: trail.Entry(AuditEvent(action=act), staff=False).what for act in found}
    assert {act: what for act, what in said.items() if not re.search("[\u4e00-\u9fff]", what)} == {}


def test_pages_are_cut_by_key(owner, page, django_assert_max_num_queries):
    organization = owner.organizations.get()
    at = datetime(2026, 11, 1, tzinfo=UTC)
    for number in range(120):
        with time_machine.travel(at + timedelta(seconds=number // 3), tick=False):  # several at one time
            audit.record(organization=organization, actor=owner, action="api_key.changed", target=f"t{number:03}")
    seen, query = [], ""
    page.get("/settings/audit/")  # the first notes that the member is here
    for _ in range(3):
        with django_assert_max_num_queries(40):  # for fifty rows, and for the shell
            answer = page.get(f"{PATH}?kind=keys{query}")
        seen += re.findall(r"t\d{3}", " ".join(rows(answer)))
        older = re.search(r'href="\?(\S+)">Older', answer.content.decode())
        query = f"&{older[1].replace('&amp;', '&')}" if older else ""
    assert seen == [f"t{number:03}" for number in reversed(range(120))]
    assert query == ""
    assert len(page.get("/settings/audit.csv").getvalue().splitlines()) == 121
    for nonsense in ("x", "2026-11-01_3", f"2026-11-01T00:00:00+00:00_{2**70}"):
        assert len(rows(page.get(PATH, {"before": nonsense}))) == 50


def test_for_owners_only(owner, page):
    organization = owner.organizations.get()
    for role in ("developer", "billing"):
        colleague = make.user()
        organization.memberships.create(user=colleague, role=role)
        for path in (PATH, "/settings/audit.csv"):
            assert signed_in(colleague).get(path).status_code == 403
    assert Client().get(PATH).headers["location"].startswith("/login/")


def test_entries_are_never_changed(owner):
    event = audit.record(organization=owner.organizations.get(), actor=owner, action="api_key.revoked", target="k")
    for sql in ("UPDATE accounts_auditevent SET action = 'x'", "DELETE FROM accounts_auditevent"):
        with pytest.raises(IntegrityError, match="never changed"), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(sql)
    event.refresh_from_db()
    assert (event.action, event.address) == ("api_key.revoked", None)
