"""The playground: what the address holds, what a run makes, what it shows, and the code that does the same."""

import ast
import io
import json

import pytest
from django.test import Client
from PIL import Image

from apps.jobs.models import Job, Refusal
from apps.ledger import services as ledger
from apps.ledger.models import Hold
from tests import make

HTMX = {"HTTP_HX_REQUEST": "true"}
FORM = {"model": "acme/chat", "prompt": "Say Brot 🥐", "max_tokens": "64"}


@pytest.fixture
def owner(db):
    return make.user()


@pytest.fixture
def organization(owner):
    return make.organization(owner=owner, credit_microusd=1_000_000)


@pytest.fixture
def client(owner, organization):
    client = Client()
    client.force_login(owner, "allauth.account.auth_backends.AuthenticationBackend")
    return client


@pytest.fixture
def models(db):
    return [make.model(name="acme/chat", title="Chat"), make.model(name="acme/other", title="Other")]


def text(response):
    return " ".join(response.content.decode().split())


def image():
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    file.seek(0)
    file.name = "cat.png"
    return file


def test_the_address_holds_model_prompt_and_settings(client, models):
    query = (
        "model=acme/other&compare=acme/chat&prompt=Hello+you&system=Be+brief&max_tokens=33&temperature=0.2&top_p=0.9"
    )
    shown = text(client.get(f"/playground/?{query}"))
    assert '<option value="acme/other" selected>' in shown
    assert '<option value="acme/chat" selected>Chat' in shown
    for value in (
        "Hello you</textarea>",
        "Be brief</textarea>",
        'value="33"',
        'value="0.2"',
        'value="0.9"',
        "Run on both",
    ):
        assert value in shown
    assert "is not on offer" not in shown
    assert "“acme/gone” is not on offer" in text(client.get("/playground/?model=acme/gone"))
    assert Job.objects.count() == 0


def test_settings_are_sent_and_kept_in_the_address(client, models):
    answer = client.post("/playground/", {**FORM, "system": "Be brief", "temperature": "0.2", "top_p": ""}, **HTMX)
    job = Job.objects.get()
    assert job.content.request == {
        "messages": [{"role": "system", "content": "Be brief"}, {"role": "user", "content": "Say Brot 🥐"}],
        "max_tokens": 64,
        "temperature": 0.2,
    }
    address = answer["HX-Push-Url"]
    assert address.startswith(
        "/playground/?model=acme/chat&system=Be%20brief&prompt=Say%20Brot%20%F0%9F%A5%90&max_tokens=64&"
    )
    assert address.endswith(f"&temperature=0.2&run={job.public_id}")
    assert "<html" not in text(answer)
    for html in (text(answer), text(client.get(address))):
        assert f'id="run-{job.public_id}"' in html
        assert f'data-topic="job.{job.public_id}"' in html
        assert "Say Brot 🥐</textarea>" in html
        assert f'hx-post="/jobs/{job.public_id}/cancel/"' in html


def test_a_long_prompt_stays_out_of_the_address_and_comes_from_the_run(client, models):
    prompt = "long " * 1000
    answer = client.post("/playground/", {**FORM, "prompt": prompt}, **HTMX)
    address = answer["HX-Push-Url"]
    assert address == f"/playground/?model=acme/chat&max_tokens=64&run={Job.objects.get().public_id}"
    assert prompt.strip() in text(client.get(address))


def test_two_models_are_two_jobs_side_by_side(client, models, organization):
    form = {**FORM, "compare": "acme/other"}
    answer = client.post("/playground/", form)
    jobs = list(Job.objects.order_by("model__name"))
    assert [job.model.name for job in jobs] == ["acme/chat", "acme/other"]
    assert jobs[0].content.request == jobs[1].content.request
    assert ledger.balance(organization.pk).held_microusd == sum(job.hold_microusd for job in jobs)
    assert answer.status_code == 302
    assert answer["location"].endswith("".join(f"&run={job.public_id}" for job in jobs))
    shown = text(client.get(answer["location"]))
    assert all(f'id="run-{job.public_id}"' in shown and f'id="out-{job.public_id}"' in shown for job in jobs)


