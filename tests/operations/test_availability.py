"""What the status page is made of: each minute looked at once, and what was said of incidents."""

from datetime import UTC, datetime, timedelta

import pytest

from apps.accounts.models import AuditEvent
from apps.operations import availability, incidents
from apps.operations.models import Availability, Incident
from apps.operations.tasks import look
from apps.sites.models import Drain
from cango_portal import database
from tests import make


def rows() -> list[tuple[str, str, int, int]]:
    return list(Availability.objects.order_by("model__name", "region").values_list("model__name", "region", "looks", "up"))  # fmt: skip


def a_minute_ago() -> None:
    for row in Availability.objects.all():
        Availability.objects.filter(pk=row.pk).update(looked_at=row.looked_at - timedelta(minutes=1))


def test_a_region_is_up_where_one_site_takes_work_and_a_minute_counts_once(db):
    chat, other = make.model(name="acme/chat"), make.model(name="acme/other")
    make.model(name="acme/nowhere")
    hidden = make.model(name="acme/hidden", listed=False)
    texas = make.site(region="Texas")
    make.pool(model=chat, ready=False)
    make.pool(model=chat)
    make.pool(model=chat, ready=False, node=make.node(site=texas))
    make.pool(model=other, node=make.node(heartbeat_at=datetime.now(UTC) - timedelta(minutes=5)))
    make.pool(model=hidden)
    look()
    look()
    assert rows() == [("acme/chat", "Georgia", 1, 1), ("acme/chat", "Texas", 1, 0), ("acme/other", "Georgia", 1, 0)]
    a_minute_ago()
    chat.pools.update(ready=True)
    look()
    assert rows() == [("acme/chat", "Georgia", 2, 2), ("acme/chat", "Texas", 2, 1), ("acme/other", "Georgia", 2, 0)]
    history = database.run(availability.history())
    day = history[availability.Where(chat.pk, "US", "Texas")][datetime.now(UTC).date()]
    assert (day.looks, day.up, day.share, day.down) == (2, 1, 0.5, 1)


def test_announced_maintenance_is_no_down_time(db, settings):
    now, notice = datetime.now(UTC), timedelta(seconds=settings.MAINTENANCE_NOTICE_SECONDS)
    model = make.model(name="acme/chat")
    down = ("Back", "Late", "Overrun", "Sudden")
    nodes = {region: make.node(site=make.site(region=region)) for region in ("Announced", *down, "Up")}
    for region, node in nodes.items():
        make.pool(model=model, node=node, ready=region == "Up")
        Drain.objects.create(
            node=node,
            purpose="maintenance",
            reason="Fans",
            announced_at=None
            if region == "Sudden"
            else now - timedelta(hours=2) - (timedelta() if region == "Late" else notice),
            starts_at=now - timedelta(hours=1),
            deadline_at=now + timedelta(hours=3),
            ends_at=now - timedelta(minutes=1) if region == "Overrun" else now + timedelta(hours=2),
            began_at=now - timedelta(hours=1),
            ended_at=now if region == "Back" else None,  # at work again, and away for another reason
            open=region != "Back",
        )
    look()
    assert rows() == [*(("acme/chat", region, 1, 0) for region in down), ("acme/chat", "Up", 1, 1)]


def test_an_incident_ends_with_what_is_said_of_it(db):
    staff = make.user(is_staff=True)
    began = datetime.now(UTC) - timedelta(hours=1)
    incident = Incident.objects.create(title="Slow", effect="Answers wait.", severity="degraded", began_at=began)
    for state, ended in (("investigating", False), ("resolved", True), ("monitoring", False)):
        incidents.tell(incident=incident, state=state, text=f"We are {state}.", actor=staff, reason="Pager")
        incident.refresh_from_db()
        assert (incident.ended_at is not None) is ended
    assert [each.state for each in incident.updates.all()] == ["monitoring", "resolved", "investigating"]
    assert AuditEvent.objects.filter(action="incident.told", reason="Pager").count() == 3


@pytest.mark.story
def test_staff_tell_through_the_admin(client, db):
    client.force_login(make.user(is_staff=True, is_superuser=True))
    incident = Incident.objects.create(title="Slow", effect="x", severity="degraded", began_at=datetime.now(UTC))
    sent = {
        "action": "tell",
        "_selected_action": [incident.pk],
        "confirm": "yes",
        "reason": "Pager",
        "state": "identified",
    }
    page = client.post("/admin/operations/incident/", sent)
    assert b"required" in page.content
    assert incident.updates.count() == 0
    client.post("/admin/operations/incident/", {**sent, "text": "A fan."})
    assert [(each.state, each.text) for each in incident.updates.all()] == [("identified", "A fan.")]
    assert client.get(f"/admin/operations/incident/{incident.pk}/change/").status_code == 200
    assert client.get("/admin/operations/incident/add/").status_code == 200
    assert client.get("/admin/operations/availability/").status_code == 200
