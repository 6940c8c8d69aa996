import re
from collections.abc import Iterator
from functools import cache
from typing import Any

import httpx._transports.default
import pytest
import redis
from django.utils import translation
from hypothesis import HealthCheck, settings
from pytest_django import Settings
from whitenoise.middleware import WhiteNoiseMiddleware

from apps.agents import heartbeats
from tests.servers import servers

heartbeats.GATHER_SECONDS = 0.05  # a test sends one beat and waits for its answer

# A machine may be busy: how long an example takes says nothing of the code.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")

pytest_plugins = ["tests.drivers", "tests.emptying", "tests.started", "tests.shop", "tests.stripe"]


# Each client of httpx reads the system's authorities, 40 ms of processor time, also where it never speaks TLS.
httpx._transports.default.create_ssl_context = cache(httpx._transports.default.create_ssl_context)

# Each client of Django's makes the middleware anew, and WhiteNoise then looks at each static file: three times what a page costs.
_look = WhiteNoiseMiddleware.add_files_from_finders
_files: dict[str, Any] = {}


def _look_once(whitenoise: WhiteNoiseMiddleware) -> None:
    if not _files:
        _look(whitenoise)
        _files.update(whitenoise.files)
    whitenoise.files.update(_files)


WhiteNoiseMiddleware.add_files_from_finders = _look_once

# The Makefile names these folders too: `make unit` does not collect them.
MONEY = re.compile(
    r"tests/(billing|catalog|gateway|ledger|operations|webhooks)/|/test_(corrections|limits|money|pricing|tiers|usage)\.py"
)


PROCESSES = re.compile(r"tests/(whole|compat)/")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if PROCESSES.search(item.nodeid):
            item.add_marker(pytest.mark.whole)
            if item.get_closest_marker("timeout") is None:
                item.add_marker(pytest.mark.timeout(180))
        if "stripe" in getattr(item, "fixturenames", ()) or MONEY.search(item.nodeid):
            item.add_marker(pytest.mark.story)


@pytest.fixture(scope="session")
def django_db_keepdb() -> bool:
    """The database came migrated (`tests.database`)."""
    return True


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> None:
    """Each process has a server of its own, so the database needs no name of its own."""


@pytest.fixture(autouse=True)
def _empty_valkey(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that touches the database starts with an empty Valkey."""
    if {"db", "transactional_db", "valkey"} & set(request.fixturenames):
        with redis.Redis.from_url(servers.redis_url) as client:
            client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # subscribers an earlier test left
            client.flushall()
    return


@pytest.fixture(autouse=True)
def _english() -> None:
    """A client that asked in another language leaves the thread in it."""
    translation.deactivate()


@pytest.fixture(autouse=True)
def _quick_passwords(settings: Settings) -> None:
    """Argon2 costs a tenth of a second for each user a test makes."""
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


@pytest.fixture(autouse=True)
def _loud_parts(settings: Settings) -> None:
    """A mistake in one part of a page is the page's own error, but where a test is about that."""
    settings.FAILED_PARTS_RAISE = True


@pytest.fixture
def valkey() -> Iterator[redis.Redis]:
    with redis.Redis.from_url(servers.redis_url, decode_responses=True) as client:
        yield client
