"""A machine becomes a node once, by a token of staff's, and speaks only while it is believed."""

import asyncio
import base64
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from apps.agents.door import application
from apps.core.errors import NotAllowed, NotAuthenticated
from apps.core.sql import Plan
from apps.runner import config, identity
from apps.runner.protocol import GPU, Enrolment, Inventory, Renewal, enrolment_text, renewal_text
from apps.sites import acl, drains, enrolment, lifecycle, nodes
from apps.sites.enrolment import EnrolmentRefused
from apps.sites.models import GPU as Card
from apps.sites.models import EnrolmentToken, Node, NodeEvent
from cango_portal import database
from tests import make
from tests.threads import one_after_the_other

POOL = {"code": "a", "kind": "chat", "engine": "url", "url": "http://127.0.0.1:1/v1"}


def b64(value: bytes) -> str:
    return base64.b64encode(value).decode()


class Machine:
    """With a key and GPUs of its own."""

    def __init__(self, *uuids: str) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.public = b64(self.key.public_key().public_bytes_raw())
        self.gpus = [GPU(uuid=uuid, name="NVIDIA H200") for uuid in uuids]

    def call(self, path: str, content: str, *, token: str = "", peer: str = "203.0.113.9") -> httpx.Response:
        async def post() -> httpx.Response:
            transport = httpx.ASGITransport(application, client=(peer, 1))
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            async with httpx.AsyncClient(transport=transport, base_url="http://portal") as client:
                answer = await client.post(f"/agent/v1/{path}", content=content, headers=headers)
            await database.close()
            return answer

        return asyncio.run(post())

    def asks(self, token: str, *, sign: str = "") -> Enrolment:
        inventory = Inventory(hostname="box", gpus=self.gpus)
        proof = b64(self.key.sign(enrolment_text(sign or token, self.public, inventory)))
        return Enrolment(token=token, public_key=self.public, inventory=inventory, proof=proof)

    def enrol(self, token: str, *, sign: str = "", **fields: Any) -> httpx.Response:
        return self.call("enroll", self.asks(token, sign=sign).model_dump_json(), **fields)

    def renew(self, node: str, *, at: float | None = None) -> httpx.Response:
        return self.call("renew", self.proves(node, at=time.time() if at is None else at).model_dump_json())

    def proves(self, node: str, *, at: float) -> Renewal:
        return Renewal(node=node, at=at, proof=b64(self.key.sign(renewal_text(node, at))))

    def beat(self, token: str) -> int:
        return self.call("heartbeat", '{"claimant": "a"}', token=token).status_code


@pytest.fixture
def staff(transactional_db):
    return make.user(is_staff=True)


@pytest.fixture
def slot(staff):
    """Call it: a node that staff described, and its one-time token."""

    def made(node: Node | None = None, **fields: Any) -> tuple[Node, str]:
        node = node or make.node(state="pending", heartbeat_at=None, **fields)
        return node, enrolment.issue(node=node, actor=staff, reason="New", now=datetime.now(UTC))

    return made


def cards() -> dict[str, str]:
    return dict(Card.objects.filter(removed_at=None).values_list("uuid", "node__code"))


def test_a_machine_becomes_a_node_and_speaks(slot):
    node, token = slot()
    pool = make.pool(model=make.model(), node=node)
    machine = Machine("GPU-1", "GPU-2")
    answer = machine.enrol(token)
    assert answer.json() == {
        "node": node.code,
        "site": node.site.code,
        "state": "burn-in",
        "reason": "",
        "pools": [pool.code],
    }
    assert cards() == {"GPU-1": node.code, "GPU-2": node.code}
    assert NodeEvent.objects.get().after == "burn-in"
    renewed = machine.renew(node.code).json()
    assert renewed["seconds"] == 3600
    assert machine.beat(renewed["token"]) == 200
    node.refresh_from_db()
    assert (node.generation, node.inventory["hostname"]) == (1, "box")
    assert token not in str(EnrolmentToken.objects.values())


