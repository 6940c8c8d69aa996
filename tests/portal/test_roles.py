"""The one table of rights, role by role, through the doors people and programs use: each page and each part of the API."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from types import SimpleNamespace
from uuid import UUID

import pytest
from django.test import Client
from django.urls import URLResolver, get_resolver, resolve

from apps.accounts import rights
from apps.accounts.models import AuditEvent, Invitation, Membership, Organization
from apps.accounts.rights import Right
from apps.accounts.roles import BY_VALUE
from apps.accounts.scopes import Scope
from apps.billing.models import AlertSettings, TopUp
from apps.files.models import File
from apps.jobs.models import Job
from apps.keys import permits
from apps.keys.models import APIKey
from apps.ledger.models import Budget, Hold
from apps.webhooks.models import Endpoint
from tests import make

OWNER, ADMIN, DEVELOPER, BILLING, VIEWER = "owner", "admin", "developer", "billing", "viewer"
EVERYBODY = (OWNER, ADMIN, DEVELOPER, BILLING, VIEWER)
WORKERS = (OWNER, ADMIN, DEVELOPER, BILLING)
WEBHOOKS = (OWNER, ADMIN, DEVELOPER)
MANAGERS = (OWNER, ADMIN)
PAYERS = (OWNER, BILLING)
JOB = {"model": "acme/chat", "input": {"messages": [{"role": "user", "content": "Hello"}]}}
HOOK = {"url": "https://hooks.example.com/x", "event_types": ["job.finished"]}


@dataclass(frozen=True)
class Door:
    """`body` is sent as JSON; without one a POST is a form's, and a GET a page's. `allowed` is who is not refused with 403."""

    allowed: tuple[str, ...]
    method: str
    path: str
    body: object = None
    status: tuple[int, ...] = (200,)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


DOORS = [
    # what everybody reads
    *(Door(EVERYBODY, "GET", path) for path in ("/dashboard/", "/jobs/", "/jobs/{job}/", "/batches/", "/usage/", "/keys/")),
    *(Door(EVERYBODY, "GET", path) for path in ("/billing/", "/billing/limits/", "/settings/members/", "/settings/organization/")),
    *(Door(EVERYBODY, "GET", path) for path in ("/keys/places/", "/keys/{key}/")),
    *(Door(EVERYBODY, "GET", f"/api/v1/{path}") for path in ("organization", "balance", "usage", "models", "jobs", "jobs/{job}")),
    *(Door(EVERYBODY, "GET", f"/api/v1/{path}") for path in ("batches", "sites", "keys", "keys/{key_id}", "members", "members/{member}")),
    *(Door(EVERYBODY, "GET", path) for path in ("/jobs/export.csv", "/usage/export.csv")),
    *(Door(EVERYBODY, "GET", f"/batches/none/{path}", status=(404,)) for path in ("", "rows/1/", "events.csv", "so-far.jsonl", "output.jsonl")),
    Door(EVERYBODY, "GET", "/jobs/{job}/result.json", status=(404,)),  # it was a chat
    Door(EVERYBODY, "GET", "/api/v1/batches/batch_none", status=(404,)),
    Door(EVERYBODY, "POST", "/settings/switch/", status=(302,)),
    # work
    Door(WORKERS, "GET", "/playground/"),
    Door(WORKERS, "GET", "/batches/new/"),
    Door(WORKERS, "POST", "/playground/", status=(422,)),
    Door(WORKERS, "GET", "/jobs/{job}/cancel/"),
    Door(WORKERS, "POST", "/jobs/{job}/again/", status=(422,)),
    Door(WORKERS, "POST", "/api/v1/jobs", JOB, status=(202,)),
    Door(WORKERS, "POST", "/api/v1/jobs/{job}/cancel"),
    Door(WORKERS, "POST", "/api/v1/jobs/{job}/retry", status=(400,)),
    Door(WORKERS, "POST", "/api/v1/batches/batch_none/cancel", status=(404,)),
    *(Door(WORKERS, method, f"/batches/none/{act}/", status=(404,)) for act in ("check", "cancel", "again") for method in ("GET", "POST")),
    # keys of one's own, and of others
    Door(WORKERS, "GET", "/keys/new/"),
    Door(WORKERS, "POST", "/api/v1/keys", {"name": "mine"}, status=(201,)),
    *(Door(MANAGERS, "GET", f"/keys/{{key}}/{act}/") for act in ("change", "replace", "revoke")),
    Door(MANAGERS, "PATCH", "/api/v1/keys/{key_id}", {"name": "theirs"}),
    Door(MANAGERS, "POST", "/api/v1/keys/{key_id}/replace", {}, status=(201,)),
    Door(MANAGERS, "POST", "/api/v1/keys/{key_id}/revoke"),
    # webhooks
    Door(WEBHOOKS, "GET", "/settings/webhooks/"),
    Door(WEBHOOKS, "GET", "/settings/webhooks/new/"),
    Door(WEBHOOKS, "GET", "/api/v1/webhooks"),
    Door(WEBHOOKS, "POST", "/api/v1/webhooks", HOOK, status=(400,)),
    *(Door(WEBHOOKS, "GET", f"/settings/webhooks/none/{path}", status=(404,)) for path in ("", "edit/", "delete/", "deliveries/none/")),
    *(Door(WEBHOOKS, "POST", f"/settings/webhooks/none/{act}/", status=(404,)) for act in ("edit", "test", "rotate", "disable", "enable", "delete")),
    Door(WEBHOOKS, "POST", "/settings/webhooks/none/deliveries/none/replay/", status=(404,)),
    *(Door(WEBHOOKS, method, "/api/v1/webhooks/none", {}, status=(404,)) for method in ("GET", "PATCH", "DELETE")),
    *(Door(WEBHOOKS, "POST", f"/api/v1/webhooks/none/{act}", {}, status=(404,)) for act in ("test", "rotate", "deliveries/none/replay")),
    Door(WEBHOOKS, "GET", "/api/v1/webhooks/none/deliveries", status=(404,)),
    # members and settings
    Door(MANAGERS, "GET", "/settings/members/invite/"),
    Door(MANAGERS, "POST", "/settings/members/invite/", status=(422,)),
    *(Door(MANAGERS, "POST", f"/settings/members/invitations/none/{act}/", status=(404,)) for act in ("send", "withdraw")),
    Door(MANAGERS, "GET", "/settings/members/{number}/"),
    Door(MANAGERS, "GET", "/settings/members/{number}/remove/"),
    Door(MANAGERS, "PATCH", "/api/v1/members/{member}", {"role": "viewer"}),
    Door(MANAGERS, "DELETE", "/api/v1/members/{member}", status=(204,)),
    Door(MANAGERS, "POST", "/settings/organization/", status=(422,)),
    Door(MANAGERS, "POST", "/keys/places/", status=(302,)),
    Door(MANAGERS, "PATCH", "/api/v1/organization", {"residency": None}),
    Door(MANAGERS, "GET", "/settings/audit/"),
    Door(MANAGERS, "GET", "/settings/audit.csv"),
    # money
    *(Door(PAYERS, "GET", f"/billing/{path}/") for path in ("add", "payments", "invoices", "automatic", "plan", "portal")),
    Door(PAYERS, "GET", "/billing/limits/organization/"),
    *(Door(PAYERS, "POST", f"/billing/limits/{path}/", status=(200,)) for path in ("organization", "members/{user}", "warnings")),
    *(Door(PAYERS, "GET", f"/billing/{path}/", status=(404,)) for path in ("invoices/none", "invoices/none/pdf", "return/none", "plan/none")),
    *(Door(PAYERS, "GET", f"/billing/payments/none/{path}/", status=(404,)) for path in ("receipt", "pay", "refund")),
    *(Door(PAYERS, "POST", f"/billing/{path}/", status=(302, 404)) for path in ("payments/none/refund", "automatic/stop")),
    *(Door(PAYERS, "POST", f"/billing/plan/{path}/", status=(302, 404)) for path in ("none", "cancel", "resume")),
    *(Door(PAYERS, "GET", f"/billing/{path}") for path in ("movements/", "movements.csv")),
    Door(PAYERS, "GET", "/api/v1/transfers"),
    Door(PAYERS, "GET", "/api/v1/invoices"),
    Door(PAYERS, "POST", "/keys/{key}/"),
    # the end
    Door((OWNER,), "GET", "/settings/organization/delete/"),
    Door((OWNER,), "POST", "/settings/organization/delete/", status=(422,)),
    Door((OWNER,), "GET", "/settings/organization/export/"),
    Door((OWNER,), "POST", "/settings/organization/delete/undo/", status=(302,)),
    Door((OWNER,), "GET", "/settings/organization/export/none.zip", status=(404,)),
]  # fmt: skip


@pytest.fixture
def firm(db):
    """An owner's organization with a key and a job of the owner's, and somebody of each role."""
    owner = make.user()
    organization = make.organization(credit_microusd=1_000_000, owner=owner)
    make.model(name="acme/chat")
    key, _ = make.api_key(organization, user=owner)
    job = make.job(
        organization=organization, model=make.model(name="acme/old"), state="succeeded", request={"messages": []}
    )
    colleague = Membership.objects.create(organization=organization, user=make.user(), role=DEVELOPER)
    named = {
        "job": job.public_id,
        "key": key.pk,
        "key_id": key.public_id,
        "number": colleague.pk,
        "member": f"mem_{colleague.pk}",
        "user": colleague.user_id,
    }
    return SimpleNamespace(organization=organization, owner=owner, key=key, colleague=colleague, named=named)


def signed_in(firm, role: str) -> Client:
    user = make.user()
    Membership.objects.create(organization=firm.organization, user=user, role=role)
    client = Client(raise_request_exception=False)
    client.force_login(user)
    return client


def ask(client: Client, door: Door, firm):
    path = door.path.format(**firm.named)
    if door.body is None and not path.startswith("/api/"):
        return client.generic(door.method, path, "", "application/x-www-form-urlencoded")
    return client.generic(door.method, path, "" if door.body is None else json.dumps(door.body), "application/json")


def written(organization: Organization) -> list[object]:
    """All that a refused act could have left."""
    counted = (Job, Hold, File, APIKey, Endpoint, Invitation, Membership, AuditEvent, TopUp)
    return [
        *(model.objects.count() for model in counted),
        list(Membership.objects.order_by("pk").values_list("role", flat=True)),
        list(APIKey.objects.order_by("pk").values_list("name", "scopes", "revoked_at")),
        list(Budget.objects.order_by("pk").values()),
        list(AlertSettings.objects.order_by("pk").values()),
        Organization.objects.values("name", "residency", "keep_text_days", "closing_at").get(pk=organization.pk),
    ]


@pytest.mark.story
@pytest.mark.parametrize("role", EVERYBODY)
def test_what_a_role_may_do_and_what_not(firm, role):
    client, wrong = signed_in(firm, role), []
    for door in DOORS:
        before = written(firm.organization)
        answer = ask(client, door, firm)
        if role in door.allowed:
            if answer.status_code not in door.status:
                wrong.append(f"{door}: {answer.status_code} for who may")
            undo(firm, before)
        elif answer.status_code != 403 or written(firm.organization) != before:
            wrong.append(f"{door}: {answer.status_code} for who may not")
    assert wrong == []


def undo(firm, before) -> None:
    """What an allowed act changed, the next door finds again."""
    firm.key.save()
    firm.colleague.role = DEVELOPER
    firm.colleague.save(force_insert=not Membership.objects.filter(pk=firm.colleague.pk).exists())


# What asks for no role: pages of anybody and of the person, staff's, machines', Stripe's and its double's, the schema.
OF_NO_ROLE = re.compile(
    r"$|(models|pricing|docs|status|terms|privacy|data|invite|welcome|theme|language|csp|mail|mails|signup|\^?verify|login|logout"
    r"|\^?password|settings/account|settings/notifications|settings/security|admin|operations|webhooks/stripe|sandbox|api/schema|api/docs)/"
    r"|(healthz|readyz|robots.txt|sitemap.xml)$|api/\^v1"
)


def routes(patterns, before: str = ""):
    """Each address the portal answers, with the methods of those of the API; of pages a GET or a POST is enough."""
    for each in patterns:
        route = before + str(each.pattern)
        if isinstance(each, URLResolver):
            yield from routes(each.url_patterns, route)
        elif not OF_NO_ROLE.match(route):
            view = getattr(each.callback, "cls", None)
            yield from (
                (
                    (route, method)
                    for method in ("GET", "POST", "PATCH", "PUT", "DELETE")
                    if hasattr(view, method.lower())
                )
                if view
                else [(route, "")]
            )


def test_every_door_of_the_organization_stands_in_the_table():
    """A page or a method of the API that comes later is red here until somebody says who may use it."""
    named = {"job": "job_1", "key": UUID(int=0), "key_id": "key_1", "number": 1, "member": "mem_1", "user": 1}
    stated = set()
    for door in DOORS:
        match = resolve(door.path.format(**named))
        stated.add((match.route, door.method if hasattr(match.func, "cls") else ""))
    there = set(routes(get_resolver().url_patterns))
    assert len(there) > 80
    assert (sorted(there - stated), sorted(stated - there)) == ([], [])


def test_the_table_has_every_role_and_only_an_owner_has_all():
    assert list(rights.BY_ROLE) == list(Membership.Role.values) == list(BY_VALUE)
    assert [role for role, held in rights.BY_ROLE.items() if held == frozenset(Right)] == [OWNER]
    assert {right: tuple(rights.with_right(right)) for right in Right} == {
        Right.WORK: WORKERS,
        Right.KEYS: WORKERS,
        Right.EVERY_KEY: MANAGERS,
        Right.WEBHOOKS: WEBHOOKS,
        Right.PAY: PAYERS,
        Right.MEMBERS: MANAGERS,
        Right.SETTINGS: MANAGERS,
        Right.OWN: (OWNER,),
    }
    assert {role: sorted(scopes) for role, scopes in permits.BY_ROLE.items()} == {
        OWNER: ["batches", "inference", "manage", "usage", "webhooks"],
        ADMIN: ["batches", "inference", "manage", "usage", "webhooks"],
        DEVELOPER: ["batches", "inference", "usage", "webhooks"],
        BILLING: ["batches", "inference", "usage"],
        VIEWER: [],
    }


GIVES = [(giver, role, role in given) for giver, given in ((OWNER, EVERYBODY), (ADMIN, (ADMIN, DEVELOPER, VIEWER))) for role in EVERYBODY]  # fmt: skip


@pytest.mark.story
@pytest.mark.parametrize(("giver", "role", "may"), GIVES)
def test_nobody_gives_or_takes_a_role_above_their_own(firm, giver, role, may):
    client = signed_in(firm, giver)
    target = f"/api/v1/members/mem_{firm.colleague.pk}"
    before = written(firm.organization)
    given = client.patch(target, json.dumps({"role": role}), "application/json")
    invited = client.post("/settings/members/invite/", {"email": "new@meridian.example", "role": role})
    if may:
        assert (given.status_code, given.json()["role"], invited.status_code) == (200, role, 302)
        return
    assert (given.status_code, given.json()["error"]["code"], invited.status_code) == (403, "beyond_role", 422)
    assert written(firm.organization) == before
    above = Membership.objects.create(organization=firm.organization, user=make.user(), role=role)
    before = written(firm.organization)
    for path in (f"/settings/members/{above.pk}/", f"/settings/members/{above.pk}/remove/"):
        assert client.get(path).status_code == client.post(path, {"role": VIEWER}).status_code == 403
    assert client.delete(f"/api/v1/members/mem_{above.pk}").status_code == 403
    assert written(firm.organization) == before


@pytest.mark.story
def test_an_owner_who_becomes_admin_leaves_no_invitation_to_be_owner(firm):
    client = Client()
    client.force_login(firm.owner)
    Membership.objects.create(organization=firm.organization, user=make.user(), role=OWNER)
    for number, role in enumerate((OWNER, BILLING, DEVELOPER)):
        client.post("/settings/members/invite/", {"email": f"{number}@meridian.example", "role": role})
    own = Membership.objects.get(user=firm.owner)
    assert (
        client.patch(f"/api/v1/members/mem_{own.pk}", json.dumps({"role": ADMIN}), "application/json").status_code
        == 200
    )
    states = Invitation.objects.order_by("pk").values_list("role", "state")
    assert list(states) == [(OWNER, "withdrawn"), (BILLING, "withdrawn"), (DEVELOPER, "pending")]


@pytest.mark.story
def test_a_viewer_s_keys_go_on_but_manage_nothing_and_anybody_leaves(firm):
    row = Membership.objects.create(organization=firm.organization, user=make.user(), role=ADMIN)
    key, _ = make.api_key(firm.organization, user=row.user, scopes=("inference", "manage"))
    client = Client()
    client.force_login(firm.owner)
    client.patch(f"/api/v1/members/mem_{row.pk}", json.dumps({"role": VIEWER}), "application/json")
    key.refresh_from_db()
    assert key.scopes == ["inference"]
    client.force_login(row.user)
    page = client.get("/jobs/").content.decode()
    assert "/settings/webhooks/" not in page  # it would answer 403
    assert 'data-lacks="work"' in page
    assert "/playground/" not in page
    assert client.post(f"/keys/{key.pk}/revoke/").status_code == 403
    assert client.delete(f"/api/v1/members/mem_{row.pk}").status_code == 204
    assert not Membership.objects.filter(pk=row.pk).exists()


@pytest.mark.story
def test_an_admin_s_key_takes_no_role_above_its_maker_s(firm):
    admin = Membership.objects.create(organization=firm.organization, user=make.user(), role=ADMIN)
    payer = Membership.objects.create(organization=firm.organization, user=make.user(), role=BILLING)
    _, secret = make.api_key(firm.organization, user=admin.user, scopes=Scope.values)
    client, path = Client(headers={"authorization": f"Bearer {secret}"}), f"/api/v1/members/mem_{payer.pk}"
    before = written(firm.organization)
    for refused in (client.delete(path), client.patch(path, json.dumps({"role": VIEWER}), "application/json")):
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "beyond_permit")
    assert written(firm.organization) == before
