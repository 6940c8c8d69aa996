"""The migrated database of the tests, made once for a set of migrations: each process of a run copies it, and migrates nothing.

python -m tests.database <directory>
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from cango_portal.launcher.servers import Servers, remove

ROOT = Path(__file__).resolve().parents[1]
CACHE = ROOT / ".pytest_cache"


def made() -> Path:
    """The data directory of a stopped PostgreSQL with the migrated database in it."""
    digest = hashlib.sha256()
    for path in sorted([*ROOT.glob("apps/*/migrations/*.py"), ROOT / "requirements-test.lock"]):
        digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    template = CACHE / f"database-{digest.hexdigest()[:16]}"
    CACHE.mkdir(exist_ok=True)
    with (CACHE / "database.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # the processes of a run want it at the same moment
        if not template.exists():
            for other in CACHE.glob("database-*"):
                shutil.rmtree(other)
            subprocess.run([sys.executable, "-m", "tests.database", str(template)], cwd=ROOT, check=True)
    return template


def copy(template: Path, cluster: Path) -> None:
    subprocess.run(["cp", "-a", "--reflink=auto", template, cluster], check=True)


def make(template: Path) -> None:
    directory = Path(tempfile.mkdtemp(prefix="cango-", dir="/tmp"))
    directory.chmod(0o711)
    servers = Servers(directory, durable=False)
    try:
        servers.start()
        os.environ |= {
            **servers.environment,
            "DJANGO_SETTINGS_MODULE": "cango_portal.settings",
            "PORTAL_VAR": str(directory),
            "LOG_LEVEL": "WARNING",
        }
        import django
        from django.db import connection

        django.setup()
        connection.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
        connection.close()
        servers.stop()
        part = template.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        copy(servers.cluster, part)
        part.rename(template)
    finally:
        servers.stop()
        remove(directory)


if __name__ == "__main__":
    make(Path(sys.argv[1]))
