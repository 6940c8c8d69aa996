"""Jobs that begin while their organization is deleted, by whoever had been let in before: none runs on, none is kept."""

import threading
from datetime import timedelta

import pytest
from django.utils import timezone

from apps.accounts.models import Organization
from apps.core.errors import NotFound
from apps.dispatch import services as dispatch
from apps.dispatch.admission import Submitted
from apps.files.models import File
from apps.files.services import writer
from apps.jobs.models import Content, Job
from apps.keys.services import Caller
from apps.ledger import services as ledger
from apps.ledger.models import Hold
from apps.portal import closing
from tests import make
from tests.threads import run_in_threads, until_somebody_waits

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def leaving(shop, settings, tmp_path):
    """The shop's organization, whose time of grace is over."""
    settings.MEDIA_ROOT, settings.UPLOADS = tmp_path / "files", tmp_path / "uploads"
    Organization.objects.filter(pk=shop.organization.pk).update(closing_at=timezone.now() - timedelta(seconds=1))
    return shop


def left() -> tuple[int, int, int]:
    return Job.objects.count(), Hold.objects.count(), Content.objects.count()


def test_a_job_that_comes_as_the_account_is_shut_is_refused(leaving, monkeypatch):
    shut, reached = ledger.shut, threading.Event()

    def slowly(**fields):
        shut(**fields)
        reached.set()
        until_somebody_waits()

    def work(n):
        if n == 0:
            return closing.close(leaving.organization.pk, timezone.now())
        assert reached.wait(20)
        return leaving.submit()

    monkeypatch.setattr(closing.ledger, "shut", slowly)
    closed, submitted = run_in_threads(2, work)
    assert closed is True
    assert isinstance(submitted, ledger.BudgetExceeded)
    assert left() == (0, 0, 0)


def test_a_job_that_began_meanwhile_keeps_the_organization(leaving, monkeypatch):
    shut = ledger.shut

    def after_a_job(**fields):
        run_in_threads(1, lambda _: leaving.submit())
        shut(**fields)

    monkeypatch.setattr(closing.ledger, "shut", after_a_job)
    assert closing.close(leaving.organization.pk, timezone.now()) is False
    leaving.organization.refresh_from_db()
    assert (leaving.organization.name, leaving.organization.closed_at) == ("Meridian Foods", None)
    assert left() == (1, 1, 1)
    assert Job.objects.get().state == "dispatched"
    monkeypatch.undo()
    assert leaving.submit().state == "dispatched"  # nothing of the try stays


@pytest.mark.story
@pytest.mark.timeout(180)
def test_whatever_the_order_is_nothing_is_left_after_it(leaving):
    for _ in range(8):
        organization = make.organization(credit_microusd=1_000_000)
        Organization.objects.filter(pk=organization.pk).update(closing_at=timezone.now() - timedelta(seconds=1))
        caller = Caller(organization_id=organization.pk, api_key_id=None, user_id=None)

        def work(n, organization=organization, caller=caller):
            if n == 0:
                return closing.close(organization.pk, timezone.now())
            return dispatch.submit(caller=caller, work=leaving.work())

        closed, *outcomes = run_in_threads(4, work)
        begun = [each for each in outcomes if not isinstance(each, ledger.BudgetExceeded)]
        assert all(isinstance(each, Submitted) for each in begun)
        assert closed is (not begun)
        found = (
            Job.objects.filter(organization=organization).count(),
            Hold.objects.filter(organization=organization).count(),
            Content.objects.filter(job__organization=organization).count(),
        )
        assert found == (len(begun),) * 3


def test_a_file_that_arrives_after_it_is_not_stored(leaving):
    assert closing.close(leaving.organization.pk, timezone.now())
    with writer(organization_id=leaving.organization.pk, name="rows.jsonl", purpose="batch") as out:
        out.write(b"x")
        with pytest.raises(NotFound) as refused:
            out.commit()
    assert refused.value.reason == "organization_closed"
    assert not File.objects.exists()
