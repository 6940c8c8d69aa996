"""The history finds jobs by id, by the customer's own words about them, and by their text, a bounded part at a time."""

from urllib.parse import parse_qs

import pytest
from django.test import Client
from django.utils import timezone

from apps.jobs.forms import kind_of
from apps.jobs.models import Content
from apps.jobs.pages import history
from tests import make

pytestmark = pytest.mark.django_db


@pytest.fixture
def organization():
    return make.organization(owner=make.user())


@pytest.fixture
def client(organization):
    client = Client()
    client.force_login(organization.memberships.get().user)
    return client


def said(organization, model, text, **fields):
    request = {"messages": [{"role": "user", "content": fields.pop("asked", "Hi")}]}
    return make.job(organization=organization, model=model, state="succeeded", text=text, request=request, **fields)


def found(client, **query):
    response = client.get("/jobs/", query, headers={"hx-request": "true"})
    return [row.page.job for row in response.context["rows"]], response


@pytest.mark.parametrize(
    ("sought", "kind"),
    [
        ("job_01M8K3YDJWF0ATGXWG3W407NQF", "id"),
        ("01m8k3", "id"),
        ("0815", "text"),
        ("team=red", "metadata"),
        ("customer=ACME Ltd", "metadata"),
        ("a = b", "text"),
        ("Roggenlaib", "text"),
    ],
)
def test_what_is_looked_for_says_what_it_is(sought, kind):
    assert kind_of(sought) == kind


def test_text_is_found_in_requests_and_answers(client, organization):
    model = make.model()
    answered = said(organization, model, "Ein Roggenlaib, bitte")
    asked = said(organization, model, "Ja", asked="Gibt es ROGGENLAIB?")
    said(organization, model, "Brot")
    said(make.organization(), model, "Roggenlaib")
    jobs, response = found(client, q="roggenlaib")
    assert jobs == [asked, answered]
    assert "The text of 3 jobs back to" in response.content.decode()
    assert found(client, q="user")[0] == []  # a word of the API
    assert found(client, q="roggenlaib", state="failed")[0] == []


def test_text_is_searched_a_bounded_part_at_a_time(client, organization, monkeypatch):
    monkeypatch.setattr(history, "LOOKED", 3)
    model = make.model()
    jobs = [said(organization, model, "Brot" if number in {0, 1, 6} else "Wein") for number in range(8)]
    seen, query, pages = [], {"q": "brot"}, 0
    while query:
        rows, response = found(client, **query)
        seen += rows
        pages += 1
        query = {name: values[0] for name, values in parse_qs(response.context["older"]).items()}
    assert (seen, pages) == ([jobs[6], jobs[1], jobs[0]], 3)


def test_what_is_too_long_or_cannot_be_read_is_counted(client, organization):
    model = make.model()
    said(organization, model, "x" * (history.LONGEST_TEXT + 1))
    harmed = said(organization, model, "Brot")
    Content.objects.filter(job=harmed).update(sealed_answer=b"\x01nonsense")
    good = said(organization, model, "Brot")
    jobs, response = found(client, q="Brot")
    assert jobs == [good]
    assert "2 of them could not be" in response.content.decode()


def test_metadata_is_found_where_it_is_common_and_where_it_is_rare(client, organization, monkeypatch):
    model = make.model()
    rare = said(organization, model, "", metadata={"team": "blue", "n": "1"})
    common = [said(organization, model, "", metadata={"team": "red"}) for _ in range(4)]
    said(make.organization(), model, "", metadata={"team": "red"})
    assert found(client, q="team=red")[0] == common[::-1]
    monkeypatch.setattr(history, "WALKED", 2)
    assert found(client, q="team=blue")[0] == [rare]
    assert found(client, q="team=green")[0] == []


def test_what_is_not_kept_is_not_found(client, organization):
    said(organization, make.model(), "Brot", finished_at=timezone.now())
    Content.objects.all().delete()
    assert found(client, q="Brot")[0] == []
