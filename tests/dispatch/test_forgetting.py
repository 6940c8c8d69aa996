"""Text is forgotten when its time is over: by each organization's choice, with its file and its stream; figures stay."""

from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from apps.accounts.models import AuditEvent, Membership, Organization
from apps.core.ids import uuid7
from apps.dispatch import forgetting, receipts
from apps.dispatch.models import Receipt
from apps.dispatch.tasks import forget_texts
from apps.files.models import File
from apps.jobs.models import Content, Job
from apps.runner import protocol
from cango_portal import database, valkey
from tests import make

pytestmark = pytest.mark.django_db
NOTHING = forgetting.Forgotten(0, 0)


def organization(days):
    made = make.organization()
    Organization.objects.filter(pk=made.pk).update(keep_text_days=days)
    return made


def ended(organization, *, seconds, interactive=False, **fields):
    """A job that ended so long ago, after a minute."""
    at = datetime.now(UTC) - timedelta(seconds=seconds)
    began = at - timedelta(minutes=1)
    pk = type(uuid7())(int=int(began.timestamp() * 1000) << 80 | uuid7().int & (1 << 80) - 1)
    model = fields.pop("model", None) or make.model()
    return make.job(
        state="succeeded",
        created_at=began,
        finished_at=at,
        text="Brot",
        request={"messages": []},
        id=pk,
        organization=organization,
        model=model,
        interactive=interactive,
        charge_microusd=7,
        completion_tokens=5,
        **fields,
    )


DAY = 24 * 3600


@pytest.mark.parametrize(
    ("days", "interactive", "kept", "gone"),
    [
        (30, True, 30 * DAY - 60, 30 * DAY + 1),
        (7, False, 7 * DAY - 60, 7 * DAY + 1),
        (0, True, 50, 61),
        (0, False, 530, 541),
    ],
)
def test_each_organization_keeps_text_as_long_as_it_says(days, interactive, kept, gone):
    owner = organization(days)
    young, old = (ended(owner, seconds=seconds, interactive=interactive) for seconds in (kept, gone))
    assert forgetting.sweep() == forgetting.Forgotten(1, 0)
    assert list(Content.objects.values_list("job_id", flat=True)) == [young.pk]
    old.refresh_from_db()
    assert (old.state, old.charge_microusd, old.completion_tokens) == ("succeeded", 7, 5)
    assert forgetting.sweep() == NOTHING


def test_what_runs_and_what_is_of_a_batch_is_kept():
    owner, model = organization(0), make.model()
    for state in ("queued", "running"):
        make.job(organization=owner, model=model, state=state, created_at=datetime.now(UTC) - timedelta(hours=3))
    ended(owner, seconds=DAY, model=model, batch_id=uuid7())
    assert forgetting.sweep(thorough=True) == NOTHING
    assert Content.objects.count() == 3


def test_a_sweep_looks_at_what_is_newly_over_and_a_thorough_one_at_all():
    owner, other = organization(7), organization(7)
    for each in (owner, other):
        ended(each, seconds=20 * DAY)
    assert forgetting.sweep() == NOTHING
    assert forgetting.sweep(thorough=True, organization=owner.pk) == forgetting.Forgotten(1, 0)
    assert Content.objects.get().job.organization == other
    assert forgetting.sweep(thorough=True) == forgetting.Forgotten(1, 0)


def test_the_file_goes_with_the_text_unless_other_work_reads_it():
    owner, model = organization(0), make.model(kind="ocr", input=0, output=0)
    later = datetime.now(UTC) + timedelta(days=7)
    files = [
        File.objects.create(
            organization=owner,
            purpose="input",
            status="processed",
            name="invoice.png",
            content_type="image/png",
            size_bytes=1,
            pages=1,
            path=f"nothing/{number}",
            expires_at=later,
        )
        for number in range(2)
    ]
    for file in files:
        ended(owner, seconds=700, model=model, file=file)
    make.job(organization=owner, model=model, file=files[1])
    forget_texts()
    assert [File.objects.filter(pk=file.pk, expires_at=later).exists() for file in files] == [False, True]
    assert Job.objects.filter(state="succeeded").count() == 2


def test_the_same_request_again_is_told_that_its_answer_is_not_kept():
    owner = organization(0)
    job = ended(owner, seconds=61, interactive=True)
    ticket = receipts.Ticket(digest=b"d" * 32, mark=b"m" * 32)
    Receipt.objects.create(
        job_id=job.pk, mark=ticket.mark, digest=ticket.digest, followers=1, created_at=job.created_at
    )
    assert database.run(receipts.find(ticket)).job_id == job.pk
    forgetting.sweep()
    with pytest.raises(receipts.AnswerNotKept) as refused:
        database.run(receipts.find(ticket))
    assert (refused.value.code, refused.value.status) == ("answer_not_kept", 409)


def test_the_streams_of_all_attempts_are_emptied():
    owner = organization(0)
    pool = make.pool(model=make.model())
    job = ended(owner, seconds=700, model=pool.model, pool=pool, attempt=2)
    keys = [protocol.stream(pool.code, str(job.pk), attempt) for attempt in (1, 2)]
    for key in keys:
        valkey.client().xadd(key, {"e": "Brot"})
    forgetting.sweep()
    assert [valkey.client().exists(key) for key in keys] == [0, 0]


def text(answer):
    return " ".join(answer.content.decode().split())


def test_owners_choose_and_members_read():
    owner, member = make.user(), make.user()
    owned = make.organization(owner=owner)
    Membership.objects.create(organization=owned, user=member, role="developer")
    form = {"name": "Meridian", "keep_text_days": "0"}
    client, other = Client(), Client()
    client.force_login(owner)
    other.force_login(member)
    assert other.post("/settings/organization/", form).status_code == 403
    assert client.post("/settings/organization/", {**form, "keep_text_days": "1"}).status_code == 422
    assert client.post("/settings/organization/", {**form, "name": " "}).status_code == 422
    owned.refresh_from_db()
    assert (owned.name, owned.keep_text_days, AuditEvent.objects.filter(organization=owned).count()) == (
        "Meridian Foods",
        30,
        0,
    )
    for _ in range(2):
        assert client.post("/settings/organization/", form).status_code == 302
    owned.refresh_from_db()
    assert (owned.name, owned.keep_text_days) == ("Meridian", 0)
    event = AuditEvent.objects.get(organization=owned)
    assert (event.action, event.actor) == ("organization.changed", owner)
    assert event.data == {
        "name": {"from": "Meridian Foods", "to": "Meridian"},
        "keep_text_days": {"from": 30, "to": 0},
    }
    assert "not kept" in text(other.get("/settings/organization/"))
    assert '<form class="form"' not in text(other.get("/settings/organization/"))
    job = ended(owned, seconds=700)
    forgetting.sweep()
    shown = text(client.get(f"/jobs/{job.public_id}/"))
    assert "The text is not kept any more." in shown
    assert "No text was written." not in shown
