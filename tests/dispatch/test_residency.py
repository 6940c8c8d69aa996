"""A key's places hold for every attempt of its work: at once, later from the backlog, and after a lost lease."""

from dataclasses import replace

import pytest

from apps.dispatch import backlog, repeating
from apps.dispatch import services as dispatch
from apps.dispatch.dispatcher import Dispatcher
from apps.jobs.models import Job
from apps.keys.services import NowhereAllowed
from apps.ledger.models import Hold
from apps.scheduling import selectors
from apps.scheduling.placement import rank
from cango_portal import database
from tests import make
from tests.dispatch.site import lose


@pytest.fixture
def abroad(shop):
    """A pool of the same model in Germany, where power costs nothing."""
    site = make.site(code="he-1", region="Hesse", country="DE", power_usd_per_mwh=0)
    return make.pool(model=shop.model, slots=1, node=make.node(site=site))


def submit(shop, *residency: str, **fields) -> Job:
    caller = replace(shop.caller, residency=residency)
    return Job.objects.get(pk=dispatch.submit(caller=caller, work=shop.work(**fields)).job_id)


def test_the_cheapest_pool_is_passed_over_where_it_lies_outside(shop, abroad, valkey):
    assert shop.submit().pool == abroad
    job = submit(shop, "US")
    assert (job.state, job.pool, job.residency) == ("dispatched", shop.pool, ["US"])
    assert [(each["pool"], each["refusal"]) for each in job.placement["candidates"]] == [
        (shop.pool.code, ""),
        (abroad.code, "outside the allowed places"),
    ]
    assert job.reason == f"{shop.pool.node.site.name} is the one site ready for this model in the allowed places"


def test_work_without_a_site_in_its_places_says_so_and_waits_in_nobodys_way(shop, abroad, valkey):
    norwegian = submit(shop, "NO", interactive=False)
    assert (norwegian.state, norwegian.pool, norwegian.residency) == ("queued", None, ["NO"])
    assert norwegian.reason == "Waiting for a site: none in the allowed places offers this model"
    Dispatcher().feed()
    norwegian.refresh_from_db()
    assert norwegian.state == "queued"
    assert shop.submit().state == "dispatched"
    site = make.site(code="no-1", region="Oslo", country="NO")
    late = make.pool(model=shop.model, slots=1, node=make.node(site=site))
    Dispatcher().feed()
    norwegian.refresh_from_db()
    assert (norwegian.state, norwegian.pool) == ("dispatched", late)


def test_a_full_place_keeps_no_other_waiting(shop, abroad, valkey):
    first = submit(shop, "DE/Hesse/he-1", interactive=False)
    second = submit(shop, "DE", interactive=False)
    assert (first.state, second.state) == ("dispatched", "queued")
    assert submit(shop, "US", interactive=False).pool == shop.pool
    everywhere = shop.submit(interactive=False)  # waits behind the second: they may want the same pool
    Dispatcher().feed()
    second.refresh_from_db()
    everywhere.refresh_from_db()
    assert (second.state, everywhere.pool) == ("queued", shop.pool)


@pytest.mark.story
def test_a_lost_lease_is_placed_by_the_rule_of_the_admission(shop, abroad, valkey):
    job = submit(shop, "US", interactive=False, streaming=False)
    assert job.pool == shop.pool
    shop.pool.ready = False
    shop.pool.save()
    lose(job)
    for _ in range(3):
        Dispatcher().tick()
    job.refresh_from_db()
    assert (job.state, job.pool, job.attempt) == ("queued", None, 1)
    shop.pool.ready = True
    shop.pool.save()
    Dispatcher().tick()
    job.refresh_from_db()
    assert (job.state, job.pool, job.attempt) == ("dispatched", shop.pool, 2)


def test_a_dispatcher_that_errs_is_stopped_by_the_row(shop, abroad, valkey):
    job = submit(shop, "NO", interactive=False)
    ranked = rank(database.run(selectors.views(shop.model.pk)))
    with pytest.raises(ValueError, match="outside the places"):
        database.run(backlog.assign(job.pk, attempt=1, chosen=ranked[0], ranked=ranked))
    job.refresh_from_db()
    assert job.state == "queued"


def test_the_same_work_once_more_stays_where_it_was(shop, abroad, valkey):
    job = submit(shop, "US", interactive=False)
    again = repeating.work(job)
    assert again.residency == ("US",)
    repeated = Job.objects.get(pk=dispatch.submit(caller=shop.caller, work=again).job_id)
    assert (repeated.pool, repeated.residency) == (shop.pool, ["US"])
    with pytest.raises(NowhereAllowed):
        dispatch.submit(caller=replace(shop.caller, residency=("DE",)), work=repeating.work(job))


def test_no_place_in_common_is_refused_and_leaves_nothing(shop, valkey):
    with pytest.raises(NowhereAllowed) as refused:
        submit(shop)
    assert refused.value.status == 403
    assert (Job.objects.count(), Hold.objects.count()) == (0, 0)
