"""Acts from pages: send work from the playground, cancel a job, run it again."""

import io
from datetime import timedelta

import pytest
from django.test import Client
from django.utils import timezone
from PIL import Image

from apps.accounts import tickets
from apps.accounts.models import AuditEvent
from apps.core.ids import uuid7
from apps.dispatch import reporting, services
from apps.files.models import File
from apps.jobs.models import Job, Refusal
from apps.ledger import services as ledger
from apps.ledger.models import Hold
from apps.runner.protocol import Report, Usage
from cango_portal import database
from tests import make


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


def page(response):
    return " ".join(response.content.decode().split())


def image():
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "PNG")
    file.seek(0)
    file.name = "invoice.png"
    return file


def test_a_prompt_becomes_a_background_job(client, organization, owner):
    make.model(name="acme/chat")
    response = client.post("/playground/", {"model": "acme/chat", "prompt": "Hello", "max_tokens": "64"})
    job = Job.objects.get()
    assert response.status_code == 302
    assert response["location"] == f"/jobs/{job.public_id}/"
    assert (job.state, job.interactive, job.streaming, job.user, job.api_key) == ("queued", False, False, owner, None)
    assert job.max_completion_tokens == 64
    assert job.content.request == {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 64}
    balance = ledger.balance(organization.pk)
    assert balance.held_microusd == job.hold_microusd > 0


def test_a_form_sent_twice_makes_one_job(client, organization):
    make.model(name="acme/chat")
    ticket = tickets.new("job")
    form = {"model": "acme/chat", "prompt": "Hello", "max_tokens": "64", "job": ticket}
    answers = [client.post("/playground/", form) for _ in range(2)]
    job = Job.objects.get()
    assert {answer["location"] for answer in answers} == {f"/jobs/{job.public_id}/"}
    assert ledger.balance(organization.pk).held_microusd == job.hold_microusd
    client.post("/playground/", {"model": "acme/chat", **form, "job": f"{job.pk}:forged"})
    assert Job.objects.count() == 2


def test_a_text_becomes_an_embeddings_job(client):
    make.model(kind="embeddings", name="acme/embed", output=0)
    client.post("/playground/", {"model": "acme/embed", "text": "cat"})
    job = Job.objects.get()
    assert (job.kind, job.content.request) == ("embeddings", {"input": "cat"})


def test_a_file_becomes_an_ocr_job(client):
    make.model(kind="ocr", name="acme/ocr", input=0, output=0)
    client.post("/playground/", {"model": "acme/ocr", "file": image()})
    job = Job.objects.get()
    assert (job.kind, job.total_pages, job.file.name) == ("ocr", 1, "invoice.png")
    assert job.hold_microusd == 1000


@pytest.mark.parametrize(
    ("form", "sentence"),
    [
        ({"prompt": "  ", "max_tokens": "64"}, "Write a prompt."),
        ({"prompt": "Hello", "max_tokens": "0"}, "Ask for at least 1 token."),
        ({"prompt": "Hello", "max_tokens": "1025"}, "This model writes at most 1,024 tokens."),
        ({"prompt": "Hello", "max_tokens": "many"}, "Enter a whole number."),
        ({"prompt": "x" * 70_000, "max_tokens": "64"}, "This model&#x27;s context is 4,096 tokens"),
        ({}, "Write a prompt."),
    ],
)
def test_bad_input_is_answered_with_the_form(client, form, sentence):
    make.model(name="acme/chat")
    response = client.post("/playground/", {"model": "acme/chat", **form})
    assert response.status_code == 422
    shown = page(response)
    assert "<title>Error: Playground" in shown
    assert "The job was not started." in shown
    assert sentence in shown
    assert 'aria-invalid="true"' in shown
    assert not Job.objects.exists()
    assert not Hold.objects.exists()


def test_a_file_that_is_none_is_refused(client):
    make.model(kind="ocr", name="acme/ocr", input=0, output=0)
    file = io.BytesIO(b"hello")
    file.name = "hello.png"
    response = client.post("/playground/", {"model": "acme/ocr", "file": file})
    assert response.status_code == 422
    assert not File.objects.exists()
    assert not Job.objects.exists()


