"""manage.py seed_jobs: made-up history that the nightly checks find right."""

import pytest
from django.core.management import CommandError, call_command
from django.db.models import Sum

from apps.accounts.models import Organization
from apps.jobs.models import Job
from apps.ledger import services as ledger
from apps.ledger.models import Hold, Transfer
from apps.operations import history, usage
from apps.operations.differences import Found
from tests import make
from tests.ledger.books import balanced


@pytest.fixture
def nobody_prints(capsys):
    yield
    capsys.readouterr()


def test_it_agrees_with_the_ledger_and_with_prices(transactional_db, settings, monkeypatch, nobody_prints):
    settings.DEMO = True
    monkeypatch.setattr(history, "PART", 150)
    make.pool(model=make.model())
    make.model(kind="embeddings")
    call_command("seed_jobs", rows=400, organizations=3)
    call_command("seed_jobs", rows=50, organizations=3, seed=2)
    jobs = Job.objects.all()
    assert (jobs.count(), Hold.objects.count()) == (450, 450)
    assert set(Organization.objects.values_list("name", flat=True)) == {f"Sample history {n}" for n in (1, 2, 3)}
    assert jobs.filter(organization__name="Sample history 1").count() > 200
    newest = list(jobs.order_by("-pk").values_list("created_at", flat=True))
    assert newest == sorted(newest, reverse=True)  # its id goes by its time
    assert jobs.filter(state="succeeded", charge_microusd__gt=0).count() > 350
    assert not jobs.exclude(state="succeeded").filter(charge_microusd__gt=0).exists()
    assert 150 < jobs.described({}).count() < 300
    charged = jobs.aggregate(sum=Sum("charge_microusd"))["sum"]
    assert Transfer.objects.filter(credit="revenue").aggregate(sum=Sum("amount_microusd"))["sum"] == charged
    for organization in Organization.objects.all():
        assert ledger.balance(organization.pk).available_microusd == 0
    balanced()
    found = Found()
    usage.compare(found, since=None)
    assert found.items == []


def test_it_is_not_for_books_that_count(db, settings):
    make.pool(model=make.model())
    settings.DEMO = False
    with pytest.raises(CommandError, match="DEMO=0"):
        call_command("seed_jobs", rows=10)
    settings.DEMO = True
    with pytest.raises(CommandError, match="At least one row"):
        call_command("seed_jobs", rows=0)
    assert (Job.objects.count(), Organization.objects.count(), Transfer.objects.count()) == (0, 0, 0)


def test_without_a_model_it_says_what_to_do(db, settings):
    settings.DEMO = True
    with pytest.raises(CommandError, match="No model is on offer"):
        call_command("seed_jobs", rows=10)
    assert not Organization.objects.exists()


def test_many_are_drawn_from_a_sample_and_only_the_newest_are_booked_where_that_is_asked(
    transactional_db, settings, monkeypatch, nobody_prints
):
    settings.DEMO = True
    monkeypatch.setattr(history, "PART", 100)
    monkeypatch.setattr(history, "SAMPLE", 60)
    make.pool(model=make.model())
    call_command("seed_jobs", rows=300, organizations=2, days=30, booked=150)
    newest = list(Job.objects.order_by("-pk").values_list("created_at", "finished_at"))
    assert len(newest) == 300
    assert [at for at, _ in newest] == sorted((at for at, _ in newest), reverse=True)
    assert all(created < finished for created, finished in newest)
    assert (newest[0][0] - newest[-1][0]).days == 29
    assert Hold.objects.count() == 200  # the part in which the newest 150 begin, and what follows
    assert Job.objects.filter(metadata__run="r0").exists()
    balanced()
