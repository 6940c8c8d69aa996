"""Acts of staff need a reason, leave a trace, and do nothing twice."""

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db.models import Sum
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from apps.accounts import invitations
from apps.accounts.models import AuditEvent, Invitation, Membership, Organization, User
from apps.catalog.models import PriceVersion
from apps.jobs.models import Job
from apps.keys import services as keys
from apps.ledger import services as ledger
from apps.ledger.models import Transfer
from apps.sites import nodes
from apps.sites.models import GPU, BurnIn, Drain, Node, Pool
from tests import make
from tests.admin.conftest import World

ROWS = 1


def act(client: Client, model: str, action: str, *rows: Any, **fields: Any) -> Any:
    """Post an action: without fields its first step, the page that asks; with them the answer to that page."""
    data = {"action": action, "_selected_action": [str(row.pk) for row in rows], **fields}
    return client.post(reverse(f"admin:{model}_changelist"), data | ({"confirm": "yes"} if fields else {}))


def events(action: str) -> list[AuditEvent]:
    return list(AuditEvent.objects.filter(action=action))


def selected(html: str) -> set[str]:
    return set(re.findall(r'name="_selected_action" value="([^"]+)"', html))


def test_an_act_asks_for_a_reason_first(staff: Client, world: World) -> None:
    html = act(staff, "sites_pool", "drain", world.pool).content.decode()
    assert "takes no new work" in html
    assert selected(html) == {str(world.pool.pk)}
    assert not Pool.objects.get(pk=world.pool.pk).draining


def test_without_a_reason_nothing_happens_and_the_selection_stays(staff: Client, world: World) -> None:
    other = make.pool(model=world.model)
    html = act(staff, "sites_pool", "drain", world.pool, other, reason="  ").content.decode()
    assert "This field is required" in html
    assert selected(html) == {str(world.pool.pk), str(other.pk)}
    assert not Pool.objects.filter(draining=True).exists()
    assert events("pool.drained") == []


def test_drain_and_undrain(staff: Client, operator: User, world: World) -> None:
    assert act(staff, "sites_pool", "drain", world.pool, reason="New fans").status_code == 302
    assert Pool.objects.get(pk=world.pool.pk).draining
    (event,) = events("pool.drained")
    assert (event.actor, event.target, event.reason) == (operator, world.pool.code, "New fans")
    assert act(staff, "sites_pool", "undrain", world.pool, reason="Done").status_code == 302
    assert not Pool.objects.get(pk=world.pool.pk).draining
    assert len(events("pool.undrained")) == 1


def test_refused_rows_stay_selected_and_the_others_are_done(staff: Client, world: World) -> None:
    drained = make.pool(model=world.model, draining=True)
    html = act(staff, "sites_pool", "drain", world.pool, drained, reason="New fans").content.decode()
    assert selected(html) == {str(drained.pk)}
    assert "it is so already" in html
    assert Pool.objects.get(pk=world.pool.pk).draining
    assert len(events("pool.drained")) == 1


def test_buttons_of_the_change_page_fit_the_row(staff: Client, world: World) -> None:
    url = reverse("admin:sites_pool_change", args=[world.pool.pk])
    html = staff.get(url).content.decode()
    assert 'value="drain"' in html
    assert 'value="undrain"' not in html
    answer = act(staff, "sites_pool", "drain", world.pool, reason="New fans", origin="change")
    assert answer["Location"] == url


def test_an_act_takes_at_most_a_hundred_rows(staff: Client, world: World) -> None:
    organizations = Organization.objects.bulk_create([Organization(name=f"O{number}") for number in range(101)])
    answer = act(staff, "accounts_organization", "grant_credit", *organizations)
    assert answer.status_code == 302


def test_staff_who_may_only_look_cannot_act(world: World) -> None:
    from django.contrib.auth.models import Permission

    viewer = make.user(is_staff=True)
    viewer.user_permissions.add(Permission.objects.get(codename="view_pool"))
    client = Client()
    client.force_login(viewer)
    html = client.get(reverse("admin:sites_pool_change", args=[world.pool.pk])).content.decode()
    assert world.pool.code in html
    assert 'value="drain"' not in html
    act(client, "sites_pool", "drain", world.pool, reason="New fans")
    assert not Pool.objects.get(pk=world.pool.pk).draining


