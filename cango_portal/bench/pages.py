"""make bench-pages: what each page costs, as a multiple of an empty view, with a little history and with much.

Each page is asked through Django as its web process answers it, with session, middleware and templates, by a member of the customer
that has half of the made-up history (`manage.py seed_jobs`). The empty view goes through the same middleware for the same member.
Each size has its own database and its own process; the turns of both sizes, of pages and of the empty view alternate, so that a busy
machine slows all alike. p95 counts: a page whose work grows with the history shows. What the page's process or its server was ready to
run and waited for a processor is left out, as Linux counts it (`/proc/<pid>/schedstat`): that is other work's time. Beside it stand the
processor time of both and the size of the page, for a page that shows more rows at one size than at the other is not the same page.

Ten million jobs take a while and 10 GB: `--directory` keeps them for the next run.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psycopg

from cango_portal.bench import indexes
from cango_portal.launcher.servers import Servers, remove

GOAL = 1.5
BOOKED = 10**6  # the newest jobs, that are in the journal too: a hold and two or three lines each
EMPTY = "/bench/empty/"
PAGES = {
    "overview": "/dashboard/",
    "overview of 30 days": "/dashboard/?range=30d",
    "jobs": "/jobs/",
    "jobs, an older page": "/jobs/?before={middle}",
    "jobs that failed": "/jobs/?state=failed",
    "jobs of a model": "/jobs/?model={model}",
    "jobs by id": "/jobs/?q={job}",
    "jobs by metadata, common": "/jobs/?q=team%3Dteam-7",
    "jobs by metadata, a run": "/jobs/?q=run%3D{run}",
    "jobs by metadata, none": "/jobs/?q=customer%3Dnobody",
    "jobs by text": "/jobs/?q=bread",
    "job": "/jobs/{job}/",
    "usage": "/usage/",
    "usage by member, 90 days": "/usage/?range=90d&group=member",
    "usage by key, a year": "/usage/?range=365d&group=key",
    "batches": "/batches/",
    "playground": "/playground/",
    "models": "/models/",
    "model": "/models/{model}/",
    "keys": "/keys/",
    "billing": "/billing/",
    "movements": "/billing/movements/",
    "invoices": "/billing/invoices/",
    "limits": "/billing/limits/",
    "members": "/settings/members/",
    "audit log": "/settings/audit/",
    "webhooks": "/settings/webhooks/",
    "organization": "/settings/organization/",
    "status": "/status/",
}


@dataclass(frozen=True, slots=True)
class Measured:
    """At each size: milliseconds, multiples of the empty view, milliseconds of processor time, queries, kilobytes of the page."""

    page: str
    p95_ms: list[float]
    multiple: list[float]
    cpu_ms: list[float]
    queries: list[int]
    kb: list[float]

    @property
    def ratio(self) -> float:
        return self.multiple[-1] / self.multiple[0]


def main() -> int:
    options = argparse.ArgumentParser(prog="make bench-pages", description=__doc__)
    options.add_argument("--rows", type=int, nargs=2, default=[10**4, 10**7], help="jobs at first, and then")
    options.add_argument("--turns", type=int, default=60, help="of each page at each size")
    options.add_argument("--only", default="", help="pages whose name holds this")
    options.add_argument("--directory", type=Path, default=None, help="keep the history here, and take what is there")
    options.add_argument("--json", type=Path, default=None, help="also write the result here")
    given = options.parse_args()
    with directory_of(given.directory) as directory:
        servers = Servers(directory, durable=False)
        try:
            servers.start()
            found, waited = measured(servers, given.rows, given.turns, given.only)
        finally:
            servers.stop()
    sys.stdout.write(table(found, given.rows))
    sys.stdout.write(f"{waited:.0%} of the time was waiting for a processor, which is left out.\n")
    if given.json:
        given.json.parent.mkdir(parents=True, exist_ok=True)
        given.json.write_text(json.dumps([asdict(each) | {"ratio": each.ratio} for each in found], indent=1))
    return 1 if any(each.ratio > GOAL for each in found) else 0


@contextmanager
def directory_of(kept: Path | None) -> Iterator[Path]:
    directory = kept or Path(tempfile.mkdtemp(prefix="cango-bench-"))
    directory.mkdir(parents=True, exist_ok=True)
    directory.chmod(0o711)
    (directory / "static").mkdir(exist_ok=True)
    try:
        yield directory
    finally:
        if kept is None:
            remove(directory)


def measured(servers: Servers, rows: list[int], turns: int, only: str) -> tuple[list[Measured], float]:
    """And which part of the time went into waiting for a processor."""
    sides = [Side(servers, count, number) for number, count in enumerate(rows)]
    try:
        names, _ = (side.call("prepare", only) for side in sides)
        for _ in range(turns):
            for name in names:
                for side in sides:
                    side.call("turn", name)
        results = [side.call("result") for side in sides]
        waited, passed = (sum(each) for each in zip(*(side.call("waiting") for side in sides), strict=True))
    finally:
        for side in sides:
            side.close()
    found = [Measured(name, *([result[name][place] for result in results] for place in range(5))) for name in names]
    return found, waited / passed


class Side:
    """A size's database and the process that asks its pages."""

    def __init__(self, servers: Servers, rows: int, number: int) -> None:
        name = f"jobs_{rows}"
        self.environment = {
            "DATABASE_URL": f"postgresql://postgres@/{name}?host={servers.cluster}",
            "REDIS_URL": f"{servers.redis_url}?db={number + 1}", "PORTAL_VAR": str(servers.directory),
            "DJANGO_SETTINGS_MODULE": "cango_portal.settings", "DEMO": "1", "LOG_LEVEL": "WARNING",
            "DATABASE_CONNECTIONS": "1",  # the one whose server is measured
        }  # fmt: skip
        with psycopg.connect(servers.database_url, autocommit=True) as connection:
            there = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchone()
            if not there:
                connection.execute("DROP DATABASE IF EXISTS part")
                connection.execute("CREATE DATABASE part")
                self.seed(rows)
                connection.execute(f"ALTER DATABASE part RENAME TO {name}")
        self.start(self.environment)

    def seed(self, rows: int) -> None:
        """In a process of its own, so that no connection is left; what was interrupted is begun again."""
        self.start(
            {**self.environment, "DATABASE_URL": self.environment["DATABASE_URL"].replace(f"/jobs_{rows}?", "/part?")}
        )
        self.call("seed", rows)
        self.close()

    def start(self, environment: dict[str, str]) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, end = context.Pipe()
        self.process = context.Process(target=serve, args=(end, environment), daemon=True)
        self.process.start()
        end.close()

    def call(self, method: str, *given: Any) -> Any:
        self.pipe.send((method, given))
        answer = self.pipe.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.pipe.close()
        self.process.join()


