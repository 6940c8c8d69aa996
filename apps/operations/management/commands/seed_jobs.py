"""manage.py seed_jobs: made-up history, to see pages and plans at size."""

import time
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection

from apps.operations import history


class Command(BaseCommand):
    help = (
        "Fill the history of customers named “Sample history …” with made-up jobs, their holds and their lines in the journal; "
        "reconcile and audit_ledger find them right. Only with DEMO=1: it cannot be taken back."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--rows", type=int, required=True, help="jobs to write")
        parser.add_argument("--organizations", type=int, default=8, help="customers they are of; the first has half")
        parser.add_argument("--days", type=int, default=90, help="they ended within so many days")
        parser.add_argument("--seed", type=int, default=1, help="another one, other figures")
        parser.add_argument(
            "--booked",
            type=int,
            help="only so many of the newest are in the ledger: the checks then find the others missing",
        )

    def handle(
        self, *args: Any, rows: int, organizations: int, days: int, seed: int, booked: int | None, **options: Any
    ) -> None:
        if not settings.DEMO:
            raise CommandError("This portal has DEMO=0: made-up history would be in its books for ever.")
        if rows < 1 or not 1 <= organizations <= 50 or days < 1:
            raise CommandError("At least one row and one day, and 1 to 50 organizations.")
        began = time.monotonic()
        try:
            for written in history.fill(rows=rows, organizations=organizations, days=days, seed=seed, booked=booked):
                self.stdout.write(f"{written:>12,} jobs, {written / (time.monotonic() - began):,.0f} a second")
        except history.NothingOffered:
            raise CommandError("No model is on offer. Run “manage.py seed” first.") from None
        with connection.cursor() as cursor:
            for table in ("jobs_job", "ledger_hold", "ledger_transfer"):
                cursor.execute(f"ANALYZE {table}")