def grant(client: Client, *organizations: Organization, key: str, **fields: Any) -> Any:
    return act(
        client, "accounts_organization", "grant_credit", *organizations,
        **{"amount_usd": "2.50", "reason": "Outage of Tuesday", "key": key, **fields},
    )  # fmt: skip


def hidden_key(client: Client, organization: Organization) -> str:
    html = act(client, "accounts_organization", "grant_credit", organization).content.decode()
    found = re.search(r'name="key" value="([^"]+)"', html)
    assert found
    return found[1]


def test_a_grant_sent_twice_is_one_balanced_transfer(staff: Client, operator: User, world: World) -> None:
    before = ledger.balance(world.organization.pk)
    transfers = Transfer.objects.count()
    key = hidden_key(staff, world.organization)
    assert grant(staff, world.organization, key=key).status_code == 302
    assert grant(staff, world.organization, key=key).status_code == 302
    after = ledger.balance(world.organization.pk)
    assert after.promotional_microusd == before.promotional_microusd + 2_500_000
    assert after.credit_microusd == before.credit_microusd
    assert Transfer.objects.count() == transfers + 1
    made = Transfer.objects.get(key__startswith=f"grant:{key}")
    assert (made.debit, made.credit, made.amount_microusd) == ("credits_granted", "promotional", 2_500_000)
    assert (made.reason, made.actor) == ("Outage of Tuesday", f"user:{operator.pk}")
    (event,) = events("credit.granted")
    assert (event.organization, event.actor, event.data) == (
        world.organization,
        operator,
        {"amount_microusd": 2_500_000},
    )


def test_each_page_grants_anew(staff: Client, world: World) -> None:
    assert hidden_key(staff, world.organization) != hidden_key(staff, world.organization)


@pytest.mark.parametrize("fields", [{"amount_usd": "0"}, {"amount_usd": "-1"}, {"amount_usd": "x"}, {"reason": ""},
                                    {"amount_usd": "10001"}, {"key": "x"}, {"amount_usd": "0.0000001"}])  # fmt: skip
def test_a_refused_grant_writes_nothing(staff: Client, world: World, fields: dict[str, str]) -> None:
    before = Transfer.objects.aggregate(Sum("amount_microusd"))
    key = hidden_key(staff, world.organization)
    answer = grant(staff, world.organization, **{"key": key, **fields})
    assert answer.status_code == 200
    assert selected(answer.content.decode()) == {str(world.organization.pk)}
    assert Transfer.objects.aggregate(Sum("amount_microusd")) == before
    assert events("credit.granted") == []


def test_an_organization_without_account_is_refused(staff: Client, world: World) -> None:
    bare = Organization.objects.create(name="Half made")
    answer = grant(staff, world.organization, bare, key="0" * 32)
    assert selected(answer.content.decode()) == {str(bare.pk)}
    assert len(events("credit.granted")) == 1
    assert not Transfer.objects.filter(organization=bare).exists()


def test_a_key_is_revoked_once(staff: Client, operator: User, world: World) -> None:
    assert act(staff, "keys_apikey", "revoke", world.key, reason="Leaked").status_code == 302
    world.key.refresh_from_db()
    assert world.key.revoked_at is not None
    (event,) = events("api_key.revoked")
    assert (event.actor, event.reason) == (operator, "Leaked")
    assert "revoked before" in act(staff, "keys_apikey", "revoke", world.key, reason="Leaked").content.decode()
    assert len(events("api_key.revoked")) == 1


def test_a_job_is_cancelled(staff: Client, operator: User, world: World) -> None:
    ledger_before = ledger.balance(world.organization.pk)
    assert ledger_before.held_microusd == 1000
    assert act(staff, "jobs_job", "cancel", world.job, reason="Asked by phone").status_code == 302
    world.job.refresh_from_db()
    assert (world.job.state, world.job.charge_microusd) == ("cancelled", 0)
    assert ledger.balance(world.organization.pk).held_microusd == 0
    (event,) = AuditEvent.objects.filter(action__startswith="job.")
    assert (event.actor, event.target, event.reason) == (operator, world.job.public_id, "Asked by phone")
    assert "ended before" in act(staff, "jobs_job", "cancel", world.job, reason="Again").content.decode()
    assert Job.objects.get(pk=world.job.pk).events.count() == world.job.events.count()