@pytest.mark.parametrize(
    ("case", "code"),
    [
        ("replay", "enrolment_used"),
        ("expired", "enrolment_expired"),
        ("void", "enrolment_expired"),
        ("foreign", "enrolment_elsewhere"),
        ("unknown", "invalid_enrolment_token"),
        ("another key", "invalid_proof"),
        ("retired", "node_retired"),
    ],
)
def test_what_is_refused_writes_nothing(slot, staff, case, code):
    node, token = slot(site=make.site(ip_ranges=["203.0.113.0/24", "2001:db8::/32"]))
    machine = Machine("GPU-1")
    fields: dict[str, Any] = {}
    if case == "replay":
        assert Machine("GPU-9").enrol(token).status_code == 200
    elif case == "expired":
        EnrolmentToken.objects.update(expires_at=datetime.now(UTC) - timedelta(seconds=1))
    elif case == "void":
        slot(node)
    elif case == "foreign":
        fields["peer"] = "198.51.100.1"
    elif case == "another key":
        fields["sign"] = "another"
    elif case == "retired":
        drains.move(node=node, after="retired", reason="Old", actor=staff)

    def written() -> list[Any]:
        return [list(each.objects.order_by("pk").values()) for each in (Node, Card, EnrolmentToken, NodeEvent)]

    before = written()
    answer = machine.enrol("enrol_x" if case == "unknown" else token, **fields)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401 if case == "unknown" else 403, code)
    assert written() == before


def test_a_cloned_gpu_quarantines_and_believes_nothing(slot):
    first, one = slot()
    Machine("GPU-1").enrol(one)
    second, two = slot()
    clone = Machine("GPU-1", "GPU-2")
    answer = clone.enrol(two).json()
    assert (answer["state"], answer["reason"]) == ("quarantined", f"GPU-1 is at {first.code}")
    assert cards() == {"GPU-1": first.code}
    assert clone.renew(second.code).json()["error"]["code"] == "invalid_node_key"
    with pytest.raises(NotAllowed, match="taken out there"):
        database.run(enrolment.believe(second.pk, reason="Looked", actor_id=EnrolmentToken.objects.first().actor_id))
    assert cards() == {"GPU-1": first.code}


def test_changed_hardware_is_quarantined_until_somebody_looked(slot, staff):
    node, token = slot()
    before = Machine("GPU-1", "GPU-2")
    before.enrol(token)
    old = before.renew(node.code).json()["token"]
    assert before.beat(old) == 200
    _, again = slot(Node.objects.get())
    after = Machine("GPU-1", "GPU-3")
    assert after.enrol(again).json()["reason"] == "Its GPUs changed: GPU-2, GPU-3"
    assert before.beat(old) == 401
    assert after.renew(node.code).status_code == 401
    database.run(enrolment.believe(node.pk, reason="New card", actor_id=staff.pk))
    assert cards() == {"GPU-1": node.code, "GPU-3": node.code}
    assert Node.objects.get().state == "burn-in"
    assert after.beat(after.renew(node.code).json()["token"]) == 200
    assert before.renew(node.code).status_code == 401  # another key


def test_the_same_machine_is_enrolled_again_and_its_old_token_ends(slot):
    node, token = slot()
    machine = Machine("GPU-1")
    machine.enrol(token)
    old = machine.renew(node.code, at=time.time() + 100).json()["token"]  # its clock was ahead
    Node.objects.update(state="admitted")
    _, again = slot(Node.objects.get())
    assert machine.enrol(again).json()["state"] == "admitted"
    assert machine.beat(old) == 401
    assert machine.beat(machine.renew(node.code).json()["token"]) == 200


def test_a_gpu_that_was_taken_out_is_missed_nowhere_and_may_be_anywhere(slot):
    first, one = slot()
    Machine("GPU-1", "GPU-2").enrol(one)
    Card.objects.filter(uuid="GPU-2").update(removed_at=datetime.now(UTC))
    second, two = slot()
    assert Machine("GPU-2").enrol(two).json()["state"] == "burn-in"
    _, again = slot(Node.objects.get(pk=first.pk))
    assert Machine("GPU-1").enrol(again).json()["reason"] == ""
    assert cards() == {"GPU-1": first.code, "GPU-2": second.code}


