"""make bench-pages: what each page costs, as a multiple of an empty view, with a little history and with much.

Each page is asked through Django as its web process answers it, with session, middleware and templates, by a member of the customer
that has half of the made-up history (`manage.py seed_jobs`). The empty view goes through the same middleware for the same member.
The turns of pages and of the empty view alternate, so that a busy machine slows both. p95 counts; the ratio of the two sizes is
the result: a page whose work grows with the history shows.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cango_portal.launcher.servers import Servers, remove

GOAL = 1.5
EMPTY = "/bench/empty/"
PAGES = {
    "overview": "/dashboard/",
    "jobs": "/jobs/",
    "jobs, an older page": "/jobs/?before={middle}",
    "jobs that failed": "/jobs/?state=failed",
    "jobs of a model": "/jobs/?model={model}",
    "jobs by id": "/jobs/?q={job}",
    "jobs by metadata, common": "/jobs/?q=team%3Dteam-7",
    "jobs by metadata, rare": "/jobs/?q=customer%3Dc4711",
    "jobs by text": "/jobs/?q=bread",
    "job": "/jobs/{job}/",
    "usage": "/usage/",
    "usage by member, 90 days": "/usage/?range=90d&group=member",
    "batches": "/batches/",
    "playground": "/playground/",
    "models": "/models/",
    "model": "/models/{model}/",
    "keys": "/keys/",
    "billing": "/billing/",
    "movements": "/billing/movements/",
    "limits": "/billing/limits/",
    "members": "/settings/members/",
    "audit log": "/settings/audit/",
    "webhooks": "/settings/webhooks/",
    "organization": "/settings/organization/",
    "status": "/status/",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """Milliseconds and multiples of the empty view, at each size."""

    page: str
    p95_ms: list[float]
    multiple: list[float]
    queries: list[int]

    @property
    def ratio(self) -> float:
        return self.multiple[-1] / self.multiple[0]


def main() -> int:
    options = argparse.ArgumentParser(prog="make bench-pages", description=__doc__)
    options.add_argument("--rows", type=int, nargs=2, default=[10**4, 10**7], help="jobs at first, and then")
    options.add_argument("--turns", type=int, default=60, help="of each page at each size")
    options.add_argument("--only", default="", help="pages whose name holds this")
    options.add_argument("--json", type=Path, default=None, help="also write the result here")
    given = options.parse_args()
    directory = Path(tempfile.mkdtemp(prefix="cango-bench-"))
    directory.chmod(0o711)
    (directory / "static").mkdir()
    servers = Servers(directory)
    try:
        servers.start()
        os.environ |= servers.environment | {
            "PORTAL_VAR": str(directory), "DJANGO_SETTINGS_MODULE": "cango_portal.settings", "DEMO": "1",
            "LOG_LEVEL": "WARNING",
        }  # fmt: skip
        found = measured(given.rows, given.turns, given.only)
    finally:
        servers.stop()
        remove(directory)
    sys.stdout.write(table(found, given.rows))
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps([asdict(each) | {"ratio": each.ratio} for each in found], indent=1))
    return 1 if any(each.ratio > GOAL for each in found) else 0


def measured(rows: list[int], turns: int, only: str) -> list[Measured]:
    import django

    django.setup()
    from django.conf import settings
    from django.core.management import call_command

    settings.ROOT_URLCONF = "cango_portal.bench.pages_urls"
    settings.ALLOWED_HOSTS = ["testserver"]
    call_command("migrate", verbosity=0)
    call_command("seed", verbosity=0)
    names = [name for name, address in PAGES.items() if only in name and there(address)]
    sizes: list[dict[str, tuple[float, float, int]]] = []
    written = 0
    for count in rows:
        call_command("seed_jobs", rows=count - written, seed=count, verbosity=0)
        written = count
        settle()
        sizes.append(round_of(names, turns))
    return [
        Measured(
            name,
            [size[name][0] for size in sizes],
            [size[name][1] for size in sizes],
            [size[name][2] for size in sizes],
        )
        for name in names
    ]


def there(address: str) -> bool:
    """Whether the portal has this page yet."""
    from django.urls import Resolver404, resolve

    try:
        resolve(address.partition("?")[0].format(job="job_0", model="a/b", middle=""))
    except Resolver404:
        return False
    return True


def settle() -> None:
    """As a portal that had its time: hours summed, statistics taken, what the writing left cleared."""
    from django.db import connection

    from apps.jobs import tasks

    tasks.sum_hours()
    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)")
        cursor.execute("CHECKPOINT")


def round_of(names: list[str], turns: int) -> dict[str, tuple[float, float, int]]:
    """p95 in ms, the multiple of the empty view's, and the queries of one turn, by page."""
    from django.db import connection
    from django.test import Client
    from django.test.utils import CaptureQueriesContext

    from apps.accounts.models import Membership, Organization, User
    from apps.jobs.models import Job

    organization = Organization.objects.get(name="Sample history 1")
    user, _ = User.objects.get_or_create(email="bench@example.com")
    Membership.objects.get_or_create(organization=organization, user=user, defaults={"role": "owner"})
    client = Client(raise_request_exception=True)
    client.force_login(user)
    ids = Job.objects.filter(organization=organization, state="succeeded", kind="chat").order_by("-pk")
    job = ids.select_related("model")[0]
    words: dict[str, Any] = {
        "job": job.public_id, "model": job.model.name, "middle": f"{int(ids[200].pk):032x}",
    }  # fmt: skip
    addresses = {name: PAGES[name].format(**words) for name in names}
    queries = {}
    for name, address in addresses.items():
        ask(client, address)
        with CaptureQueriesContext(
            connection,
        ) as captured:
            ask(client, address)
        queries[name] = len(captured)
    took: dict[str, list[float]] = {name: [] for name in names}
    empty: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(turns):
        for name, address in addresses.items():
            empty[name].append(timed(lambda: ask(client, EMPTY)))
            took[name].append(timed(lambda address=address: ask(client, address)))  # type: ignore[misc]
    nothing = statistics.median(p95(each) for each in empty.values())
    return {name: (p95(took[name]), p95(took[name]) / nothing, queries[name]) for name in names}


def ask(client: Any, address: str) -> None:
    answer = client.get(address)
    assert answer.status_code == 200, (address, answer.status_code)


def timed(act: Callable[[], None]) -> float:
    began = time.perf_counter()
    act()
    return (time.perf_counter() - began) * 1000


def p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def table(found: list[Measured], rows: list[int]) -> str:
    few, many = (f"{count:,}" for count in rows)
    head = f"{'page':<28}{'queries':>9}{few:>14}{many:>14}{'ratio':>8}\n"
    lines = [
        f"{each.page:<28}{'/'.join(map(str, dict.fromkeys(each.queries))):>9}{each.multiple[0]:>13.1f}x{each.multiple[1]:>13.1f}x{each.ratio:>8.2f}\n"
        for each in found
    ]
    return f"p95 as a multiple of an empty view's\n{head}{''.join(lines)}Goal: a ratio below {GOAL}.\n"


if __name__ == "__main__":
    sys.exit(main())