def test_people_are_suspended_and_reinstated(staff: Client, operator: User, world: World) -> None:
    person = Client()
    person.force_login(world.owner)
    act(staff, "accounts_user", "suspend", world.owner, reason="Fraud")
    assert not User.objects.get(pk=world.owner.pk).is_active
    act(staff, "accounts_user", "reinstate", world.owner, reason="Mistake")
    assert User.objects.get(pk=world.owner.pk).is_active
    assert [event.reason for event in events("user.suspended") + events("user.reinstated")] == ["Fraud", "Mistake"]
    assert "suspend yourself" in act(staff, "accounts_user", "suspend", operator, reason="x").content.decode()
    assert User.objects.get(pk=operator.pk).is_active


def test_rights_of_staff_are_a_superusers_to_give(world: World, operator: User) -> None:
    from django.contrib.auth.models import Permission

    clerk = make.user(is_staff=True)
    clerk.user_permissions.add(Permission.objects.get(codename="change_user"))
    client = Client()
    client.force_login(clerk)
    page = reverse("admin:accounts_user_change", args=[clerk.pk])
    form = {"name": "C", "time_zone": "UTC", "is_staff": "on", "is_superuser": "on", "staff_reason": "x"}
    inline = {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}
    assert client.post(page, form | inline).status_code == 302
    assert User.objects.get(pk=clerk.pk).name == "C"
    assert not User.objects.get(pk=clerk.pk).is_superuser
    assert client.post(reverse("admin:accounts_user_change", args=[operator.pk]), form).status_code == 403
    act(client, "accounts_user", "suspend", operator, reason="x")
    assert User.objects.get(pk=operator.pk).is_active


def test_the_last_owner_stays(staff: Client, world: World) -> None:
    owner = Membership.objects.get(organization=world.organization)
    html = act(staff, "accounts_membership", "remove", owner, reason="Left").content.decode()
    assert "is the last owner" in html
    developer = Membership.objects.create(organization=world.organization, user=make.user(), role="developer")
    assert act(staff, "accounts_membership", "remove", developer, reason="Left").status_code == 302
    assert list(Membership.objects.filter(organization=world.organization)) == [owner]
    (event,) = events("member.removed")
    assert (event.organization, event.target, event.reason) == (world.organization, developer.user.email, "Left")


def test_the_last_owner_is_not_demoted(staff: Client, world: World) -> None:
    owner = Membership.objects.get(organization=world.organization)
    page = reverse("admin:accounts_membership_change", args=[owner.pk])
    html = staff.post(page, {"role": "developer", "staff_reason": "Asked"}).content.decode()
    assert "is the last owner" in html
    owner.refresh_from_db()
    assert owner.role == "owner"


def test_staff_s_change_of_a_role_takes_from_keys_and_invitations_what_the_page_s_does(
    staff: Client, operator: User, world: World
) -> None:
    row = Membership.objects.create(organization=world.organization, user=make.user(), role="admin")
    key, _ = make.api_key(world.organization, user=row.user, scopes=("inference", "manage"))
    only, _ = make.api_key(world.organization, user=row.user, scopes=("manage",))
    invitations.invite(organization=world.organization, email="new@meridian.example", role="developer", user=row.user)
    page = reverse("admin:accounts_membership_change", args=[row.pk])
    assert staff.post(page, {"role": "developer"}).status_code == 200  # no reason
    assert Membership.objects.get(pk=row.pk).role == "admin"
    assert staff.post(page, {"role": "developer", "staff_reason": "Asked"}).status_code == 302
    key.refresh_from_db()
    only.refresh_from_db()
    assert (Membership.objects.get(pk=row.pk).role, key.scopes, only.state) == ("developer", ["inference"], "revoked")
    assert Invitation.objects.get(email="new@meridian.example").state == "withdrawn"
    (event,) = events("member.role_changed")
    assert (event.actor, event.reason, event.data) == (operator, "Asked", {"from": "admin", "to": "developer"})
    assert act(staff, "accounts_membership", "remove", row, reason="Left").status_code == 302
    key.refresh_from_db()
    assert (key.state, key.scopes) == ("active", ["inference"])


