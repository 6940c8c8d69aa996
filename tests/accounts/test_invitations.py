"""Invitations: by mail to an address, taken with an account or without one, once; and what they never give away."""

import re
from datetime import timedelta

import pytest
from django.conf import settings
from django.core import mail
from django.test import Client
from django.utils import timezone

from apps.accounts import invitations
from apps.accounts.models import AuditEvent, Invitation, Membership, User
from apps.core.errors import NotAllowed
from apps.keys import members
from tests import make
from tests.threads import run_in_threads

ADDRESS = "sam@meridian.example"


@pytest.fixture
def owner(db):
    user = make.user(email="lena@meridian.example", name="Lena")
    make.organization(owner=user)
    return user


def signed_in(user) -> Client:
    client = Client()
    client.force_login(user, "allauth.account.auth_backends.AuthenticationBackend")
    return client


@pytest.fixture
def page(owner) -> Client:
    return signed_in(owner)


@pytest.fixture
def invited(page, django_capture_on_commit_callbacks) -> str:
    """The address of the page that the mail leads to."""
    with django_capture_on_commit_callbacks(execute=True):
        answer = page.post("/settings/members/invite/", {"email": "Sam@Meridian.example", "role": "billing"})
    assert answer.headers["location"] == "/settings/members/"
    found = re.search(rf"{re.escape(settings.BASE_URL)}(/invite/\S+)", mail.outbox[0].body)
    assert found
    return found[1]


def text(answer) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", answer.content.decode().split("<main")[1].split("</main>")[0]).split())


def actions() -> list[str]:
    return list(AuditEvent.objects.order_by("pk").values_list("action", flat=True))


def test_the_mail_and_the_list(page, invited):
    [message] = mail.outbox
    assert (message.to, message.subject) == ([ADDRESS], "lena@meridian.example invites you to Meridian Foods")
    assert message.body.startswith(
        "lena@meridian.example invites sam@meridian.example to Meridian Foods on Cango Portal, as billing.\n\n"
        "Billing: Payments, invoices, plans and limits; also sends work and reads jobs and usage. No webhooks or members.\n"
    )
    assert "List-Unsubscribe" not in message.extra_headers
    row = Invitation.objects.get()
    assert (row.email, row.role, row.state, row.expires_at - row.sent_at) == (
        ADDRESS,
        "billing",
        "pending",
        timedelta(days=7),
    )
    assert f"{ADDRESS} by lena@meridian.example Billing" in text(page.get("/settings/members/"))
    event = AuditEvent.objects.get()
    assert (event.action, event.target, event.data) == ("member.invited", ADDRESS, {"role": "billing"})


def test_without_an_account(invited):
    visitor = Client()
    assert "Lena (lena@meridian.example) invites sam@meridian.example." in text(visitor.get(invited))
    sign_up = f"/signup/?next={invited.replace('/', '%2F').replace(':', '%3A')}&amp;email=sam%40meridian.example"
    assert sign_up in visitor.get(invited).content.decode()
    assert f'value="{ADDRESS}"' in visitor.get(sign_up.replace("&amp;", "&")).content.decode()
    mail.outbox.clear()
    form = {"email": ADDRESS, "password1": "a long enough password", "next": invited}
    assert visitor.post("/signup/", form).headers["location"] == invited  # the mail was opened: the address is known
    assert mail.outbox == []
    assert not Membership.objects.filter(user__email=ADDRESS).exists()
    welcome = visitor.get("/welcome/").content.decode()
    assert f'<a href="{invited}">See the invitation</a>' in welcome
    assert visitor.post(invited, {"answer": "accept"}).headers["location"] == "/dashboard/"
    membership = Membership.objects.get(user__email=ADDRESS)
    assert (membership.role, membership.organization.name) == ("billing", "Meridian Foods")
    assert actions() == ["member.invited", "member.joined"]
    assert "You are a member of Meridian Foods" in text(visitor.get(invited))
    assert "This invitation was accepted It can be used once." in text(Client().get(invited))


def test_an_opened_invitation_confirms_no_other_address(invited):
    visitor = Client()
    visitor.get(invited)
    answer = visitor.post("/signup/", {"email": "eve@elsewhere.example", "password1": "a long enough password"})
    assert answer.headers["location"] == "/verify/"
    eve = User.objects.get(email="eve@elsewhere.example")
    assert list(eve.emailaddress_set.values_list("email", "verified")) == [("eve@elsewhere.example", False)]


def test_signed_in_with_another_address(invited):
    other = make.user(email="eve@elsewhere.example")
    make.organization(owner=other, name="Elsewhere")
    client = signed_in(other)
    assert "You are signed in as eve@elsewhere.example. The invitation is for sam@meridian.example." in text(
        client.get(invited)
    )
    answer = client.post(invited, {"answer": "accept"})
    assert answer.status_code == 409
    assert Membership.objects.count() == 2
    other.emailaddress_set.create(email=ADDRESS, verified=False)  # said, not shown
    assert client.post(invited, {"answer": "accept"}).status_code == 409
    assert (Membership.objects.count(), Invitation.objects.get().state, actions()) == (2, "pending", ["member.invited"])


