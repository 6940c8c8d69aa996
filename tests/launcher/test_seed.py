import hashlib
import json
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from apps.accounts.models import AuditEvent, Membership, Organization, User
from apps.catalog.models import Model, PriceVersion
from apps.keys import services as keys
from apps.keys.models import APIKey
from apps.ledger import services as ledger
from apps.ledger.models import Transfer
from apps.portal import seeding
from apps.sites.models import Node, Pool, Site

ROWS = (User, Organization, Membership, APIKey, AuditEvent, Transfer, Model, PriceVersion, Site, Node, Pool)
KEYS = {"base_url", "email", "password", "staff_email", "staff_password", "organization", "api_key"}


@pytest.fixture
def var(settings, tmp_path):
    settings.VAR = tmp_path
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]  # the real one is slow on purpose
    return tmp_path


def count() -> list[int]:
    return [model.objects.count() for model in ROWS]


def test_it_writes_the_demo(db, var):
    call_command("seed", stdout=StringIO())
    demo = json.loads((var / "demo.json").read_text())
    assert set(demo) == KEYS
    assert demo["organization"] == "Meridian Foods"
    for name in ("demo.json", "runner.toml"):
        assert (var / name).stat().st_mode & 0o777 == 0o600
    organization = Organization.objects.get()
    assert keys.authenticate(demo["api_key"]).organization_id == organization.pk
    assert ledger.balance(organization.pk).available_microusd == 5_000_000
    user, staff = (User.objects.get(email=demo[name]) for name in ("email", "staff_email"))
    assert user.check_password(demo["password"])
    assert staff.check_password(demo["staff_password"])
    assert (user.is_staff, staff.is_staff, staff.is_superuser) == (False, True, True)
    runner = tomllib.loads((var / "runner.toml").read_text())
    assert {pool["code"] for pool in runner["pools"]} == set(Pool.objects.values_list("code", flat=True))
    assert Node.objects.get().token_sha256 == hashlib.sha256(runner["node_token"].encode()).hexdigest()
    assert "knows nothing" in Model.objects.get(name="cango/demo-chat").description
    assert all(model.prices.exists() for model in Model.objects.all())
    assert PriceVersion.objects.get(model__name="cango/demo-chat").cached_input_microusd_per_mtok == 12_500


def test_a_second_time_changes_nothing(db, var):
    first = seeding.seed()
    before, config = count(), (var / "runner.toml").read_text()
    assert seeding.seed() == first
    assert count() == before
    assert (var / "runner.toml").read_text() == config


def test_a_lost_file_gets_a_new_key_and_ends_the_lost_one(db, var):
    first = seeding.seed()
    (var / "demo.json").unlink()
    second = seeding.seed()
    assert second["api_key"] != first["api_key"]
    assert APIKey.objects.active().count() == 1
    keys.authenticate(second["api_key"])
    with pytest.raises(keys.NotAuthenticated):
        keys.authenticate(first["api_key"])
    assert User.objects.get(email=second["email"]).check_password(second["password"])


def test_half_a_file_is_a_lost_file(db, var):
    (var / "demo.json").write_text('{"email": ')
    (var / "runner.toml").write_text("portal_url = ")
    assert set(seeding.seed()) == KEYS


def test_production_is_not_seeded(db, var, settings):
    settings.DEMO = False
    with pytest.raises(CommandError, match="not a demo"):
        call_command("seed")
    assert not Organization.objects.exists()


class Models(BaseHTTPRequestHandler):
    """An engine's list of models, for those with the key."""

    def do_GET(self) -> None:
        allowed = self.headers["authorization"] == "Bearer engine-key" and self.path == "/v1/models"
        self.send_response(200 if allowed else 401)
        self.end_headers()
        self.wfile.write(json.dumps({"data": [{"id": "llama-3.1:8b"}, {"id": "acme/embed-small"}]}).encode())

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def engine_url() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Models) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/"
        server.shutdown()


def test_an_engine_brings_its_models_and_takes_them_again(db, var, settings, engine_url):
    settings.ENGINE_URL, settings.ENGINE_KEY = engine_url, "engine-key"
    call_command("seed", stdout=StringIO())
    assert Model.objects.get(name="engine/llama-3.1:8b").kind == "chat"
    assert Model.objects.get(name="acme/embed-small").kind == "embeddings"
    pools = {pool["code"]: pool for pool in tomllib.loads((var / "runner.toml").read_text())["pools"]}
    assert pools["engine-acme-embed-small"]["model"] == "acme/embed-small"
    assert pools["engine-acme-embed-small"]["url"] == engine_url.rstrip("/")
    assert pools["engine-acme-embed-small"]["key"] == "engine-key"

    settings.ENGINE_URL = ""
    call_command("seed", stdout=StringIO())
    assert not Model.objects.get(name="engine/llama-3.1:8b").listed
    assert Pool.objects.filter(draining=True, ready=False).count() == 2
    assert len(tomllib.loads((var / "runner.toml").read_text())["pools"]) == 3


def test_an_engine_that_refuses_is_left_out_in_a_sentence(db, var, settings, engine_url):
    settings.ENGINE_URL, settings.ENGINE_KEY = engine_url, "wrong"
    said = StringIO()
    call_command("seed", stdout=StringIO(), stderr=said)
    assert said.getvalue() == f"The engine was left out: {engine_url.rstrip('/')}/models answered 401.\n"
    assert Model.objects.count() == 3
