"""Every page of the admin loads, with a bounded number of queries, and shows nobody's secrets."""

from typing import Any

import pytest
from django.apps import apps
from django.conf import settings
from django.contrib import admin
from django.db import connection, models
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from apps.accounts.models import User
from apps.accounts.readonly import BoundedPaginator, PortalAdmin, ReadOnlyAdmin
from apps.core.ids import public, uuid7
from apps.jobs.models import Content, Job
from apps.ledger.models import Transfer
from tests import make
from tests.admin.conftest import World

REGISTERED = [model for model in admin.site._registry if model._meta.app_label not in {"auth"}]
EDITED = {
    "organization",
    "membership",
    "user",
    "model",
    "priceversion",
    "discount",
    "site",
    "feed",
    "container",
    "partner",
    "node",
    "gpu",
    "incident",
    "deployment",
    "goldenprompt",
    "pool",
    "plan",
    "ratelimit",
}
MOST_QUERIES = 22


def label(model: type[models.Model]) -> str:
    return model._meta.label_lower


def address(model: type[models.Model], page: str, *args: Any) -> str:
    return reverse(f"admin:{model._meta.app_label}_{model._meta.model_name}_{page}", args=args)


def test_everything_registered_is_ours_and_deletes_nothing() -> None:
    assert {model._meta.app_config.name.split(".")[0] for model in REGISTERED} == {"apps"}
    assert all(isinstance(admin.site._registry[model], PortalAdmin) for model in REGISTERED)
    read_only = {
        model._meta.model_name for model in REGISTERED if isinstance(admin.site._registry[model], ReadOnlyAdmin)
    }
    assert {model._meta.model_name for model in REGISTERED} - read_only == EDITED
    assert Content not in admin.site._registry


def test_every_table_of_ours_has_a_page_but_those_that_another_page_tells() -> None:
    ours = {model for model in apps.get_models() if model.__module__.startswith("apps.")}
    assert {model.__name__ for model in ours - set(REGISTERED)} == {
        "ChargedHour",
        "ChargedUntil",
        "Content",
        "Draft",
        "EnrolmentToken",
        "Event",
        "FeedValue",
        "IncidentUpdate",
        "Last",
        "Source",
        "Listening",
        "NodeEvent",
        "Reading",
        "Receipt",
        "Row",
        "Shard",
        "UsageHour",
        "UsageUntil",
    }


def ask(client: Client, url: str) -> tuple[Any, int]:
    """The answer, and how many queries it took."""
    with CaptureQueriesContext(connection) as context:
        answer = client.get(url)
    return answer, len(context)


