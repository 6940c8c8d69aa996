"""Which organization a request is for."""

from apps.accounts.middleware import SESSION_KEY
from apps.accounts.models import Membership
from tests import make


def test_the_session_chooses_among_mine(client, db):
    user = make.user()
    make.organization(owner=user, name="First Foods")
    second = make.organization(owner=user, name="Second Foods")
    client.force_login(user)
    assert b"First Foods" in client.get("/keys/").content
    session = client.session
    session[SESSION_KEY] = str(second.pk)
    session.save()
    page = client.get("/keys/").content
    assert b"<b>Second Foods<" in page
    assert b"<b>First Foods<" not in page


def test_a_session_cannot_name_another_organization(client, db):
    user = make.user()
    make.organization(owner=user, name="Mine")
    foreign = make.organization(owner=make.user(), name="Theirs")
    client.force_login(user)
    session = client.session
    session[SESSION_KEY] = str(foreign.pk)
    session.save()
    page = client.get("/keys/").content
    assert b"Mine" in page
    assert b"Theirs" not in page


def test_who_left_has_no_organization(client, db):
    user = make.user()
    organization = make.organization(owner=user)
    client.force_login(user)
    assert client.get("/keys/").status_code == 200
    Membership.objects.filter(organization=organization).delete()
    assert client.get("/keys/").headers["location"] == "/welcome/"


def test_staff_without_an_organization_go_to_their_own_pages(db, client):
    client.force_login(make.user(is_staff=True), "allauth.account.auth_backends.AuthenticationBackend")
    assert client.get("/keys/").headers["location"] == "/admin/"
