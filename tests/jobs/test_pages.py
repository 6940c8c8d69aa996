"""The pages of jobs: history, one job, its result."""

import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from urllib.parse import parse_qs, urlsplit

import pytest
import time_machine
from django.db import connection
from django.test import AsyncClient, Client
from django.test.utils import CaptureQueriesContext

from apps.core.ids import public, uuid7
from apps.jobs.models import Refusal
from apps.jobs.pages import history
from apps.jobs.pages.job import JobPage
from apps.jobs.pages.written import Written
from apps.runner import protocol
from tests import make

NOW = datetime(2026, 11, 20, 14, 15, 2, tzinfo=UTC)


@pytest.fixture
def owner(db):
    return make.user(email="lena@meridian.example", name="Lena Ortiz")


@pytest.fixture
def organization(owner):
    return make.organization(owner=owner, credit_microusd=5_000_000)


@pytest.fixture
def client(owner, organization):
    client = Client()
    client.force_login(owner, "allauth.account.auth_backends.AuthenticationBackend")
    return client


def ended(organization, model, **fields):
    """A job that ran: one second in the queue, ten on the machine."""
    created = fields.pop("created_at", NOW - timedelta(seconds=30))
    job = make.job(
        organization=organization,
        model=model,
        **{
            "state": "succeeded",
            "created_at": created,
            "dispatched_at": created + timedelta(seconds=1),
            "started_at": created + timedelta(seconds=2),
            "first_token_at": created + timedelta(seconds=2, milliseconds=226),
            "finished_at": created + timedelta(seconds=12),
            "attempt": 1,
            "prompt_tokens": 6204,
            "completion_tokens": 1312,
            "max_completion_tokens": 4096,
            "hold_microusd": 2220,
            "charge_microusd": 1218,
            "energy_wh": 0.41,
            "energy_quality": "modelled",
            "carbon_gco2e": 0.156,
            "grid_gco2e_per_kwh": 380,
            **fields,
        },
    )
    job.events.all().delete()
    events = [
        ("dispatched", "Georgia 1 is the one site ready for this model"),
        ("running", ""),
        (job.state, "Finished"),
    ]
    for number, (state, reason) in enumerate(events, start=1):
        job.events.create(
            number=number,
            state=state,
            attempt=1,
            reason=reason,
            data={"site": "Georgia 1"},
            at=created + timedelta(seconds=number),
        )
    return job


def text(response):
    return " ".join(response.content.decode().replace("\u00a0", " ").split())


def page(client, job, **query):
    response = client.get(f"/jobs/{job.public_id}/", query)
    assert response.status_code == 200
    return text(response)


# One job -----------------------------------------------------------------------------------------------------------------


def test_a_job_that_is_done_shows_what_it_did_and_cost(client, organization):
    model = make.model(title="Qwen 3 32B")
    pool = make.pool(model=model, node=make.node(site=make.site(name="Georgia 1", region="Georgia")))
    job = ended(
        organization,
        model,
        pool=pool,
        text="Lot 4 covers bread & pastry.",
        request={"messages": [{"role": "user", "content": "Summarize lot 4"}]},
    )
    shown = page(client, job)
    assert "<h1>Summarize lot 4</h1>" in shown
    assert "Done" in shown
    assert ">1,312</span> <small>tokens written</small>" in shown
    assert "Lot 4 covers bread &amp; pastry." in shown
    assert "2.2 s</b> to the first token" in shown
    assert "6,204 tok at $0.12 per million" in shown
    assert "$0.0012 charged, $0.0010 returned" in shown
    assert "Routed to Georgia 1" in shown
    assert "for 1.0 s" in shown
    assert "0.41 Wh" in shown
    assert "0.31 Wh" in shown
    assert "estimated from a model of the machine" in shown
    assert "Georgia grid, 380 g per kWh" in shown
    assert 'aria-busy="false"' in shown
    assert 'data-topic="job.' in shown
    assert ".out.1" not in shown