@pytest.fixture
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages without the list of all models beside them, which is half of their time and the same on each."""
    monkeypatch.setattr(admin.site, "enable_nav_sidebar", False)


def test_all_models_stand_beside_a_page(staff: Client, world: World) -> None:
    answer, queries = ask(staff, address(Job, "changelist"))
    html = answer.content.decode()
    assert 'id="nav-sidebar"' in html
    assert [label(model) for model in REGISTERED if f'href="{address(model, "changelist")}"' not in html] == []
    assert [secret for secret in world.secrets if secret in html] == []
    assert queries <= MOST_QUERIES


@pytest.mark.story
@pytest.mark.usefixtures("_plain")
def test_lists_load_with_few_queries(staff: Client, world: World) -> None:
    for model in REGISTERED:
        assert model._default_manager.count() >= 3, label(model)
        url = address(model, "changelist")
        answer, queries = ask(staff, url)
        assert queries <= MOST_QUERIES, label(model)
        assert answer.status_code == 200, label(model)
        html = answer.content.decode()
        assert 'id="result_list"' in html, label(model)
        assert [secret for secret in world.secrets if secret in html] == []
        # As many for three rows as for none: nothing is fetched row by row.
        assert queries <= ask(staff, f"{url}?q=nothing-is-called-this")[1] + 1, label(model)


@pytest.mark.story
@pytest.mark.usefixtures("_plain")
def test_change_pages_load_with_few_queries(staff: Client, world: World) -> None:
    for model in REGISTERED:
        for row in model._default_manager.all()[:2]:
            answer, queries = ask(staff, address(model, "change", row.pk))
            assert queries <= MOST_QUERIES, label(model)
            assert answer.status_code == 200, label(model)
            html = answer.content.decode()
            assert [secret for secret in world.secrets if secret in html] == []
        assert staff.get(address(model, "history", row.pk)).status_code == 200


@pytest.mark.story
@pytest.mark.usefixtures("_plain")
def test_history_refuses_edits_and_nothing_is_deleted(staff: Client, world: World) -> None:
    for model in REGISTERED:
        row = model._default_manager.first()
        assert row is not None
        read_only = isinstance(admin.site._registry[model], ReadOnlyAdmin)
        before = list(model._default_manager.order_by("pk").values())
        assert staff.post(address(model, "delete", row.pk), {"post": "yes"}).status_code == 403
        staff.post(
            address(model, "changelist"),
            {"action": "delete_selected", "_selected_action": str(row.pk), "post": "yes"},
        )
        if read_only or model._meta.model_name == "priceversion":
            assert staff.post(address(model, "change", row.pk), {"staff_reason": "x"}).status_code == 403, label(model)
        if read_only:
            assert staff.get(address(model, "add")).status_code == 403, label(model)
            assert staff.post(address(model, "add"), {}).status_code == 403
        assert list(model._default_manager.order_by("pk").values()) == before


@pytest.mark.story
def test_who_is_not_staff_sees_nothing(world: World) -> None:
    anonymous, member = Client(), Client()
    member.force_login(world.owner)
    for model in REGISTERED:
        row = model._default_manager.first()
        assert row is not None
        for url in (address(model, "changelist"), address(model, "change", row.pk)):
            answer = anonymous.get(url)
            assert answer.status_code == 302
            assert answer["Location"].startswith(reverse("admin:login"))
            assert member.get(url).status_code == 302
        assert member.post(address(model, "changelist"), {"action": "x", "_selected_action": row.pk}).status_code == 302
    assert member.get(reverse("admin:index"), follow=True).status_code == 403


@pytest.mark.django_db
def test_staff_sign_in_where_everybody_does() -> None:
    answer = Client().get(reverse("admin:login") + "?next=/admin/jobs/job/")
    assert answer.status_code == 302
    assert answer["Location"] == f"{settings.LOGIN_URL}?next=%2Fadmin%2Fjobs%2Fjob%2F"
    assert (
        Client()
        .post(reverse("admin:login"), {"username": "a", "password": "b"})["Location"]
        .startswith(settings.LOGIN_URL)
    )


def test_staff_change_their_password_where_everybody_does(staff: Client) -> None:
    assert staff.get(reverse("admin:password_change"))["Location"] == reverse("account_change_password")


def test_staff_without_rights_see_an_empty_admin(world: World) -> None:
    client = Client()
    client.force_login(make.user(is_staff=True))
    assert client.get(reverse("admin:index")).status_code == 200
    assert client.get(reverse("admin:jobs_job_changelist")).status_code == 403


def test_pages_keep_the_content_security_policy(staff: Client, world: World) -> None:
    from tests.house.style import inline

    for url in (
        reverse("admin:index"),
        address(Job, "changelist"),
        address(Job, "change", world.job.pk),
        address(User, "change", world.owner.pk),
        reverse("admin:catalog_priceversion_add"),
    ):
        answer = staff.get(url)
        assert "script-src 'self'" in answer["Content-Security-Policy"]
        assert inline(answer.content.decode()) == []
        assert "portal/admin.css" in answer.content.decode()


@pytest.mark.parametrize("by", ["job", "organization", "name", "key", "uuid"])
def test_jobs_are_found(staff: Client, world: World, by: str) -> None:
    terms = {
        "job": world.job.public_id,
        "organization": world.organization.public_id,
        "name": world.organization.name,
        "key": world.key.prefix,
        "uuid": str(world.job.pk),
    }
    stranger = make.job(organization=make.organization(name="Quiet Bakery"), model=world.model)
    html = staff.get(address(Job, "changelist"), {"q": terms[by]}).content.decode()
    assert world.job.public_id in html
    assert stranger.public_id not in html


def test_a_job_that_is_not_there_is_not_found(staff: Client, world: World) -> None:
    html = staff.get(address(Job, "changelist"), {"q": public("job", uuid7())}).content.decode()
    assert world.job.public_id not in html


def test_a_transfer_is_found_by_its_key_through_the_index(staff: Client, world: World) -> None:
    key = Transfer.objects.filter(organization=world.organization).latest("at").key
    with CaptureQueriesContext(connection) as asked:
        html = staff.get(address(Transfer, "changelist"), {"q": key}).content.decode()
    assert key in html
    assert html.count('name="_selected_action"') + html.count('class="field-organization') == 1
    assert not [query for query in asked if "UPPER(" in query["sql"]]


def test_long_lists_are_counted_to_a_bound(monkeypatch: pytest.MonkeyPatch, staff: Client, world: World) -> None:
    monkeypatch.setattr(BoundedPaginator, "LIMIT", 2)
    with CaptureQueriesContext(connection) as asked:
        assert staff.get(address(Job, "changelist")).status_code == 200
    counts = [query["sql"] for query in asked if "COUNT(" in query["sql"]]
    assert len(counts) == 1
    assert "LIMIT 2" in counts[0]
    assert "ORDER BY" not in counts[0]


def test_an_organization_shows_its_balance_and_the_way_to_its_rows(staff: Client, world: World) -> None:
    html = staff.get(address(type(world.organization), "change", world.organization.pk)).content.decode()
    assert "$5.9983" in html  # 6.00 less 0.001 held and 0.0007 charged
    assert "$0.0010" in html
    for name in ("ledger_transfer", "ledger_hold", "jobs_job"):
        link = f"{reverse(f'admin:{name}_changelist')}?organization__id__exact={world.organization.pk}"
        assert link in html
        assert staff.get(link).status_code == 200


def test_keys_are_called_api_keys_and_dates_are_readable(staff: Client, world: World) -> None:
    assert "API keys" in staff.get(reverse("admin:index")).content.decode()
    html = staff.get(reverse("admin:keys_apikey_changelist")).content.decode()
    assert "Select API key to view" in html
    made = world.key.created_at
    assert f"{made.day} {made:%b %Y %H:%M}" in html
