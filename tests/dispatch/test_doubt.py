"""A connection that breaks at the commit tells nothing: the portal looks before it says what it did."""

import asyncio

import psycopg
import pytest
from django.db import OperationalError

from apps.core.errors import Unavailable
from apps.dispatch import admission
from apps.dispatch import services as dispatch
from apps.jobs.models import Job
from apps.live import bell
from cango_portal import database
from tests.ledger.books import balanced

SECOND = 2  # of the transactions of an admission: the one that writes


class Breaking:
    """Breaks the connection at the transactions from `at` on: after they were committed, or before they began."""

    def __init__(self, *, at: int, committed: bool, until: int = 99) -> None:
        self.at, self.until, self.committed = at, until, committed
        self.calls = 0
        self.real, self.real_async = database.run, database.run_async

    def breaks(self) -> bool:
        self.calls += 1
        return self.at <= self.calls < self.until

    def run(self, plan):
        broken = self.breaks()
        if broken and not self.committed:
            raise OperationalError("server closed the connection unexpectedly")
        result = self.real(plan)
        if broken:
            raise OperationalError("server closed the connection unexpectedly")
        return result

    async def run_async(self, plan):
        broken = self.breaks()
        if broken and not self.committed:
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        result = await self.real_async(plan)
        if broken:
            raise psycopg.OperationalError("server closed the connection unexpectedly")
        return result


@pytest.fixture(params=["page", "door"])
def submit(request, shop, monkeypatch):
    def call(breaking):
        work = shop.work()
        monkeypatch.setattr(admission, "DOUBT_SECONDS", (0, 0.01))
        monkeypatch.setattr(database, "run", breaking.run)
        monkeypatch.setattr(database, "run_async", breaking.run_async)
        try:
            if request.param == "page":
                return dispatch.submit(caller=shop.caller, work=work)
            return asyncio.run(through_the_door(work))
        finally:
            monkeypatch.setattr(database, "run", breaking.real)
            monkeypatch.setattr(database, "run_async", breaking.real_async)

    async def through_the_door(work):
        try:
            return await dispatch.submit_async(caller=shop.caller, work=work)
        finally:
            await database.close()
            await bell.close()

    return call


def test_a_commit_that_arrived_is_an_accepted_job(shop, submit):
    submitted = submit(Breaking(at=SECOND, until=SECOND + 1, committed=True))
    job = Job.objects.get()
    assert (submitted.job_id, submitted.state, submitted.pool) == (job.pk, "dispatched", shop.pool.code)
    balanced()


def test_a_commit_that_did_not_arrive_accepted_nothing(shop, submit, valkey):
    with pytest.raises(Unavailable, match="Nothing was accepted"):
        submit(Breaking(at=SECOND, until=SECOND + 1, committed=False))
    assert Job.objects.count() == 0
    assert valkey.zcard(f"slots:{shop.pool.code}") == 0


def test_what_cannot_be_found_out_is_not_called_refused_nor_tried_again(shop, submit):
    with pytest.raises(admission.InDoubt) as refused:
        submit(Breaking(at=SECOND, committed=True))
    assert (refused.value.status, refused.value.retryable) == (503, False)
    assert Job.objects.get().public_id in refused.value.message