def test_a_strangers_job_does_not_exist(client, organization):
    other = make.organization(owner=make.user())
    job = ended(other, make.model())
    for path in ("", "result.json", "cancel/"):
        assert client.get(f"/jobs/{job.public_id}/{path}").status_code == 404
    assert client.post(f"/jobs/{job.public_id}/cancel/").status_code == 404
    assert client.get("/jobs/job_nonsense/").status_code == 404
    assert client.get(f"/jobs/{public('job', uuid7())}/").status_code == 404


def test_pages_of_jobs_ask_visitors_to_sign_in(db):
    job = ended(make.organization(), make.model())
    for path in ("/jobs/", "/jobs/export.csv", f"/jobs/{job.public_id}/", f"/jobs/{job.public_id}/cancel/"):
        response = Client().get(path)
        assert response.status_code == 302
        assert response["location"].startswith("/login/")


@pytest.mark.parametrize(
    ("state", "fields", "sentences"),
    [
        (
            "queued",
            {"reason": "Waiting for a free GPU"},
            [
                "Queued",
                "waiting for a free GPU, next in line",
                "$0.0010 held from your balance",
                "The cheapest site that is ready",
                ">Cancel</a>",
            ],
        ),
        ("dispatched", {}, ["Routed", "Starts when the site takes the order", ">Cancel</a>"]),
        (
            "running",
            {"started_at": NOW},
            [
                "Running",
                "of at most 0 tokens",
                "The final cost is charged and the rest of the hold returned",
                ">Stop</a>",
            ],
        ),
        ("running", {"started_at": NOW, "cancel_requested_at": NOW}, ["Stopping; what is written is kept and charged"]),
        (
            "failed",
            {"error_message": "The engine stopped."},
            ["Failed", "The engine stopped. Nothing charged, the hold is returned", 'data-step="failed"'],
        ),
        ("cancelled", {}, ["Cancelled", "Nothing charged, the hold is returned"]),
        (
            "cancelled",
            {"charge_microusd": 400, "completion_tokens": 9},
            ["What was finished is kept. $0.0004 charged, $0.0006 returned"],
        ),
        ("expired", {}, ["Expired", "It had not started at its deadline. Nothing charged, the hold is returned"]),
    ],
)
def test_every_state_has_its_sentence(client, organization, state, fields, sentences):
    model = make.model()
    make.pool(model=model)
    job = make.job(organization=organization, model=model, state=state, **fields)
    shown = page(client, job)
    for sentence in sentences:
        assert sentence in shown
    final = state in ("failed", "cancelled", "expired")
    assert (f"/jobs/{job.public_id}/cancel/" in shown) == (not final and "cancel_requested_at" not in fields)
    assert "Error" not in shown


def test_a_second_attempt_says_what_became_of_the_first(client, organization):
    model = make.model()
    pool = make.pool(model=model, node=make.node(site=make.site(name="Georgia 1")))
    job = make.job(organization=organization, model=model, state="running", pool=pool, attempt=2, started_at=NOW)
    job.events.all().delete()
    steps = [
        ("dispatched", 1, "Paraguay 2 has the lowest cost", "Paraguay 2"),
        ("running", 1, "", "Paraguay 2"),
        ("queued", 1, "Attempt 1 ended: The site stopped answering while it worked on this.", "Paraguay 2"),
        ("dispatched", 2, "Georgia 1 is the one site ready", "Georgia 1"),
        ("running", 2, "", "Georgia 1"),
    ]
    for number, (state, attempt, reason, site) in enumerate(steps, start=1):
        job.events.create(
            number=number,
            state=state,
            attempt=attempt,
            reason=reason,
            data={"site": site},
            at=NOW + timedelta(seconds=number),
        )
    shown = page(client, job)
    assert "second attempt" in shown
    assert (
        "Paraguay 2: The site stopped answering while it worked on this. Started again here, the first attempt is free"
        in shown
    )
    assert "<dt>First attempt</dt><dd>free</dd>" in shown
    assert "Attempts (2)" in shown
    attempts = page(client, job, view="attempts")
    assert "Paraguay 2" in attempts
    assert "Georgia 1" in attempts