def serve(pipe: Connection, environment: dict[str, str]) -> None:
    """What a side's process does: one call after the other, until nobody asks any more."""
    os.environ |= environment
    import django

    django.setup()
    pages = Pages()
    while True:
        try:
            method, given = pipe.recv()
        except EOFError:
            return
        try:
            pipe.send(getattr(pages, method)(*given))
        except Exception as failure:  # the other process raises it
            pipe.send(RuntimeError(f"{method}: {failure!r}"))


class Pages:
    """The pages of one database, asked in this process."""

    def seed(self, rows: int) -> None:
        """As a portal that had its time: hours summed, statistics taken, what the writing left cleared."""
        from django.core.management import call_command
        from django.db import connection

        from apps.jobs import tasks
        from apps.ledger import tasks as ledger

        call_command("migrate", verbosity=0)
        call_command("seed", verbosity=0)
        with connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")  # no foreign key is looked up
            with indexes.later(cursor, "jobs_job", "ledger_hold", "ledger_transfer"):
                call_command("seed_jobs", rows=rows, booked=BOOKED)
            cursor.execute("RESET session_replication_role")
            tasks.sum_hours()
            ledger.sum_charges()
            cursor.execute("VACUUM (ANALYZE)")
            cursor.execute("CHECKPOINT")

    def prepare(self, only: str) -> list[str]:
        """The pages that there are, after each was asked twice; the second time counts its queries."""
        from django.conf import settings
        from django.core.management import call_command
        from django.db import connection
        from django.test import Client
        from django.test.utils import CaptureQueriesContext

        from apps.accounts.models import Membership, Organization, User
        from apps.jobs import tasks
        from apps.jobs.models import Job
        from apps.ledger import tasks as ledger

        call_command("migrate", verbosity=0)  # history that was kept may be of older code
        tasks.sum_hours()
        ledger.sum_charges()
        settings.ROOT_URLCONF = "cango_portal.bench.pages_urls"
        settings.ALLOWED_HOSTS = ["testserver"]
        organization = Organization.objects.get(name="Sample history 1")
        user, _ = User.objects.get_or_create(email="bench@example.com")
        Membership.objects.get_or_create(organization=organization, user=user, defaults={"role": "owner"})
        self.client = Client(raise_request_exception=True)
        self.client.force_login(user)
        ids = Job.objects.filter(organization=organization, state="succeeded", kind="chat").order_by("-pk")
        job = ids.select_related("model")[0]
        run = ids.filter(metadata__has_key="run")[500].metadata["run"]
        words = {"job": job.public_id, "model": job.model.name, "middle": f"{int(ids[200].pk):032x}", "run": run}
        self.addresses = {name: address.format(**words) for name, address in PAGES.items() if only in name}
        self.queries, self.kb = {}, {}
        for name, address in self.addresses.items():
            self.ask(address)
            with CaptureQueriesContext(connection) as captured:
                self.kb[name] = self.ask(address) / 1000
            self.queries[name] = len(captured)
        self.took: dict[str, list[float]] = {name: [] for name in self.addresses}
        self.empty: dict[str, list[float]] = {name: [] for name in self.addresses}
        self.cpu = dict.fromkeys(self.addresses, 0.0)
        self.passed = self.waited = 0.0
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            self.server = cursor.fetchone()[0]
        return list(self.addresses)

    def turn(self, name: str) -> None:
        taken, _ = self.timed(EMPTY)
        self.empty[name].append(taken)
        taken, used = self.timed(self.addresses[name])
        self.took[name].append(taken)
        self.cpu[name] += used

    def timed(self, address: str) -> tuple[float, float]:
        """Milliseconds without those spent in waiting for a processor, and those of processor time."""
        began, used, waited = time.perf_counter(), *self.processor()
        self.ask(address)
        passed, used, waited = (
            (after - before) * 1000
            for after, before in zip((time.perf_counter(), *self.processor()), (began, used, waited), strict=True)
        )
        self.passed, self.waited = self.passed + passed, self.waited + waited
        return passed - waited, used

    def processor(self) -> tuple[float, float]:
        """Seconds that this process and its server used so far, and waited for their turn. They wait in turn, never at once."""
        own, server = (
            [int(field) / 1e9 for field in Path(f"/proc/{pid}/schedstat").read_text().split()[:2]]
            for pid in ("self", self.server)
        )
        return time.process_time() + server[0], own[1] + server[1]

    def ask(self, address: str) -> int:
        answer = self.client.get(address)
        assert answer.status_code == 200, (address, answer.status_code)
        return len(answer.content)

    def waiting(self) -> tuple[float, float]:
        """Milliseconds of waiting for a processor, and of all turns."""
        return self.waited, self.passed

    def result(self) -> dict[str, tuple[float, float, float, int, float]]:
        """p95 in ms, its multiple of the empty view's, processor time in ms, queries and kilobytes of one turn, by page."""
        nothing = p95([each for times in self.empty.values() for each in times])
        return {
            name: (p95(took), p95(took) / nothing, self.cpu[name] / len(took), self.queries[name], self.kb[name])
            for name, took in self.took.items()
        }


def p95(times: list[float]) -> float:
    return statistics.quantiles(times, n=20)[-1]


def table(found: list[Measured], rows: list[int]) -> str:
    few, many = (f"{count:,}" for count in rows)
    lines = [f"{'':<28}{'':>9}{'p95, × an empty view':>28}{'':>8}{'processor, ms a page':>24}{'':>8}{'kB':>12}"]
    lines += [f"{'page':<28}{'queries':>9}{few:>14}{many:>14}{'ratio':>8}{few:>12}{many:>12}{'ratio':>8}"]
    lines += [
        f"{each.page:<28}{'/'.join(map(str, dict.fromkeys(each.queries))):>9}{each.multiple[0]:>13.1f}x{each.multiple[1]:>13.1f}x"
        f"{each.ratio:>8.2f}{each.cpu_ms[0]:>12.1f}{each.cpu_ms[1]:>12.1f}{each.cpu_ms[1] / each.cpu_ms[0]:>8.2f}"
        f"{f'{each.kb[0]:.0f}/{each.kb[1]:.0f}':>12}"
        for each in found
    ]
    return "\n".join([*lines, f"Goal: a ratio of p95 below {GOAL}.", ""])


if __name__ == "__main__":
    sys.exit(main())
