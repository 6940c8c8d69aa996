"""Pages of what is not allowed or not there: who can change that, and where to look."""

from __future__ import annotations

from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from django.test import Client

from apps.accounts.models import Membership
from tests import make

pytestmark = pytest.mark.django_db


def member(organization, role: str, **fields):
    user = make.user(**fields)
    Membership.objects.create(organization=organization, user=user, role=role)
    client = Client()
    client.force_login(user)
    return user, client


def asked(html: str) -> tuple[list[str], str, str]:
    """To whom the letter goes, its subject and its text."""
    link = urlsplit(html.partition('href="mailto:')[2].partition('"')[0].replace("&amp;", "&"))
    said = parse_qs(link.query)
    return [unquote(each) for each in link.path.split(",")], said["subject"][0], said["body"][0]


def test_who_may_not_is_told_who_can_change_that_and_asks_them():
    owner = make.user()
    organization = make.organization(owner=owner, name="Meridian Foods")
    admin, _ = member(organization, "admin")
    _, client = member(organization, "viewer")
    member(make.organization(owner=make.user()), "admin")  # of others
    refused = client.get("/playground/")
    html = refused.content.decode()
    assert refused.status_code == 403
    assert "Your role reads only." in html
    assert asked(html) == (
        [owner.email, admin.email],
        "Access in Meridian Foods at Cango Portal",
        "I need this page for my work, and my role does not open it: http://testserver/playground/",
    )
    assert 'class="reference">req_' in html
    assert 'aria-label="Main"' in html  # the navigation stays


def test_only_owners_are_asked_for_what_they_alone_can_give():
    owner = make.user()
    organization = make.organization(owner=owner)
    _, client = member(organization, "admin")
    member(organization, "billing")  # may pay, and gives no role
    assert asked(client.get("/billing/add/").content.decode())[0] == [owner.email]


def test_a_refusal_for_another_reason_asks_nobody():
    client = Client()
    user = make.user()
    make.organization(owner=user)
    client.force_login(user)
    html = client.get("/admin/auth/", follow=True).content.decode()
    assert "mailto:" not in html


def test_a_link_of_another_organization_offers_to_switch():
    user, client = member(make.organization(owner=make.user(), name="Meridian Foods"), "developer")
    orion = make.organization(owner=user, name="Orion Labs")
    job = make.job(organization=orion, model=make.model(), state="succeeded")
    strange = make.job(
        organization=make.organization(owner=make.user(), name="Strange"), model=job.model, state="succeeded"
    )
    for page in (f"/jobs/{job.public_id}/", f"/jobs/{strange.public_id}/"):  # whose it is, is not told
        html = client.get(page).content.decode()
        assert "Look in Orion Labs" in html
        assert "Strange" not in html
    found = client.post("/settings/switch/", {"organization": orion.pk, "next": f"/jobs/{job.public_id}/"}, follow=True)
    assert found.status_code == 200
    assert job.public_id in found.content.decode()


@pytest.mark.parametrize("page", ["/no-such-page/", "/jobs/job_none/"])
def test_who_has_one_organization_is_offered_no_other(page):
    _, client = member(make.organization(owner=make.user()), "developer")
    refused = client.get(page)
    assert refused.status_code == 404
    assert "Look in" not in refused.content.decode()


def test_an_address_that_is_nothing_offers_none():
    user, client = member(make.organization(owner=make.user()), "developer")
    make.organization(owner=user)
    assert "Look in" not in client.get("/no-such-page/").content.decode()