def test_the_text_so_far_is_on_the_page_with_its_length(client, organization, valkey):
    model = make.model()
    job = make.job(organization=organization, model=model, state="running", started_at=NOW, max_completion_tokens=64)
    key = protocol.stream(job.pool.code, str(job.pk), 1)
    chunks = [[{"index": 0, "delta": {"content": part}}] for part in ("Bread 🥐", "\r\n", "面包 <b>")]
    entry = protocol.Entry(
        claimant="c", fence=str(job.fence), chunks=chunks, usage=protocol.Usage(prompt_tokens=5, completion_tokens=3)
    )
    valkey.xadd(key, {"e": entry.model_dump_json()})
    response = client.get(f"/jobs/{job.public_id}/")
    shown = response.content.decode()
    length = len("Bread 🥐\r\n面包 <b>".encode("utf-16-le")) // 2
    assert f'data-topic="job.{job.public_id}.out.1" data-at="{length}">Bread 🥐&#13;\n面包 &lt;b&gt;</span>' in shown
    assert f'data-at="{2**32 + 8}"' in shown
    assert ">3</span> <small>of at most 64 tokens</small>" in text(response)


@pytest.mark.parametrize("view", ["output", "request", "attempts", "events", "code"])
def test_every_view_is_a_link_of_its_own(client, organization, view):
    job = ended(
        organization,
        make.model(name="acme/small"),
        text="Hi",
        streaming=True,
        request={"messages": [{"role": "user", "content": "What's <new>?"}]},
    )
    shown = page(client, job, view=view)
    assert f'<a href="?view={view}" aria-current="page">' in shown
    if view == "request":
        assert "What&#x27;s &lt;new&gt;?" in shown
    if view == "code":
        assert "&quot;model&quot;: &quot;acme/small&quot;" in shown
        assert "&quot;stream&quot;: true" in shown
        assert "What&#x27;&quot;&#x27;&quot;&#x27;s" in shown  # quoted for a shell


def test_the_receipt_names_cached_input_tier_and_discount(client, organization):
    model = make.model(cached=30_000, request=100)
    counts = {"prompt_tokens": 6204, "cached_prompt_tokens": 6000, "completion_tokens": 1312}
    # × 0.63: 63; 204 × 0.12; 6,000 × 0.03; 1,312 × 0.36
    charge = 63 + 16 + 114 + 298
    job = ended(organization, model, **counts, tier="flexible", discount_basis_points=1_000, charge_microusd=charge)
    receipt = JobPage(job)
    assert [(line.field, line.microusd) for line in receipt.lines] == [
        ("request", 63),
        ("input", 16),
        ("cached_input", 114),
        ("output", 298),
    ]
    assert receipt.cost_microusd == sum(line.microusd for line in receipt.lines) == charge
    assert receipt.terms == [("Flexible", "70% of each price"), ("Discount", "10% off each price")]
    shown = page(client, job)
    assert "204 tok at $0.12 per million" in shown
    assert "6,000 tok at $0.03 per million" in shown
    assert "10% off each price" in shown
    assert "off each price" not in page(client, ended(organization, make.model()))


def test_text_recognition_counts_pages(client, organization):
    model = make.model(kind="ocr", input=0, output=0, page=1500)
    counts = {"prompt_tokens": 0, "completion_tokens": 0, "max_completion_tokens": 0, "pages": 3, "total_pages": 3}
    job = ended(organization, model, **counts, charge_microusd=4500, hold_microusd=4500, text="Invoice 17")
    make.answer(job, text="Invoice 17", result={"pages": [{"page": 1, "text": "Invoice 17", "lines": []}]})
    shown = page(client, job)
    assert ">3</span> <small>of 3 pages</small>" in shown
    assert "3 at $0.0015 each" in shown
    assert "Invoice 17" in shown
    assert f"/jobs/{job.public_id}/result.json" in shown
    response = client.get(f"/jobs/{job.public_id}/result.json")
    assert response.json() == {"pages": [{"page": 1, "text": "Invoice 17", "lines": []}]}
    assert response["content-disposition"] == f'attachment; filename="{job.public_id}.json"'


@pytest.mark.parametrize(
    ("hours", "words"), [(1, "Starts by 15:15 or expires"), (24, "Starts by 21 Nov 14:15 or expires")]
)
def test_a_deadline_of_another_day_says_which(organization, hours, words):
    job = make.job(organization=organization, model=make.model(), deadline_at=NOW + timedelta(hours=hours))
    assert JobPage(job, now=NOW).eta.startswith(words)