def test_only_a_quarantined_machine_that_was_enrolled_can_be_believed(slot, staff):
    node, token = slot()
    Machine("GPU-1").enrol(token)
    never = make.node(state="quarantined")
    for each in (node, never):
        before = Node.objects.get(pk=each.pk).state
        with pytest.raises(NotAllowed, match="Only a quarantined node"):
            database.run(enrolment.believe(each.pk, reason="Looked", actor_id=staff.pk))
        assert Node.objects.get(pk=each.pk).state == before


def test_another_number_of_gpus_than_expected_is_quarantined(slot):
    _, token = slot(expected_gpus=8)
    assert Machine("GPU-1").enrol(token).json()["reason"] == "It has 1 GPUs, and 8 were expected"
    assert cards() == {}


def test_a_machine_that_names_a_gpu_twice_is_quarantined(slot):
    _, token = slot()
    assert Machine("GPU-1", "GPU-1").enrol(token).json()["reason"] == "It names a GPU twice"
    assert cards() == {}


def test_of_two_machines_that_name_one_gpu_at_the_same_moment_one_is_quarantined(slot):
    """The second looks before the first has committed, and waits for it where it writes the GPU down."""
    given = [Machine("GPU-1").asks(slot()[1]) for _ in range(2)]
    first, second = one_after_the_other(*(enrolment.enrol(each, address=None) for each in given))
    assert (first.state, first.reason) == ("burn-in", "")
    assert (second.state, second.reason) == ("quarantined", "A GPU of it is at another node")
    assert cards() == {"GPU-1": first.node}


def test_of_two_machines_with_one_token_at_the_same_moment_one_is_refused(slot):
    node, token = slot()
    given = [Machine().asks(token) for _ in range(2)]
    first, second = one_after_the_other(*(enrolment.enrol(each, address=None) for each in given))
    assert first.state == "burn-in"
    assert isinstance(second, EnrolmentRefused)
    assert "used already" in second.message
    node.refresh_from_db()
    assert (node.public_key, node.generation) == (given[0].public_key, 1)


def test_a_machine_that_is_quarantined_while_it_is_enrolled_is_told_so(slot):
    node, token = slot()
    Node.objects.update(state="burn-in")
    quarantine = lifecycle.step(node.pk, before="burn-in", after="quarantined", reason="Stolen")
    _, answer = one_after_the_other(quarantine, enrolment.enrol(Machine().asks(token), address=None))
    assert (answer.state, answer.reason) == ("quarantined", "It was quarantined before")


def test_a_quarantined_machine_that_is_enrolled_again_stays_so_and_is_told(slot, staff):
    node, token = slot()
    machine = Machine("GPU-1")
    machine.enrol(token)
    drains.move(node=Node.objects.get(), after="quarantined", reason="Stolen", actor=staff)
    _, again = slot(Node.objects.get())
    answer = machine.enrol(again).json()
    assert (answer["state"], answer["reason"]) == ("quarantined", "It was quarantined before")
    assert machine.renew(node.code).status_code == 401


def test_a_retired_node_gets_no_token(slot, staff):
    node, _ = slot()
    drains.move(node=node, after="retired", reason="Old", actor=staff)
    with pytest.raises(NotAllowed, match="not enrolled again"):
        slot(node)
    assert EnrolmentToken.objects.count() == 1


def test_a_fixed_token_ends_when_the_node_is_enrolled(slot):
    _, token = slot(token="cnode_fixed")
    Node.objects.update(state="burn-in")
    machine = Machine("GPU-1")
    assert machine.beat("cnode_fixed") == 200
    machine.enrol(token)
    assert machine.beat("cnode_fixed") == 401