def test_what_the_second_model_refuses_does_not_undo_the_first(client, models, organization):
    make.model(name="acme/dear", title="Dear", output=20_000_000_000)
    answer = client.post("/playground/", {**FORM, "compare": "acme/dear"}, **HTMX)
    job = Job.objects.get()
    assert answer.status_code == 422
    assert "Dear: " in text(answer)
    assert f'id="run-{job.public_id}"' in text(answer)
    assert Hold.objects.count() == 1
    assert Refusal.objects.get().model_name == "acme/dear"


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"temperature": "3"}, "Enter a number from 0 to 2"),
        ({"top_p": "x"}, "Enter a number from 0 to 1"),
        ({"image": io.BytesIO(b"no image")}, "Choose a PNG, JPEG, WebP or GIF image."),
    ],
)
def test_bad_settings_start_nothing(client, models, wrong, sentence):
    answer = client.post("/playground/", {**FORM, **wrong})
    assert (answer.status_code, sentence in text(answer), Job.objects.exists(), Hold.objects.exists()) == (
        422,
        True,
        False,
        False,
    )


def test_an_image_goes_along_where_the_model_takes_one(client, models):
    make.model(name="acme/blind", capabilities=[])
    client.post("/playground/", {**FORM, "image": image()})
    [words, picture] = Job.objects.get().content.request["messages"][0]["content"]
    assert words == {"type": "text", "text": "Say Brot 🥐"}
    assert picture["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert 'name="image"' not in text(client.get("/playground/?model=acme/blind"))
    assert 'name="image"' not in text(client.get("/playground/?model=acme/chat&compare=acme/blind"))


def test_the_code_does_the_same(client, models, organization, owner):
    make.api_key(organization, name="theirs")
    key, _ = make.api_key(organization, name="mine", user=owner)
    make.api_key(organization, name="newest")
    page = client.get('/playground/?model=acme/chat&prompt=Say+"hi",+it\'s+me&max_tokens=9')
    assert f"Put your key mine, <code>{key.prefix}…</code>" in text(page)
    curl, python, script = [code.text for code in page.context["page"].codes]
    sent = {
        "model": "acme/chat",
        "messages": [{"role": "user", "content": 'Say "hi", it\'s me'}],
        "max_tokens": 9,
        "stream": True,
    }
    assert json.loads(curl.partition("-d '")[2].removesuffix("'").replace("'\"'\"'", "'")) == sent
    [call] = [node for node in ast.walk(ast.parse(python)) if isinstance(node, ast.Call) and len(node.keywords) == 4]
    assert {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords} == sent
    assert json.loads(script.partition(".create(")[2].partition("})\n")[0] + "}") == sent
    part = client.get("/playground/?model=acme/chat&prompt=Other", HTTP_HX_TARGET="play-code", **HTMX)
    assert part["HX-Replace-Url"] == "/playground/?model=acme/chat&prompt=Other"
    assert text(part).startswith('<section class="card" id="play-code"')


def test_strangers_runs_are_not_shown_and_stopping_answers_the_page(client, models, organization):
    stranger = make.job(organization=make.organization(), model=models[0])
    shown = text(client.get(f"/playground/?run={stranger.public_id}&run=nonsense"))
    assert stranger.public_id not in shown.replace(f"run={stranger.public_id}", "")
    client.post("/playground/", FORM)
    job = Job.objects.of(organization).get()
    assert client.post(f"/jobs/{job.public_id}/cancel/", **HTMX).status_code == 204
    job.refresh_from_db()
    assert job.state == "cancelled"
    assert client.post(f"/jobs/{stranger.public_id}/cancel/", **HTMX).status_code == 404


def test_without_models_it_says_so(client):
    assert "No model is on offer yet" in text(client.get("/playground/"))
    assert client.post("/playground/", FORM).status_code == 404