def answered(organization, messages, **fields):
    job = ended(organization, make.model(), request={"messages": [{"role": "user", "content": "Hi"}], "n": 2}, **fields)
    make.answer(job, text=fields.get("text", ""), result={"choices": messages})
    return job


def test_every_answer_of_a_chat_is_shown(client, organization):
    calls = [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]
    job = answered(
        organization,
        [
            {"index": 0, "role": "assistant", "content": "One <b>"},
            {"index": 1, "role": "assistant", "content": None, "tool_calls": calls},
        ],
        text="One <b>",
    )
    shown = page(client, job)
    assert "Answer 1 of 2</b>" in shown
    assert "One &lt;b&gt;" in shown
    assert "Answer 2 of 2, tool calls</b>" in shown
    assert "&quot;name&quot;: &quot;weather&quot;" in shown
    assert "No text was written" not in shown


def test_a_tool_call_alone_is_an_answer(client, organization):
    shown = page(client, answered(organization, [{"role": "assistant", "tool_calls": [{"id": "call_7"}]}]))
    assert "call_7" in shown
    assert "Copy output" in shown


def test_while_several_answers_are_written_the_page_says_that_it_shows_one(client, organization):
    job = make.job(
        organization=organization, model=make.model(), state="running", started_at=NOW, request={"messages": [], "n": 8}
    )
    assert "1 of 8 answers is shown; the rest comes with the result" in page(client, job)


def test_times_count_from_admission(client, organization):
    job = ended(organization, make.model())
    shown = page(client, job)
    assert "2.2 s</b> to the first token" in shown
    assert "12 s</b> in all" in shown
    running = make.job(organization=organization, model=make.model(), state="running", started_at=NOW)
    assert f'data-clock="{int(running.created_at.timestamp())}"' in page(client, running)
    later = JobPage(running, now=running.created_at + timedelta(seconds=3, milliseconds=900))
    assert later.elapsed in ("3\u00a0s", "4\u00a0s")


def test_the_time_left_is_rounded_and_does_not_rise_without_a_word(organization):
    model = make.model(kind="ocr", page=1000)
    job = make.job(organization=organization, model=model, state="running", started_at=NOW, total_pages=100)
    live = Written()
    live.done, live.total = 50, 100
    first = JobPage(job, live, now=NOW + timedelta(seconds=21))
    assert first.eta == "25\u00a0s left"
    live.done = 51
    second = JobPage(job, live, now=NOW + timedelta(seconds=30), said=first.ends_at)
    assert second.eta == "15\u00a0s left"
    late = JobPage(job, live, now=NOW + timedelta(seconds=50), said=first.ends_at)
    assert late.eta == "Takes longer than expected, 50\u00a0s left"


@pytest.mark.parametrize(
    ("held", "charge", "decimals"), [(2220, 1218, 4), (250, 125, 6), (140, 70, 5), (1000, 21, 5), (1000, 0, 4)]
)
def test_held_charged_and_returned_add_up(client, organization, held, charge, decimals):
    counts = {"prompt_tokens": 0, "completion_tokens": 0}
    job = ended(organization, make.model(), hold_microusd=held, charge_microusd=charge, **counts)
    receipt = page(client, job).partition('id="job-facts"')[2].partition('id="en-h"')[0]
    figures = [Decimal(found) for found in re.findall(r"<dd[^>]*>\$([0-9.]+)</dd>", receipt)][-3:]
    assert figures[1] == figures[0] + figures[2]  # charged, held, returned
    assert {-figure.as_tuple().exponent for figure in figures} == {decimals}


def test_an_ended_job_offers_to_run_again_and_nothing_to_follow(client, organization):
    job = ended(organization, make.model(), text="Hi", request={"messages": [{"role": "user", "content": "Hi"}]})
    shown = page(client, job)
    assert f'action="/jobs/{job.public_id}/again/"' in shown
    assert 'form="job-again"' in shown
    assert "Run another" not in shown
    assert "Follow the text" not in shown
    forgotten = page(client, ended(organization, make.model()))
    assert "Run another" in forgotten
    assert "Run again" not in forgotten
    assert "Copy output" not in forgotten
    assert "Copy output" not in page(client, make.job(organization=organization, model=make.model()))