def test_without_credit_nothing_is_kept_but_the_refusal(client, organization):
    make.model(name="acme/chat", output=10_000_000_000)
    make.model(kind="ocr", name="acme/ocr", input=0, output=0, page=5_000_000)
    for name, form in (("chat", {"prompt": "Hello", "max_tokens": "1024"}), ("ocr", {"file": image()})):
        response = client.post("/playground/", {"model": f"acme/{name}", **form})
        assert response.status_code == 402
        assert "The job was not started." in page(response)
    assert [refusal.model_name for refusal in Refusal.objects.order_by("pk")] == ["acme/chat", "acme/ocr"]
    assert not Job.objects.exists()
    assert not Hold.objects.exists()
    assert not File.objects.exists()
    assert "Refused, no credit" in page(client.get("/jobs/"))


def test_unknown_models_and_visitors(client, organization):
    assert client.post("/playground/", {"model": "acme/none", "prompt": "x"}).status_code == 404
    assert client.put("/playground/").status_code == 405
    make.model(name="acme/chat")
    response = Client().post("/playground/", {"model": "acme/chat", "prompt": "Hello", "max_tokens": "64"})
    assert response["location"].startswith("/login/")
    assert not Job.objects.exists()


def test_cancelling_says_what_it_costs_and_returns_the_hold(client, organization, owner):
    make.model(name="acme/chat")
    client.post("/playground/", {"model": "acme/chat", "prompt": "Hello", "max_tokens": "64"})
    job = Job.objects.get()
    shown = page(client.get(f"/jobs/{job.public_id}/cancel/"))
    assert "It has not started, so it costs nothing." in shown
    response = client.post(f"/jobs/{job.public_id}/cancel/")
    assert response["location"] == f"/jobs/{job.public_id}/"
    job.refresh_from_db()
    assert (job.state, job.charge_microusd) == ("cancelled", 0)
    balance = ledger.balance(organization.pk)
    assert (balance.available_microusd, balance.held_microusd) == (1_000_000, 0)
    assert AuditEvent.objects.filter(action="job.cancelled", actor=owner, target=job.public_id).count() == 1
    assert "This job has ended" in page(client.get(f"/jobs/{job.public_id}/cancel/"))
    client.post(f"/jobs/{job.public_id}/cancel/")
    assert AuditEvent.objects.filter(action="job.cancelled").count() == 1


def test_stopping_a_running_job_names_what_it_cost_so_far(client, organization):
    job = make.job(
        organization=organization,
        model=make.model(),
        state="running",
        started_at=timezone.now(),
        prompt_tokens=6204,
        completion_tokens=1312,
        hold_microusd=2220,
    )
    shown = page(client.get(f"/jobs/{job.public_id}/cancel/"))
    assert "What is finished stays and is charged" in shown
    assert ">$0.0012</span> so far, at most $0.0022" in shown
    client.post(f"/jobs/{job.public_id}/cancel/")
    assert "Stopping; what is written is kept and charged" in page(client.get(f"/jobs/{job.public_id}/"))


def test_lines_end_as_they_were_written(client):
    make.model(name="acme/chat")
    client.post("/playground/", {"model": "acme/chat", "prompt": "One\r\ntwo\rthree", "max_tokens": "64"})
    assert Job.objects.get().content.request["messages"][0]["content"] == "One\ntwo\nthree"


def test_the_same_work_runs_again_once_for_each_form(client, organization, owner):
    make.model(name="acme/chat")
    client.post("/playground/", {"model": "acme/chat", "prompt": "Hello", "max_tokens": "64"})
    first = Job.objects.get()
    ticket = tickets.new("job")
    answers = [client.post(f"/jobs/{first.public_id}/again/", {"job": ticket}) for _ in range(2)]
    second = Job.objects.exclude(pk=first.pk).get()
    assert {answer["location"] for answer in answers} == {f"/jobs/{second.public_id}/"}
    assert second.content.request == first.content.request
    assert (second.interactive, second.user, second.api_key) == (False, owner, None)
    assert client.get(f"/jobs/{first.public_id}/again/").status_code == 405