def test_an_edit_needs_a_reason_and_is_recorded(staff: Client, operator: User, world: World) -> None:
    page = reverse("admin:accounts_organization_change", args=[world.organization.pk])
    inline = {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}
    assert staff.post(page, {"name": "New name", **inline}).status_code == 200
    world.organization.refresh_from_db()
    assert world.organization.name == "Meridian Foods"
    assert staff.post(page, {"name": "New name", "staff_reason": "Asked", **inline}).status_code == 302
    world.organization.refresh_from_db()
    assert world.organization.name == "New name"
    (event,) = events("organization.changed")
    assert (event.organization, event.actor, event.target) == (
        world.organization,
        operator,
        world.organization.public_id,
    )
    assert (event.reason, event.data) == ("Asked", {"fields": ["name"]})


def test_the_reason_of_staff_does_not_become_the_pools(staff: Client, world: World) -> None:
    page = reverse("admin:sites_pool_change", args=[world.pool.pk])
    assert staff.post(page, {"slots": "9", "desired": "parked", "staff_reason": "More memory"}).status_code == 302
    pool = Pool.objects.get(pk=world.pool.pk)
    assert (pool.slots, pool.desired, pool.reason, pool.code) == (9, "parked", "", world.pool.code)


def price(world: World, **fields: Any) -> dict[str, Any]:
    now = timezone.now() + timedelta(minutes=1)
    return {
        "model": world.model.pk,
        "effective_at_0": f"{now:%Y-%m-%d}",
        "effective_at_1": f"{now:%H:%M:%S}",
        "input_usd_per_mtok": "0.5",
        "output_usd_per_mtok": "2.000001",
        "request_usd": "",
        "page_usd": "",
        "flexible_percent": "70",
        "batch_percent": "50",
        "staff_reason": "Cheaper power",
        **fields,
    }


def test_a_price_is_added_and_never_edited(staff: Client, world: World) -> None:
    add = reverse("admin:catalog_priceversion_add")
    assert staff.get(add).status_code == 200
    assert staff.post(add, price(world)).status_code == 302
    made = PriceVersion.objects.get(output_microusd_per_mtok=2_000_001)
    assert (made.input_microusd_per_mtok, made.request_microusd, made.page_microusd) == (500_000, 0, 0)
    assert len(events("price_version.added")) == 1
    page = reverse("admin:catalog_priceversion_change", args=[made.pk])
    assert staff.post(page, price(world, output_usd_per_mtok="3")).status_code == 403
    at = f"{made.effective_at.day} {made.effective_at:%b %Y %H:%M}"
    for url in (reverse("admin:catalog_priceversion_changelist"), page):
        html = staff.get(url).content.decode()
        assert "$0.50" in html
        assert "$2.000001" in html
        assert at in html
    assert str(made) == f"{world.model.name} from {at}"
    assert "$2.000001" in staff.get(reverse("admin:catalog_model_change", args=[world.model.pk])).content.decode()


@pytest.mark.parametrize("fields", [{"effective_at_0": "2020-01-01"}, {"staff_reason": ""},
                                    {"input_usd_per_mtok": "0", "output_usd_per_mtok": ""},
                                    {"input_usd_per_mtok": "-1"}, {"input_usd_per_mtok": "0.0000001"},
                                    {"input_usd_per_mtok": "1000.01"}, {"page_usd": "10.01"},
                                    {"request_usd": "11"}, {"page_usd": "2000000", "meant": "on"}])  # fmt: skip
def test_a_bad_price_is_not_added(staff: Client, world: World, fields: dict[str, str]) -> None:
    before = PriceVersion.objects.count()
    assert staff.post(reverse("admin:catalog_priceversion_add"), price(world, **fields)).status_code == 200
    assert PriceVersion.objects.count() == before
    assert events("price_version.added") == []