def test_an_image_is_one_page(client, organization):
    model = make.model(kind="ocr", title="PP-OCRv6 text recognition")
    job = ended(organization, model, pages=1, total_pages=1)
    shown = text(client.get("/jobs/"))
    assert '1 <span class="unit">page</span>' in shown
    assert "2.2 s" not in shown
    shown = page(client, job)
    assert "One file read with" in shown
    assert "<h1>File read with PP-OCRv6 text recognition</h1>" in shown


def test_a_job_that_the_operator_cancelled_says_so(client, organization):
    reason = "Cancelled by the operator: site maintenance; nothing was charged"
    job = make.job(organization=organization, model=make.model(), state="cancelled", reason=reason)
    assert "Cancelled by the operator: site maintenance. Nothing charged" in page(client, job)
    assert reason in text(client.get("/jobs/"))


def test_embeddings_offer_their_vectors(client, organization):
    job = ended(organization, make.model(kind="embeddings", output=0), completion_tokens=0, max_completion_tokens=0)
    make.answer(job, result={"data": [{"index": 0, "embedding": "AAAA"}, {"index": 1, "embedding": "AAAA"}]})
    shown = page(client, job)
    assert "2 vectors of 384 numbers" in shown
    assert ">6,204</span> <small>tokens read</small>" in shown


# History -----------------------------------------------------------------------------------------------------------------


def links(response):
    return [line.split('"')[0] for line in response.content.decode().split('href="/jobs/job_')[1:]]


def test_the_history_lists_own_jobs_and_refusals_newest_first(client, organization):
    model = make.model(title="Small")
    older = ended(organization, model)
    Refusal.objects.create(
        organization=organization,
        model_name="acme/large",
        code="insufficient_credit",
        message="This may cost up to $0.42.",
    )
    newer = make.job(organization=organization, model=model, reason="Waiting for a free GPU")
    ended(make.organization(), model)
    response = client.get("/jobs/")
    assert links(response) == [f"{newer.public_id[4:]}/", f"{older.public_id[4:]}/"]
    shown = text(response)
    assert shown.index(newer.public_id) < shown.index("acme/large") < shown.index(older.public_id)
    assert "Refused, no credit" in shown
    assert f'id="row-{newer.public_id}" data-topic="job.{newer.public_id}" data-at="{2**32}"' in shown
    assert f'id="row-{older.public_id}" data-topic' not in shown


def test_columns_have_one_precision_and_refusals_the_models_title(client, organization):
    model = make.model(name="acme/large", title="Large")
    ended(organization, model, charge_microusd=21, energy_wh=0.0001)
    ended(organization, model, charge_microusd=1218, energy_wh=0.41)
    Refusal.objects.create(
        organization=organization, model_name="acme/large", code="insufficient_credit", message="No."
    )
    shown = text(client.get("/jobs/"))
    for words in (">&lt; $0.0001<", ">$0.0012<", ">&lt; 0.001 Wh<", ">0.410 Wh<", "Large <span", ">$0.0000<"):
        assert words in shown


def test_unknown_filters_are_named(client, organization):
    job = ended(organization, make.model())
    shown = text(client.get("/jobs/", {"state": "nonsense", "range": "24h"}))
    assert "Unknown filter “nonsense”, showing all" in shown
    assert "Unknown filter" not in text(client.get("/jobs/", {"state": "succeeded"}))
    assert job.public_id in text(client.get("/jobs/", {"state": "nonsense"}))


def test_a_refusal_is_listed_for_seven_days(client, organization):
    refusal = Refusal.objects.create(
        organization=organization, model_name="acme/large", code="key_limit", message="Too much."
    )
    Refusal.objects.filter(pk=refusal.pk).update(at=refusal.at - timedelta(days=7, minutes=1))
    assert "acme/large" not in text(client.get("/jobs/"))


