"""From nothing to an organization with credit, by mail; and what strangers cannot learn on the way."""

import re

import pytest
from django.core import mail
from django.test import Client
from django.urls import reverse

from apps.accounts.models import AuditEvent, Membership, Organization, User
from apps.billing.models import Company
from apps.ledger import services as ledger
from apps.ledger.models import Transfer
from apps.portal import services
from tests import make
from tests.threads import run_in_threads

PASSWORD = "a long enough password"


def sign_up(client: Client, email: str, password: str = PASSWORD):
    return client.post("/signup/", {"email": email, "password1": password})


def link(message) -> str:
    found = re.search(r"https?://[^/]+(/\S+)", message.body)
    assert found
    return found[1]


def test_from_sign_up_to_credit(client, db, settings):
    assert sign_up(client, "Lena@Meridian.example").headers["location"] == "/verify/"
    assert mail.outbox[0].to == ["lena@meridian.example"]
    url = link(mail.outbox[0])
    assert url.startswith("/verify/")

    assert b"lena@meridian.example" in client.get(url).content  # a GET alone confirms nothing: mail scanners open links
    assert not User.objects.get().emailaddress_set.get().verified
    assert client.post(url).headers["location"] == "/dashboard/"  # the browser that signed up is signed in

    assert client.get("/dashboard/").headers["location"] == "/welcome/"
    assert b"$5.00" in client.get("/welcome/").content
    assert client.post("/welcome/", {"name": "Meridian Foods", "country": "DE"}).headers["location"] == "/dashboard/"

    organization = Organization.objects.get()
    assert organization.memberships.get().role == Membership.Role.OWNER
    balance = ledger.balance(organization.pk)
    assert balance.available_microusd == settings.STARTER_CREDIT_MICROUSD == 5_000_000
    transfer = Transfer.objects.get()
    assert (transfer.key, transfer.amount_microusd) == (f"starter:{organization.pk}", 5_000_000)
    assert AuditEvent.objects.filter(organization=organization, action="organization.created").exists()

    assert client.post("/welcome/", {"name": "Again", "country": "DE"}).headers["location"] == "/dashboard/"
    assert Organization.objects.count() == Transfer.objects.count() == 1


def test_an_organization_needs_a_name(client, db):
    client.force_login(make.user())
    answer = client.post("/welcome/", {"name": "  "})
    assert answer.status_code == 422
    assert b"<title>Error: " in answer.content
    assert b"Enter the name of your organization." in answer.content
    assert not Organization.objects.exists()
    assert not Transfer.objects.exists()


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ({"country": ""}, b"Choose the country of your organization."),
        ({"country": "EU"}, b"Choose a country from the list."),
        ({"country": "DE", "tax_id": "DE12345678"}, b"one looks like DE123456789."),
        ({"country": "FR", "tax_id": "DE123456789"}, b"one looks like FRAB123456789."),
        ({"country": "BR", "tax_id": "1"}, b"Tax IDs of this country are taken on the payment page."),
    ],
)
def test_an_organization_needs_a_country_and_a_tax_id_of_it(client, db, given, code):
    client.force_login(make.user())
    answer = client.post("/welcome/", {"name": "Meridian Foods", **given})
    assert (answer.status_code, code in answer.content) == (422, True)
    assert not Organization.objects.exists()
    assert not Company.objects.exists()
    assert not Transfer.objects.exists()


def test_the_country_is_guessed_and_both_are_kept(client, db):
    client.force_login(make.user())
    german = client.get("/welcome/", headers={"accept-language": "de-AT,en;q=0.5"}).content
    assert b'<option value="AT" selected>Austria</option>' in german
    chinese = client.get("/welcome/", headers={"accept-language": "zh-CN"}).content.decode()
    assert '<option value="CN" selected>中国</option>' in chinese
    assert b'<option value="" selected>' in client.get("/welcome/", headers={"accept-language": "en"}).content
    client.post("/welcome/", {"name": "Meridian Foods", "country": "GR", "tax_id": "123 456-789"})
    company = Company.objects.get()
    assert (company.organization, company.country, company.tax_id_type, company.tax_id) == (
        Organization.objects.get(),
        "GR",
        "eu_vat",
        "EL123456789",
    )


def test_an_unverified_address_cannot_sign_in(client, db):
    make.user(email="new@example.org", verified=False)
    answer = client.post("/login/", {"login": "new@example.org", "password": "correct horse battery"})
    assert answer.headers["location"] == "/verify/"
    assert "_auth_user_id" not in client.session
    assert client.get("/dashboard/").headers["location"].startswith("/login/")
    assert mail.outbox[0].to == ["new@example.org"]  # signing in sends the link again
    assert b"new@example.org</strong>" in client.get("/verify/").content
    assert b"@" not in Client().get("/verify/").content.split(b"<h1>")[1].split(b"</p>")[0]


def test_a_link_opened_in_another_browser_does_not_sign_in(client, db):
    sign_up(client, "new@example.org")
    other = Client()
    assert other.post(link(mail.outbox[0])).headers["location"] == "/login/"
    assert "_auth_user_id" not in other.session
    assert (
        other.post("/login/", {"login": "new@example.org", "password": PASSWORD}).headers["location"] == "/dashboard/"
    )


def test_a_broken_link_says_so(client, db):
    answer = client.get("/verify/not-a-key/")
    assert b"This link no longer works" in answer.content