def test_a_high_price_must_be_meant(staff: Client, world: World) -> None:
    add = reverse("admin:catalog_priceversion_add")
    high = price(world, output_usd_per_mtok="250000", page_usd="12")
    html = staff.post(add, high).content.decode()
    assert "$250,000 for 1M output tokens, $12 for a page" in html
    assert staff.post(add, {**high, "meant": "on"}).status_code == 302
    made = PriceVersion.objects.get(page_microusd=12_000_000)
    assert made.output_microusd_per_mtok == 250_000_000_000


def test_a_price_of_nothing_is_refused_in_words(staff: Client, world: World) -> None:
    nothing = price(world, input_usd_per_mtok="", output_usd_per_mtok="0")
    html = staff.post(reverse("admin:catalog_priceversion_add"), nothing).content.decode()
    assert "Give at least one price: nothing on offer is free." in html
    assert "catalog_priceversion_not_free" not in html


def test_what_was_done_is_said_in_names(staff: Client, world: World) -> None:
    html = staff.post(reverse("admin:catalog_priceversion_add"), price(world), follow=True).content.decode()
    assert f"{world.model.name} from " in html
    membership = Membership.objects.get(organization=world.organization)
    assert str(membership) == f"{world.owner.email}, owner of {world.organization.name}"


def test_a_grant_says_where_it_is_seen(staff: Client, world: World) -> None:
    html = act(staff, "accounts_organization", "grant_credit", world.organization).content.decode()
    assert "The grant is in the journal (transfers); the customer sees the new balance." in html


def test_a_new_node_says_what_comes_next(staff: Client, world: World) -> None:
    form = {"code": "fresh-node", "site": world.node.site.pk, "staff_reason": "New"}
    html = staff.post(reverse("admin:sites_node_add"), form, follow=True).content.decode()
    assert "runner.toml" in html
    assert "docs/deploy.md" in html


def test_a_new_key_of_the_customer_is_nowhere_in_the_admin(staff: Client, world: World) -> None:
    key, secret = keys.issue(organization=world.organization, name="new", user=world.owner)
    html = staff.get(reverse("admin:keys_apikey_change", args=[key.pk])).content.decode()
    assert key.prefix in html
    assert secret not in html
    assert key.sha256 not in html


def test_a_new_node_gets_a_one_time_token_that_is_shown_once(staff: Client, world: World) -> None:
    form = {"code": "georgia-9", "site": world.node.site_id}
    page = staff.post("/admin/sites/node/add/", form, follow=True).content.decode()
    node = Node.objects.get(code="georgia-9")
    token = re.search(r"valid for a day: (enrol_[\w-]{32})", page)[1]
    assert node.state == "pending"
    issued = node.enrolment_tokens.get()
    assert (issued.sha256, issued.used_at) == (nodes.digest(token), None)
    assert token not in staff.get(f"/admin/sites/node/{node.pk}/change/").content.decode()
    assert AuditEvent.objects.get(action="node.added").target == "georgia-9"
    html = act(staff, "sites_node", "enroll", node).content.decode() or ""
    assert html == ""
    first, second = node.enrolment_tokens.order_by("pk")
    assert first.expires_at <= timezone.now() < second.expires_at  # the one before is void
    assert len(events("node.enrolment_issued")) == 2


def drained(client: Client, node: Node, action: str = "drain", **fields: Any) -> Any:
    return act(client, "sites_node", action, node, **{"reason": "New fans", "minutes": "10", **fields})


def test_a_node_goes_through_its_life_by_acts_with_a_reason(staff: Client, operator: User, world: World) -> None:
    node = world.node
    for action, fields, state in (
        ("drain", {"minutes": "10"}, "draining"),
        ("admit", {}, "admitted"),
        ("maintain", {"minutes": "0"}, "draining"),
        ("quarantine", {}, "quarantined"),
        ("test_again", {}, "burn-in"),
        ("admit", {"untested": "on"}, "admitted"),
        ("quarantine", {}, "quarantined"),
        ("retire", {}, "retired"),
    ):
        assert act(staff, "sites_node", action, node, reason="New fans", **fields).status_code == 302
        node.refresh_from_db()
        assert node.state == state
    taken = [(event.actor, event.reason, event.after) for event in node.events.order_by("id")]
    assert taken == [(operator, "New fans", state) for state in (
        "draining", "admitted", "draining", "quarantined", "burn-in", "admitted", "quarantined", "retired")]  # fmt: skip
    assert len(events("node.quarantined")) == 2


