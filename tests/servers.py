"""A pytest plugin, loaded before Django's settings are read: real servers for the whole run, in a directory of its own."""

import os
import tempfile
from pathlib import Path

import pytest

from cango_portal import catalogs
from cango_portal.launcher.servers import Servers, remove
from tests import database

catalogs.compile_stale()
directory = Path(tempfile.mkdtemp(prefix="cango-", dir="/tmp"))
directory.chmod(0o711)
servers = Servers(directory, durable=False)
(directory / "static").mkdir()
os.environ |= {
    **servers.environment,
    "DJANGO_SETTINGS_MODULE": "cango_portal.settings",
    "PORTAL_VAR": str(directory),
    "EMAIL_BACKEND": "django.core.mail.backends.locmem.EmailBackend",
    "LOG_LEVEL": "WARNING",
    "BASE_URL": "http://localhost:8000",
    "STRIPE_SECRET_KEY": "",
    "STRIPE_WEBHOOK_SECRETS": "",
}


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """What only hands tests out (`-n`) needs no servers: each of its processes has its own."""
    if early_config.known_args_namespace.numprocesses and "PYTEST_XDIST_WORKER" not in os.environ:
        return
    database.copy(database.made(), servers.cluster)
    servers.start()


def pytest_unconfigure() -> None:
    servers.stop()
    remove(directory)