def test_sign_up_tells_nobody_who_has_an_account(db):
    make.user(email="lena@example.org")
    clients = [Client(), Client()]
    addresses = ("lena@example.org", "nobody@example.org")
    answers = [sign_up(client, email) for client, email in zip(clients, addresses, strict=True)]
    assert [each.status_code for each in answers] == [302, 302]
    assert answers[0].headers["location"] == answers[1].headers["location"]
    assert User.objects.filter(email="lena@example.org").count() == 1
    pages = [
        client.get("/verify/").content.decode().split("<main")[1].split("</main>")[0].replace(email, "")
        for client, email in zip(clients, addresses, strict=True)
    ]
    assert pages[0] == pages[1]
    assert [(m.to, m.subject) for m in mail.outbox] == [
        (["lena@example.org"], "You already have a Cango Portal account"),
        (["nobody@example.org"], "Confirm your address for Cango Portal"),
    ]


@pytest.mark.parametrize("email", ["lena@example.org", "nobody@example.org"])
def test_sign_in_says_the_same_for_unknown_and_wrong(client, db, email):
    make.user(email="lena@example.org")
    answer = client.post("/login/", {"login": email, "password": "wrong wrong wrong"})
    assert b"E-mail and password do not match an account." in answer.content
    assert b"<title>Error: Sign in" in answer.content
    assert answer.content.count(b'role="alert"') == 1
    assert f'value="{email}"'.encode() in answer.content  # what was entered stays


def test_password_reset_says_the_same_for_unknown(db):
    make.user(email="lena@example.org")
    pages = []
    for email in ("lena@example.org", "nobody@example.org"):
        answer = Client().post("/password/reset/", {"email": email}, follow=True)
        assert answer.redirect_chain == [("/password/reset/done/", 302)]
        pages.append(re.sub(rb'value="[^"]{64}"', b"", answer.content))
    assert pages[0] == pages[1]
    assert [m.subject for m in mail.outbox] == [
        "Set a new password for Cango Portal",
        "No Cango Portal account with this address",
    ]


def test_password_reset(client, db):
    user = make.user(email="lena@example.org")
    client.post("/password/reset/", {"email": "lena@example.org"})
    url = link(mail.outbox[0])
    form = client.get(url, follow=True).redirect_chain[-1][0]
    done = client.post(form, {"password1": PASSWORD, "password2": PASSWORD})
    assert done.headers["location"] == reverse("account_reset_password_from_key_done")
    user.refresh_from_db()
    assert user.check_password(PASSWORD)
    assert b"This link no longer works" in Client().get(url, follow=True).content


def test_short_passwords_are_refused_with_a_summary(client, db):
    answer = sign_up(client, "new@example.org", "short")
    html = answer.content.decode()
    assert "<title>Error: Sign up" in html
    assert 'href="#id_password1"' in html
    assert 'aria-describedby="id_password1_helptext id_password1_error"' in html
    assert not User.objects.exists()


def test_password_managers_know_the_fields(client, db):
    login, signup = client.get("/login/").content.decode(), client.get("/signup/").content.decode()
    assert 'autocomplete="username"' in login
    assert 'autocomplete="current-password"' in login
    assert 'autocomplete="new-password"' in signup
    assert "placeholder" not in login + signup


def test_signing_out_is_a_post(client, db):
    client.force_login(make.user())
    client.get("/logout/")
    assert "_auth_user_id" in client.session
    assert client.post("/logout/").headers["location"] == "/login/"
    assert "_auth_user_id" not in client.session


def test_sign_in_returns_to_where_the_reader_was(client, db):
    user = make.user()
    make.organization(owner=user)
    asked = client.get("/keys/").headers["location"]
    assert asked == "/login/?next=/keys/"
    answer = client.post(asked, {"login": user.email, "password": "correct horse battery", "next": "/keys/"})
    assert answer.headers["location"] == "/keys/"
    elsewhere = Client().post(
        "/login/", {"login": user.email, "password": "correct horse battery", "next": "https://evil.example/"}
    )
    assert elsewhere.headers["location"] == "/dashboard/"


def test_staff_without_an_organization_go_to_administration(client, db):
    user = make.user(is_staff=True)
    answer = client.post("/login/", {"login": user.email, "password": "correct horse battery"})
    assert answer.headers["location"] == "/admin/"


def test_the_password_can_be_changed(client, db):
    user = make.user()
    make.organization(owner=user)
    client.post("/login/", {"login": user.email, "password": "correct horse battery"})
    wrong = client.post("/password/change/", {"oldpassword": "x", "password1": PASSWORD, "password2": PASSWORD})
    assert b"This is not your current password." in wrong.content
    right = client.post(
        "/password/change/", {"oldpassword": "correct horse battery", "password1": PASSWORD, "password2": PASSWORD}
    )
    assert right.status_code == 302
    user.refresh_from_db()
    assert user.check_password(PASSWORD)
    assert "_auth_user_id" in client.session


def test_the_form_sent_twice_at_once_gives_one_organization(transactional_db):
    user = make.user()
    names = run_in_threads(4, lambda n: services.welcome(user=user, organization_name=f"Foods {n}").name)
    assert len(set(names)) == 1
    assert Organization.objects.count() == Membership.objects.count() == Transfer.objects.count() == 1