def test_who_admits_a_node_hears_what_its_burn_in_found(staff: Client, world: World) -> None:
    node = world.node
    for action in ("quarantine", "test_again"):
        act(staff, "sites_node", action, node, reason="New fans")
    html = act(staff, "sites_node", "admit", node, reason="It is well").content.decode()
    assert "has no burn-in result yet" in html
    assert Node.objects.get(pk=node.pk).state == "burn-in"
    assert events("node.admitted") == []
    step = node.events.first()
    found = [{"good": False, "text": "golden prompt 1: it answers nothing"}]
    for pool in node.pools.all():
        BurnIn.objects.create(step=step, pool=pool, passed=False, findings=found, seconds=1)
    html = act(staff, "sites_node", "admit", node, reason="It is well").content.decode()
    assert "failed its burn-in: golden prompt 1: it answers nothing" in html
    assert Node.objects.get(pk=node.pk).state == "burn-in"
    html = staff.get(reverse("admin:sites_node_change", args=[node.pk])).content.decode()
    assert "failed: golden prompt 1: it answers nothing" in html


def test_a_step_that_is_not_there_is_refused_in_words(staff: Client, world: World) -> None:
    html = act(staff, "sites_node", "retire", world.node, reason="Old").content.decode()
    assert "A node that is admitted cannot become retired." in html
    assert events("node.retired") == []
    html = drained(staff, world.node, minutes="-1").content.decode()
    assert "greater than or equal to 0" in html
    assert Node.objects.get(pk=world.node.pk).state == "admitted"


def test_maintenance_is_announced_and_called_off(staff: Client, world: World) -> None:
    starts = timezone.now() + timedelta(days=2)
    when = {"starts_at_0": starts.strftime("%Y-%m-%d"), "starts_at_1": starts.strftime("%H:%M:%S")}
    answer = drained(staff, world.node, "announce", hours="4", **when)
    assert answer.status_code == 302
    made = Drain.objects.get(node=world.node, purpose="maintenance")
    assert (made.deadline_at - made.starts_at, made.ends_at - made.starts_at) == (
        timedelta(minutes=10),
        timedelta(hours=4),
    )
    assert made.announced_at is not None
    assert act(staff, "sites_drain", "call_off", made, reason="Not needed").status_code == 302
    made.refresh_from_db()
    assert made.ended_at is not None
    assert made.began_at is None


def test_the_list_says_when_a_node_was_last_heard(staff: Client, world: World) -> None:
    for code, silent, said in (
        ("heard", 0, r"\d s ago"),
        ("suspect", 7, r"\d s ago, suspect"),
        ("lost", 300, "5 min ago, lost"),
        ("never", None, "never"),
    ):
        at = None if silent is None else timezone.now() - timedelta(seconds=silent)
        node = make.node(code=f"the-{code}", heartbeat_at=at)
        html = staff.get(f"{reverse('admin:sites_node_changelist')}?contact={code}").content.decode()
        assert re.search(rf">{said}<", html)
        assert [each for each in ("heard", "suspect", "lost", "never") if f">the-{each}<" in html] == [code]
        node.delete()


def test_a_gpu_is_at_one_node_until_it_was_taken_out(staff: Client, world: World) -> None:
    gpu = world.node.gpus.get()
    other = make.node()
    form = {"uuid": gpu.uuid, "node": other.pk, "staff_reason": "Moved"}
    html = staff.post(reverse("admin:sites_gpu_add"), form).content.decode()
    assert "This GPU is at another node" in html
    assert GPU.objects.filter(uuid=gpu.uuid).count() == 1
    assert act(staff, "sites_gpu", "remove", gpu, reason="Moved").status_code == 302
    assert staff.post(reverse("admin:sites_gpu_add"), form).status_code == 302
    assert GPU.objects.get(uuid=gpu.uuid, removed_at=None).node == other
