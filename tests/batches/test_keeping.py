"""Files of a batch go when its organization's text does, counted from the batch's end, and never later than was said."""

from datetime import timedelta

import pytest
from django.test import Client

from apps.accounts.models import Membership, Organization
from apps.batches import keeping
from apps.batches.models import Batch
from apps.files import services as files
from apps.files.models import File
from cango_portal import database
from tests import make

MINUTES_NINE = timedelta(seconds=540)


def ended(works, days, **fields):
    Organization.objects.filter(pk=works.organization.pk).update(keep_text_days=days)
    return works.run_to_end(works.begin(2, **fields))


def left(batch):
    """How long each of its files stays after its end."""
    batch.refresh_from_db()
    ids = [batch.input_file_id, batch.output_file_id]
    return [File.objects.get(pk=pk).expires_at - batch.ended_at for pk in ids]


@pytest.mark.parametrize(("days", "stays"), [(0, MINUTES_NINE), (7, timedelta(days=7))])
def test_files_stay_as_long_as_text_is_kept(works, days, stays):
    assert left(ended(works, days)) == [stays, stays]


def test_with_thirty_days_files_go_when_they_said(works):
    stay_input, stay_output = left(ended(works, 30, output_expires_after={"anchor": "created_at", "seconds": 3600}))
    assert timedelta(days=29) < stay_input < timedelta(days=30)
    assert timedelta(minutes=59) < stay_output <= timedelta(hours=1)


def test_what_another_batch_reads_waits_for_it(works):
    batch = works.begin(2)
    file = File.objects.get(pk=batch.input_file_id)
    second = Batch.objects.create(organization=works.organization, input_file_id=file.pk, endpoint=batch.endpoint,
        created_at=batch.created_at, expires_at=batch.expires_at)  # fmt: skip
    files.begin_reading(organization_id=works.organization.pk, file_id=file.pk, reader=f"batch:{second.pk}")
    Organization.objects.update(keep_text_days=0)
    works.run_to_end(batch)
    file.refresh_from_db()
    assert file.expires_at > batch.created_at + timedelta(days=29)
    files.end_reading(reader=f"batch:{second.pk}")
    assert database.run(keeping.shorten(works.organization.pk, batch_id=batch.pk)) == 1


def test_keeping_less_is_for_the_files_that_are_there_too(works):
    batch = ended(works, 30)
    user = make.user()
    Membership.objects.create(organization=works.organization, user=user, role="owner")
    client = Client()
    client.force_login(user)
    form = {"name": works.organization.name, "keep_text_days": "0"}
    assert client.post("/settings/organization/", form).status_code == 302
    assert left(batch) == [MINUTES_NINE, MINUTES_NINE]
    assert "keeps no text" in client.get("/batches/new/").content.decode()
    File.objects.update(expires_at=batch.created_at)
    assert files.expire() == 2
    assert File.objects.count() == 0
    assert [path for path in works.media.rglob("*") if path.is_file()] == []