@pytest.mark.parametrize(("was", "becomes"), [("flexible", "flexible"), ("batch", "standard")])
def test_flexible_work_runs_again_as_flexible(client, was, becomes):
    make.model(name="acme/chat")
    client.post("/playground/", {"model": "acme/chat", "prompt": "Hello", "max_tokens": "64"})
    first = Job.objects.get()
    assert first.tier == "standard"
    Job.objects.update(tier=was)
    client.post(f"/jobs/{first.public_id}/again/", {"job": tickets.new("job")})
    second = Job.objects.exclude(pk=first.pk).get()
    assert second.tier == becomes
    assert (second.hold_microusd < first.hold_microusd) == (becomes == "flexible")


def test_a_file_that_is_kept_is_read_again(client):
    make.model(kind="ocr", name="acme/ocr", input=0, output=0)
    client.post("/playground/", {"model": "acme/ocr", "file": image()})
    first = Job.objects.get()
    client.post(f"/jobs/{first.public_id}/again/", {"job": tickets.new("job")})
    second = Job.objects.exclude(pk=first.pk).get()
    assert (second.file, second.total_pages) == (first.file, 1)
    Job.objects.update(file=None)
    response = client.post(f"/jobs/{first.public_id}/again/", {"job": tickets.new("job")})
    assert response["location"] == "/playground/?model=acme/ocr"
    assert Job.objects.count() == 2


def test_running_again_is_refused_as_trying_is(client, organization):
    model = make.model(name="acme/chat", output=10_000_000_000)
    request = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 1024}
    job = make.job(organization=organization, model=model, state="failed", request=request)
    response = client.post(f"/jobs/{job.public_id}/again/", {"job": tickets.new("job")})
    assert response.status_code == 402
    assert "The job was not started." in page(response)
    assert Refusal.objects.get().model_name == "acme/chat"
    model.listed = False
    model.save()
    assert client.post(f"/jobs/{job.public_id}/again/", {"job": tickets.new("job")}).status_code == 404
    assert Job.objects.count() == 1
    stranger = make.job(organization=make.organization(), model=model, state="failed", request=request)
    assert client.post(f"/jobs/{stranger.public_id}/again/").status_code == 404


def test_the_customer_learns_that_the_operator_cancelled_a_waiting_job(client):
    make.model(name="acme/chat")
    client.post("/playground/", {"model": "acme/chat", "prompt": "Hello", "max_tokens": "64"})
    job = Job.objects.get()
    services.cancel(job_id=job.pk, actor=make.user(is_staff=True), reason="Site maintenance.")
    job.refresh_from_db()
    assert job.reason == "Cancelled by the operator: Site maintenance; nothing was charged"
    assert job.events.last().reason == job.reason


def test_the_reason_of_the_operator_survives_to_the_end_of_a_running_job(client):
    model = make.model(name="acme/chat")
    client.post("/playground/", {"model": "acme/chat", "prompt": "Hello", "max_tokens": "64"})
    job = Job.objects.get()
    fence = uuid7()
    Job.objects.filter(pk=job.pk).update(
        state="running",
        attempt=1,
        fence=fence,
        claimant="c",
        pool=make.pool(model=model),
        started_at=timezone.now(),
        lease_expires_at=timezone.now() + timedelta(seconds=30),
    )
    services.cancel(job_id=job.pk, actor=make.user(is_staff=True), reason="Site maintenance " * 20)
    job.refresh_from_db()
    assert job.reason.startswith("Stopping. Cancelled by the operator: Site maintenance")
    assert "Cancelled by the operator: Site maintenance" in page(client.get(f"/jobs/{job.public_id}/"))
    told = Report(
        kind="finished",
        job=str(job.pk),
        attempt=1,
        fence=str(fence),
        claimant="c",
        at=timezone.now().timestamp(),
        state="cancelled",
        usage=Usage(prompt_tokens=5, completion_tokens=3),
    )
    assert database.run(reporting.report(told)).accepted
    job.refresh_from_db()
    assert job.reason.startswith("Cancelled by the operator: Site maintenance")
    assert job.reason.endswith("…; what was finished is kept and charged")


def test_staff_who_are_members_cancel_as_customers(client, owner):
    owner.is_staff = True
    owner.save()
    make.model(name="acme/chat")
    client.post("/playground/", {"model": "acme/chat", "prompt": "Hello", "max_tokens": "64"})
    job = Job.objects.get()
    services.cancel(job_id=job.pk, actor=owner, reason="Mine")
    job.refresh_from_db()
    assert job.reason == "Cancelled before it started; nothing was charged"