def test_a_proof_is_taken_once_from_a_clock_that_is_right_with_the_right_key(slot):
    node, token = slot()
    machine, now = Machine("GPU-1"), time.time()
    machine.enrol(token)
    assert machine.renew(node.code, at=now).status_code == 200
    for at, code in (
        (now, "proof_used"),
        (now - 1, "proof_used"),
        (now + 200, "wrong_clock"),
        (now - 200, "wrong_clock"),
    ):
        assert machine.renew(node.code, at=at).json()["error"]["code"] == code
    assert Machine().renew(node.code).json()["error"]["code"] == "invalid_node_key"

    def enrolled_meanwhile() -> Plan[Any]:
        plan = enrolment.renew(machine.proves(node.code, at=now + 1), now=now)
        rows = yield next(plan)
        Node.objects.update(generation=2)
        rows = yield plan.send(rows)
        return plan.send(rows)

    with pytest.raises(NotAuthenticated):
        database.run(enrolled_meanwhile())
    assert Node.objects.get().renewed_at == now


def test_a_token_ends_with_its_hour_its_node_and_any_change_of_it(slot, staff):
    node, token = slot()
    machine = Machine("GPU-1")
    machine.enrol(token)
    now = int(time.time())
    good = enrolment.signed_token(node.pk, 1, expires=now + 60)
    assert machine.beat(good) == 200
    head, _, mac = good.rpartition(".")
    wrong = [
        enrolment.signed_token(node.pk, 1, expires=now - 1),
        enrolment.signed_token(node.pk, 2, expires=now + 60),
        enrolment.signed_token(node.pk + 1, 1, expires=now + 60),
        f"{head}9.{mac}",
        f"{head}.{mac[:-1]}",
        "nodet_",
        "nodet_a.b.c.d",
    ]
    assert [machine.beat(each) for each in wrong] == [401] * len(wrong)
    drains.move(node=Node.objects.get(), after="quarantined", reason="Stolen", actor=staff)
    assert machine.beat(good) == 401
    assert not Node.objects.filter(token_sha256=nodes.digest(good)).exists()


@pytest.mark.story
async def test_the_runners_own_enrolment_and_renewal(slot, tmp_path, monkeypatch, settings):
    """The command's code against the door, as far as the socket."""
    node, token = await asyncio.to_thread(slot)
    transport = httpx.ASGITransport(application, client=("203.0.113.9", 1))
    real = httpx.AsyncClient
    monkeypatch.setattr(identity.httpx, "AsyncClient", lambda **fields: real(**{**fields, "transport": transport}))
    path = tmp_path / "identity.json"
    given = {"portal_url": "http://portal", "token": token, "into": path}
    enrolled = await identity.enroll(**given)
    assert (enrolled.node, path.stat().st_mode & 0o777) == (node.code, 0o600)
    with pytest.raises(identity.NotEnrolled, match="used already"):
        await identity.enroll(**{**given, "into": tmp_path / "second.json"})
    assert list(tmp_path.iterdir()) == [path]
    mine = identity.load(path)
    async with real(transport=transport) as client:
        first = await mine.bearer(client, "http://portal")
        assert await mine.bearer(client, "http://portal") == first  # half an hour has not passed
        mine.asked = mine.renew_at = 0.0
        assert await mine.bearer(client, "http://portal")
        beat = await client.post(
            "http://portal/agent/v1/heartbeat",
            content='{"claimant": "a"}',
            headers={"Authorization": f"Bearer {first}"},
        )
    assert beat.status_code == 200
    given = {"portal_url": "http://portal", "identity": path, "spool": tmp_path, "pools": [POOL]}
    plain = config.Configuration.model_validate(given)
    with pytest.raises(identity.NotEnrolled, match="gives out no addresses"):
        await identity.completed(plain, most=0)
    settings.SITES_REDIS_URL = settings.SITES_BROKER_URL = "rediss://cache.example.com:6379/0"
    found = await identity.completed(plain, most=0)
    assert found.redis_url == found.broker_url == acl.url(settings.SITES_REDIS_URL, node.code, 1)
    await database.close()
    path.chmod(0o644)
    with pytest.raises(identity.NotEnrolled, match="chmod 600"):
        identity.load(path)
