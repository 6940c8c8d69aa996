"""A pytest plugin, loaded before Django's settings are read: real servers for the whole run, in a directory of its own."""

import os
import tempfile
from pathlib import Path

from cango_portal import catalogs
from cango_portal.launcher.servers import Servers, remove
from tests import database

catalogs.compile_stale()
directory = Path(tempfile.mkdtemp(prefix="cango-", dir="/tmp"))
directory.chmod(0o711)
servers = Servers(directory, durable=False)
database.copy(database.made(), servers.cluster)
(directory / "static").mkdir()
servers.start()
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


def pytest_unconfigure() -> None:
    servers.stop()
    remove(directory)
