"""A model's page: a day of each region, from looks and answers, and an announced end that is kept."""

import html
import re
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from apps.catalog.models import Model
from apps.operations import availability
from apps.operations.models import Availability
from apps.operations.tasks import look
from cango_portal import database
from tests import make
from tests.portal.test_pages import assert_clean

pytestmark = pytest.mark.django_db
NOW = datetime.now(UTC)


def text(answer) -> str:
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", answer.content.decode())).split())


def answered(model, pool, seconds, *, ago=timedelta(minutes=5), **fields):
    at = NOW - ago
    pk = type(make.uuid7())(int=int(at.timestamp() * 1000) << 80 | make.uuid7().int & (1 << 80) - 1)
    return make.job(
        id=pk, organization=fields.pop("organization", None) or make.organization(), model=model, pool=pool, state="succeeded",
        interactive=True, streaming=True, created_at=at, first_token_at=at + timedelta(seconds=seconds),
        finished_at=at + timedelta(seconds=seconds + 9), **fields,
    )  # fmt: skip


def test_a_day_of_each_region():
    model = make.model(name="acme/chat", title="Acme chat")
    pool, other = make.pool(model=model), make.pool(model=make.model())
    look()
    row = Availability.objects.get(model=model)
    assert (sum(row.looks_by_hour), row.looks, sum(row.up_by_hour), row.up) == (1, 1, 1, 1)
    for seconds in (0.2, 0.3, 0.4):
        answered(model, pool, seconds)
    answered(model, pool, 60, ago=timedelta(hours=25))
    answered(other.model, other, 60)
    answered(model, pool, 60, batch_id=make.uuid7())
    answer = Client().get("/models/acme/chat/")
    assert_clean(answer)
    assert "Georgia, US 3 answers Takes work 100% 300 ms 390 ms" in text(answer).replace(" ", " ")


def test_looks_are_summed_by_the_hour_and_older_ones_do_not_count():
    model = make.model()
    make.pool(model=model)
    look()
    Availability.objects.update(looked_at=NOW - timedelta(minutes=2))
    look()
    row = Availability.objects.get(model=model)
    hour = row.looked_at.astimezone(UTC).hour
    assert (row.looks_by_hour[hour], row.up_by_hour[hour], row.looks) == (2, 2, 2)
    yesterday = Availability.objects.create(
        model=model, country="US", region="Georgia", day=row.day - timedelta(days=1), looks=1440, up=720,
        looked_at=NOW - timedelta(days=1), looks_by_hour=[60] * 24, up_by_hour=[0] * 12 + [60] * 12,
    )  # fmt: skip
    found = database.run(availability.last_hours(model.pk))[("US", "Georgia")]
    later = slice(hour + 1, 24)  # hours of yesterday that began less than a day ago
    assert found.looks == 2 + sum(yesterday.looks_by_hour[later])
    assert found.up == 2 + sum(yesterday.up_by_hour[later])


def test_an_announced_end_is_said_and_kept():
    model = make.model(name="acme/chat", title="Acme chat")
    Model.objects.filter(pk=model.pk).update(retires_at=NOW + timedelta(days=40))
    page = text(Client().get("/models/acme/chat/"))
    assert "On offer until" in page
    assert f"Retires {NOW + timedelta(days=40):%-d %b %Y}" in text(Client().get("/models/"))
    Model.objects.filter(pk=model.pk).update(retires_at=NOW - timedelta(seconds=1))
    assert Client().get("/models/acme/chat/").status_code == 404
    assert "Acme chat" not in text(Client().get("/models/"))


def test_a_region_without_answers_or_looks_says_so():
    model = make.model(name="acme/chat")
    make.pool(model=model)
    page = text(Client().get("/models/acme/chat/"))
    assert "Georgia, US no answers Takes work – – –" in page
    make.model(name="acme/nowhere")
    assert "No site serves this model yet, and none did within the day." in text(Client().get("/models/acme/nowhere/"))
