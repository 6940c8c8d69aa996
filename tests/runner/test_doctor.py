"""Ten faults and more, each planted alone: the doctor says in words which it is, and nothing else is wrong."""

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import tests.engine
from apps.runner import config, doctor, identity
from apps.runner.counters import Sampler
from tests.runner.portal import TOKEN, FakePortal
from tests.runner.test_process import settings
from tests.servers import servers

pytestmark = pytest.mark.story
ROOT = Path(__file__).parent.parent.parent

Given = dict[str, Any]


class Place:
    """A node that is well, until a fault is planted."""

    def __init__(self, portal: FakePortal, engine: tests.engine.Running, directory: Path, valkey: redis.Redis) -> None:
        self.portal, self.engine, self.directory, self.valkey = portal, engine, directory, valkey
        self.lies: dict[str, Any] = {}
        self.given = settings(portal, engine, directory / "spool", gpus=["GPU-0"])

    @property
    def pool(self) -> dict[str, Any]:
        pool: dict[str, Any] = self.given["pools"][0]
        return pool

    async def findings(self) -> list[doctor.Finding]:
        path = self.directory / "lies.json"
        path.write_text(json.dumps(self.lies))
        sampler = Sampler([sys.executable, "-m", "tests.runner.fake_nvml", str(path)], present=True)
        return await doctor.examined(config.Configuration.model_validate(self.given), sampler=sampler)


@pytest.fixture
def place(
    portal: FakePortal,
    engine: tests.engine.Running,
    tmp_path: Path,
    valkey: redis.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Place]:
    monkeypatch.chdir(ROOT)
    yield Place(portal, engine, tmp_path, valkey)
    with contextlib.suppress(redis.RedisError):
        valkey.acl_deluser("cut", "narrow")


def user(place: Place, name: str, *rules: str) -> None:
    place.valkey.execute_command("ACL", "SETUSER", name, "reset", "on", ">x", *rules)
    place.given["redis_url"] = servers.redis_url.replace("unix://", f"unix://{name}:x@")


def identity_open_to_all(place: Place) -> None:
    path = place.directory / "identity.json"
    path.write_text("{}")
    path.chmod(0o644)
    del place.given["node_token"]
    place.given["identity"] = str(path)


def key_refused(place: Place) -> None:
    """As of a node that was quarantined."""
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    path = place.directory / "identity.json"
    identity.write_private(path, {"node": "georgia-1-b", "key": pem})
    del place.given["node_token"]
    place.given["identity"] = str(path)


def spool_of_another(place: Place) -> None:
    (place.directory / "spool").write_text("a file in its way")


FAULTS: dict[str, tuple[Callable[[Place], object], str]] = {
    "no portal": (lambda p: p.given.update(portal_url="http://127.0.0.1:1"), "does not answer (ConnectError)"),
    "token refused": (
        lambda p: p.given.update(node_token="wrong"),
        "refuses this node's token. Is the node quarantined",
    ),
    "key refused": (key_refused, "refuses the key of georgia-1-b"),
    "not a portal": (lambda p: p.given.update(portal_url=f"{p.portal.url}/wrong"), "no portal of this kind"),
    "identity open": (identity_open_to_all, "can be read by others than its owner: chmod 600"),
    "wrong clock": (lambda p: setattr(p.portal, "clock_off", 300.0), "s behind the portal's"),
    "no redis": (lambda p: p.given.update(redis_url="redis://127.0.0.1:1/0"), "streams: Redis does not answer"),
    "wrong password": (
        lambda p: p.given.update(redis_url=servers.redis_url.replace("unix://", "unix://nobody:wrong@")),
        "refuses the user or password",
    ),
    "not its pool": (
        lambda p: user(p, "narrow", "+ping", "+xrange", "~out:other:*"),
        "does not let it at pool test-chat",
    ),
    "no rights": (lambda p: user(p, "cut"), "lets it do nothing"),
    "no broker": (lambda p: p.given.update(broker_url="redis://127.0.0.1:1/0"), "orders: the broker does not answer"),
    "no spool": (spool_of_another, "this user may not write there"),
    "no disk": (lambda p: None, "MiB are free"),
    "no engine": (lambda p: p.pool.update(url="http://127.0.0.1:1/v1"), "Is the engine started"),
    "no model": (lambda p: p.pool.update(model="llama-9"), f"has no model llama-9. It has: {tests.engine.MODEL}"),
    "no program": (
        lambda p: p.pool.update(command=["vllm-of-nowhere", "serve"]),
        "there is no program vllm-of-nowhere",
    ),
    "no model file": (lambda p: p.pool.update(engine="llama", gguf="gone.gguf"), "there is no model file"),
    "driver hangs": (lambda p: p.lies.update(hang="nvmlDeviceGetTemperatureV"), "the driver hangs. Reboot"),
    "faulty GPU": (lambda p: p.lies.update(recovery=1), "GPU GPU-0: the driver asks for a reset"),
    "no such GPU": (lambda p: p.pool.update(gpus=["GPU-7"]), "this machine has none of that UUID. It has: GPU-0"),
}


async def test_a_node_that_is_well(place: Place) -> None:
    found = await place.findings()
    assert [text for good, text in found if not good] == []
    assert "GPU GPU-0: NVIDIA H200, 412 W, has an energy counter" in [text for _, text in found]


@pytest.mark.parametrize("fault", FAULTS)
async def test_each_planted_fault_is_told_in_words(place: Place, fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plant, words = FAULTS[fault]
    plant(place)
    if fault == "driver hangs":
        monkeypatch.setattr("apps.runner.counters.ANSWER_SECONDS", 0.5)
    if fault == "no disk":
        monkeypatch.setattr(doctor, "SPOOL_BYTES", 2**60)
    place.lies.setdefault("gpus", 1)
    wrong = [text for good, text in await place.findings() if not good]
    assert len(wrong) == 1, wrong
    assert words in wrong[0]


async def test_what_is_printed_says_good_from_bad(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    given = config.Configuration.model_validate(place.given)
    assert await doctor.examine(given.model_copy(update={"node_token": "wrong"}), sampler=Sampler(present=False)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line[:4] for line in lines] == ["BAD ", "ok  ", "ok  ", "ok  ", "ok  ", "ok  "]
    assert TOKEN not in "".join(lines)
    assert await doctor.examine(given, sampler=Sampler(present=False)) == 0
