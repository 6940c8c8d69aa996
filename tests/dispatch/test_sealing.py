"""No word of a prompt or an answer is in the database as it is stored, and a row that cannot be read takes nothing with it."""

import pytest
from django.db import connection
from django.test import Client

from apps.accounts.models import Membership
from apps.core.ids import public
from apps.dispatch import outbox
from apps.dispatch.dispatcher import Dispatcher
from apps.dispatch.models import Order
from apps.files.sealing import Unreadable
from apps.jobs import stored
from apps.jobs.models import Content, Job
from apps.ledger import services as ledger
from cango_portal import database
from tests import make
from tests.dispatch import site
from tests.ledger.books import balanced

ASKED = {"messages": [{"role": "user", "content": "Schnittbrot"}]}


def dump():
    """Every row of every table, as text."""
    with connection.cursor() as cursor:
        names = connection.introspection.table_names(cursor)
        for name in names:
            cursor.execute(f'SELECT t::text FROM "{name}" t')
            yield from (row[0] for row in cursor.fetchall())


def answered(shop, **fields):
    job = shop.submit(body=ASKED, **fields)
    result = {"choices": [{"content": "Roggenlaib"}]}
    site.deliver(site.report(job, text="Roggenlaib", result=result))
    return job


def harm(job, column="sealed_answer"):
    sealed = bytearray(getattr(Content.objects.get(job=job), column))
    sealed[-1] ^= 1
    Content.objects.filter(job=job).update(**{column: bytes(sealed)})


def test_a_dump_holds_no_word_of_a_prompt_or_an_answer(shop):
    ended = answered(shop, asked={"input": "Schnittbrot"})
    open_jobs = [shop.submit(body=ASKED, interactive=False) for _ in range(3)]
    assert [job.state for job in open_jobs] == ["dispatched", "dispatched", "queued"]
    rows = list(dump())
    assert any(str(ended.pk) in row for row in rows)
    for word in ("Schnittbrot", "Roggenlaib"):
        assert not any(word in row or word.encode().hex() in row for row in rows)
    content = Content.objects.get(job=ended)
    assert (content.request, content.asked, content.text) == (ASKED, {"input": "Schnittbrot"}, "Roggenlaib")
    assert content.result == {"choices": [{"content": "Roggenlaib"}]}


def test_what_was_stored_before_is_still_read(shop):
    job = answered(shop)
    Content.objects.filter(job=job).update(
        sealed_request=None,
        sealed_answer=None,
        plain_request=ASKED,
        plain_text="Roggenlaib",
        plain_asked={"input": "x"},
    )
    content = Content.objects.get(job=job)
    assert (content.request, content.text, content.asked) == (ASKED, "Roggenlaib", {"input": "x"})


def test_an_order_is_sent_again_with_what_was_asked(shop, valkey):
    job = shop.submit(body=ASKED)
    Order.objects.update(created_at=job.created_at.replace(year=2020))
    (body,) = database.run(outbox.unclaimed())
    assert body["body"] == ASKED


def test_a_job_that_cannot_be_read_fails_for_free_and_keeps_no_other_back(shop, valkey):
    jobs = [shop.submit(body=ASKED) for _ in range(4)]
    harm(jobs[2], "sealed_request")
    valkey.delete(f"slots:{shop.pool.code}")
    dispatcher = Dispatcher()
    dispatcher.step(dispatcher.feed)
    for job in jobs:
        job.refresh_from_db()
    assert [job.state for job in jobs[2:]] == ["failed", "dispatched"]
    assert (jobs[2].error_code, jobs[2].charge_microusd) == ("content_unreadable", 0)
    assert ledger.balance(shop.organization.pk).held_microusd == 3 * jobs[0].hold_microusd
    assert valkey.zcard(f"slots:{shop.pool.code}") == 1
    balanced()


@pytest.mark.story
def test_an_answer_that_cannot_be_read_leaves_the_record_and_all_others(shop):
    user = make.user()
    Membership.objects.create(organization=shop.organization, user=user, role="owner")
    client = Client()
    client.force_login(user)
    good, bad = (answered(shop, stored=True, metadata={"n": str(n)}) for n in range(2))
    harm(bad)
    page = client.get(f"/jobs/{bad.public_id}/")
    assert page.status_code == 200
    assert "cannot be read" in page.content.decode()
    assert "Roggenlaib" in client.get(f"/jobs/{good.public_id}/").content.decode()
    shown = client.get(f"/api/v1/jobs/{public('job', bad.pk)}").json()
    assert (shown["text"], shown["result"], shown["state"]) == (None, None, "succeeded")
    assert "cannot be read" in shown["content_error"]
    rows = database.run(
        stored.page(shop.organization.pk, key=None, after=None, limit=9, newest_first=False, model=None, metadata={})
    )
    assert [(row["text"], row["unreadable"] is None) for row in rows] == [("Roggenlaib", True), ("", False)]
    assert Job.objects.filter(state="succeeded").count() == 2


def test_a_body_is_not_read_in_the_place_of_another(shop):
    first, second = answered(shop), answered(shop)
    Content.objects.filter(job=second).update(sealed_answer=Content.objects.get(job=first).sealed_answer)
    with pytest.raises(Unreadable):
        _ = Content.objects.get(job=second).text