@pytest.mark.story
def test_filters_are_in_the_address(client, organization):
    small, large = make.model(name="acme/small"), make.model(name="acme/large")
    key, _ = make.api_key(organization, name="catalog-sync")
    done = ended(organization, small, api_key=key)
    queued = make.job(organization=organization, model=large)
    Refusal.objects.create(
        organization=organization, model_name="acme/large", code="insufficient_credit", message="No."
    )

    def found(**query):
        return [link.removesuffix("/") for link in links(client.get("/jobs/", query))]

    assert found(state="succeeded") == [done.public_id[4:]]
    assert found(state="open") == [queued.public_id[4:]]
    assert found(state="refused") == []
    assert "insufficient_credit" not in text(client.get("/jobs/", {"state": "open"}))
    assert found(model="acme/large") == [queued.public_id[4:]]
    assert found(key=str(key.pk)) == [done.public_id[4:]]
    assert found(key="page") == [queued.public_id[4:]]
    assert found(range="1h") == [queued.public_id[4:], done.public_id[4:]]
    assert found(q=done.public_id) == [done.public_id[4:]]
    assert found(q="job_0") == [queued.public_id[4:], done.public_id[4:]]
    assert found(q="nonsense!") == []
    assert found(state="invented", before="zz", key="x") == [queued.public_id[4:], done.public_id[4:]]


def test_a_time_range_goes_by_the_id(client, organization):
    model = make.model()
    with time_machine.travel(datetime.now(UTC) - timedelta(days=2), tick=True):
        old = ended(organization, model, id=uuid7())
    new = ended(organization, model)
    assert links(client.get("/jobs/", {"range": "24h"})) == [f"{new.public_id[4:]}/"]
    assert links(client.get("/jobs/", {"range": "7d"})) == [f"{new.public_id[4:]}/", f"{old.public_id[4:]}/"]


def test_pages_are_cut_by_key_and_miss_nothing(client, organization, monkeypatch):
    monkeypatch.setattr(history.listing, "__kwdefaults__", {"before": None, "size": 2})
    model = make.model()
    expected = []
    for number in range(7):
        if number % 3 == 1:
            expected.append(
                Refusal.objects.create(
                    organization=organization, model_name=f"refused-{number}", code="c", message="m"
                ).model_name
            )
        else:
            expected.append(ended(organization, model).public_id)
    seen = []
    query = {"state": ""}
    for _ in range(10):
        response = client.get("/jobs/", query, headers={"hx-request": "true"})
        rows = response.context["rows"]
        seen += [row.refusal.model_name if row.refusal else row.page.job.public_id for row in rows]
        if not response.context["older"]:
            break
        query = {name: values[0] for name, values in parse_qs(response.context["older"]).items()}
    assert seen == expected[::-1]


def test_refusals_of_one_millisecond_are_not_lost_between_pages(organization):
    at = datetime.now(UTC).replace(microsecond=5000)
    for number in range(5):
        refusal = Refusal.objects.create(organization=organization, model_name=f"m{number}", code="c", message="m")
        Refusal.objects.filter(pk=refusal.pk).update(at=at)
    seen, before = [], None
    while True:
        page = history.listing(organization, {}, before=before, size=2)
        seen += [row.refusal.model_name for row in page.rows]
        before = page.older
        if before is None:
            break
    assert seen == ["m4", "m3", "m2", "m1", "m0"]


def test_htmx_gets_the_list_alone(client, organization):
    ended(organization, make.model())
    response = client.get("/jobs/", headers={"hx-request": "true"})
    assert response.content.decode().lstrip().startswith('<section class="card" id="job-history"')
    assert "HX-Request" in response["vary"]
    assert "<html" in client.get("/jobs/").content.decode()


def test_an_empty_history_says_what_belongs_there(client, organization):
    assert "No jobs yet" in text(client.get("/jobs/"))
    shown = text(client.get("/jobs/", {"state": "failed", "range": "24h"}))
    assert "No job matches “Failed” and “Last 24 hours”" in shown
    assert "Clear filters" in shown