def test_with_an_account_in_another_organization(invited):
    sam = make.user(email=ADDRESS)
    mine = make.organization(owner=sam, name="Sam and Sons")
    client = signed_in(sam)
    assert b"Accept the invitation" in client.get(invited).content
    client.post(invited, {"answer": "accept"})
    assert b"<b>Meridian Foods</b>" in client.get("/keys/").content
    client.post("/settings/switch/", {"organization": str(mine.pk), "next": "/jobs/"})
    assert b"<b>Sam and Sons</b>" in client.get("/keys/").content
    foreign = make.organization(owner=make.user(), name="Theirs")
    assert (
        client.post("/settings/switch/", {"organization": str(foreign.pk), "next": "//evil.example/"}).headers[
            "location"
        ]
        == "/dashboard/"
    )
    assert b"<b>Sam and Sons</b>" in client.get("/keys/").content


def test_declined_ended_withdrawn(owner, page, invited, django_capture_on_commit_callbacks):
    sam = make.user(email=ADDRESS)
    client = signed_in(sam)
    Invitation.objects.update(expires_at=timezone.now(), sent_at=timezone.now() - timedelta(days=8))
    assert "This invitation has ended" in text(client.get(invited))
    assert client.post(invited, {"answer": "accept"}).status_code == 409
    with django_capture_on_commit_callbacks(execute=True):
        page.post(f"/settings/members/invitations/{Invitation.objects.get().public_id}/send/")
    assert len(mail.outbox) == 2
    assert invited in mail.outbox[1].body  # the same address
    page.post(f"/settings/members/invitations/{Invitation.objects.get().public_id}/send/")  # within a minute
    assert (len(mail.outbox), Invitation.objects.get().sent) == (2, 2)
    page.post(f"/settings/members/invitations/{Invitation.objects.get().public_id}/withdraw/")
    assert "This invitation was withdrawn" in text(client.get(invited))
    assert client.post(invited, {"answer": "accept"}).status_code == 409
    again = invitations.invite(organization=owner.organizations.get(), email=ADDRESS, role="developer", user=owner)
    assert Client().post(f"/invite/{invitations.token(again)}/", {"answer": "decline"}).status_code == 302
    assert "Invitation declined" in text(Client().get(f"/invite/{invitations.token(again)}/"))
    assert Membership.objects.count() == 1
    assert actions() == [
        "member.invited",
        "invitation.sent_again",
        "invitation.withdrawn",
        "member.invited",
        "invitation.declined",
    ]


def test_what_is_refused_writes_nothing(owner, page, invited):
    organization = owner.organizations.get()
    for email, words in (
        (ADDRESS, "is invited already"),
        (owner.email, "is a member already"),
        ("nobody", "Enter a valid email address"),
    ):
        answer = page.post("/settings/members/invite/", {"email": email, "role": "owner"})
        assert answer.status_code == 422
        assert words in answer.content.decode()
    assert page.post("/settings/members/invite/", {"email": "new@meridian.example", "role": "king"}).status_code == 422
    developer = make.user()
    organization.memberships.create(user=developer, role="developer")
    client, row = signed_in(developer), Invitation.objects.get()
    for path in (
        "invite/",
        f"invitations/{row.public_id}/withdraw/",
        f"invitations/{row.public_id}/send/",
        f"{organization.memberships.get(user=owner).pk}/remove/",
    ):
        assert client.post(f"/settings/members/{path}", {"email": "x@y.example", "role": "owner"}).status_code == 403
    with pytest.raises(NotAllowed):
        invitations.withdraw(invitation=row, user=developer)
    stranger = signed_in(make.organization(owner=make.user(), name="Other").memberships.get().user)
    assert stranger.post(f"/settings/members/invitations/{row.public_id}/withdraw/").status_code == 404
    forged = invited.rstrip("/")[:-1] + "/"
    assert Client().get(forged).status_code == 404
    row.refresh_from_db()
    assert (Invitation.objects.count(), row.state, len(mail.outbox), actions()) == (1, "pending", 1, ["member.invited"])


def test_whoever_may_invite_no_more_leaves_no_invitation(owner, page, invited):
    organization = owner.organizations.get()
    second = make.user()
    organization.memberships.create(user=second, role="owner")
    members.change_role(membership=organization.memberships.get(user=owner), role="developer", user=second)
    assert Invitation.objects.get().state == "withdrawn"
    assert page.get("/settings/members/invite/").status_code == 403


def test_members_change_and_leave(owner, page):
    organization = owner.organizations.get()
    sam = make.user(email=ADDRESS)
    membership = organization.memberships.create(user=sam, role="developer")
    assert page.post(f"/settings/members/{membership.pk}/", {"role": "billing"}).status_code == 302
    membership.refresh_from_db()
    assert membership.role == "billing"
    mine = organization.memberships.get(user=owner)
    assert "is the last owner" in page.post(f"/settings/members/{mine.pk}/", {"role": "billing"}).content.decode()
    assert "is the last owner" in page.post(f"/settings/members/{mine.pk}/remove/").content.decode()
    assert signed_in(sam).post(f"/settings/members/{membership.pk}/remove/").headers["location"] == "/dashboard/"
    assert list(organization.memberships.all()) == [mine]
    assert page.get(f"/settings/members/{2**70}/").status_code == 404


@pytest.mark.story
def test_accepted_and_withdrawn_at_once_is_one_of_them(transactional_db):
    owner, sam = make.user(), make.user(email=ADDRESS)
    organization = make.organization(owner=owner)
    verbs = [(invitations.accept, sam), (invitations.accept, sam), (invitations.withdraw, owner)]
    for _ in range(5):
        row = invitations.invite(organization=organization, email=ADDRESS, role="developer", user=owner)
        run_in_threads(3, lambda n, row=row: verbs[n][0](invitation=row, user=verbs[n][1]))
        row.refresh_from_db()
        joined = Membership.objects.filter(user=sam)
        assert (row.state == "accepted") == (joined.count() == 1)
        joined.delete()