def test_the_number_of_queries_does_not_grow_with_the_list(client, organization, django_assert_num_queries):
    model = make.model()
    make.job(organization=organization, model=model)
    client.get("/jobs/")  # the first notes that the member is here
    with CaptureQueriesContext(connection) as captured:
        client.get("/jobs/")
    for _ in range(12):
        make.job(organization=organization, model=model)
    with django_assert_num_queries(len(captured)):
        client.get("/jobs/")


async def test_the_export_holds_the_filtered_list(transactional_db):
    from asgiref.sync import sync_to_async

    def prepare():
        owner = make.user()
        organization = make.organization(owner=owner)
        model = make.model(name="acme/small")
        key, _ = make.api_key(organization, name="=HYPERLINK(1)")
        job = ended(organization, model, api_key=key)
        make.job(organization=organization, model=model)
        return owner, job

    owner, job = await sync_to_async(prepare)()
    client = AsyncClient()
    await client.aforce_login(owner, "allauth.account.auth_backends.AuthenticationBackend")
    response = await client.get("/jobs/export.csv?state=succeeded")
    written = b"".join([part async for part in response])
    assert written.startswith(b"\xef\xbb\xbfid,")
    lines = written.decode("utf-8-sig").splitlines()
    assert lines[0].startswith("id,created_at,finished_at,state,model,api_key,prompt_tokens")
    assert len(lines) == 2
    assert lines[1].startswith(
        f"{job.public_id},2026-11-20T14:14:32+00:00,2026-11-20T14:14:44+00:00,succeeded,acme/small,'=HYPERLINK(1),6204,0,1312,0,2.226,0.001218,0.41,modelled,0.156,"
    )
    assert (
        urlsplit(response["content-disposition"]).path
        == f'attachment; filename="jobs-{datetime.now(UTC):%Y-%m-%d}.csv"'
    )


def test_a_job_says_how_long_its_text_is_kept_and_where_it_may_run(client, organization):
    model = make.model()
    job = ended(organization, model, text="Bread", residency=["US"])
    shown = page(client, job)
    assert "The text is kept until 20 Dec 2026" in shown
    assert '<dt>Allowed places</dt><dd class="text">US</dd>' in shown
    organization.keep_text_days = 0
    organization.save()
    assert "text is kept until" not in page(client, job)
    assert '<dt>Allowed places</dt><dd class="text">everywhere</dd>' in page(client, ended(organization, model))


def test_a_failed_job_can_be_asked_about_where_somebody_answers(client, organization, settings):
    job = ended(organization, make.model(), state="failed", charge_microusd=0)
    assert "mailto:" not in page(client, job)
    settings.OPERATOR_EMAIL = "help@cango.example"
    assert f'href="mailto:help@cango.example?subject=Job%20{job.public_id}%20failed">Ask the operator</a>' in page(
        client, job
    )
    assert "mailto:" not in page(client, ended(organization, job.model))


def test_a_text_that_waits_says_where_it_will_be(client, organization):
    words = "The text appears here as it is written."
    job = make.job(organization=organization, model=make.model(), state="queued")
    assert words in page(client, job)
    assert words not in page(client, ended(organization, job.model, text="Bread"))


def test_a_refusal_leads_to_what_can_be_done(client, organization):
    for code in ("insufficient_credit", "budget_exceeded", "too_many_open_jobs", "other"):
        Refusal.objects.create(organization=organization, model_name="acme/large", code=code, message="No.")
    shown = page_of_history(client)
    assert re.findall(r'<span class="sub"><a href="([^"]+)">([^<]+)</a></span>', shown) == [
        ("/billing/plan/", "See plans"),
        ("/billing/limits/", "See limits"),
        ("/billing/add/", "Add credit"),
    ]


def page_of_history(client) -> str:
    return client.get("/jobs/", {"state": "refused"}).content.decode()


def test_of_a_job_without_a_first_token_no_time_to_it_is_drawn(client, organization):
    model = make.model()
    failed = ended(organization, model, state="failed", first_token_at=None, charge_microusd=0)
    names = [stage.title for stage in JobPage(failed).stages]
    assert names == ["Queue", "Route to the site", "Work"]
    assert [stage.title for stage in JobPage(ended(organization, model)).stages][2:] == [
        "First token",
        "Rest of the answer",
    ]
