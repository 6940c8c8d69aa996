"""manage.py reconcile: ledger, jobs and Stripe compared, without a lock."""

import json
from datetime import UTC, datetime
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.operations import reconciling
from apps.operations.models import Reconciliation

COLUMNS = ("part", "check", "subject", "expected", "found")


class Command(BaseCommand):
    help = "Compare ledger, jobs and Stripe on one snapshot, without a lock. Exits 1 on any difference and keeps the report."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")
        parser.add_argument(
            "--since",
            metavar="DATE",
            help="jobs and payments from this UTC day on (2026-11-01); the ledger always whole",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        row = reconciling.run(since=day(options["since"]) if options["since"] else None)
        if options["json"]:
            self.stdout.write(json.dumps({**about(row), **row.report}, indent=2))
        else:
            self.stdout.write(table(row))
        if row.differences:
            raise SystemExit(1)


def day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise CommandError(f"--since takes a day such as 2026-11-01, not {text}") from None


def about(row: Reconciliation) -> dict[str, Any]:
    return {"id": row.pk, "at": row.started_at.isoformat(), "since": row.since.isoformat() if row.since else None}


def table(row: Reconciliation) -> str:
    """What differs, what is in flight, what overran, and how much was looked at."""
    report = row.report
    lines: list[str] = []
    for title, kind in (("Differences", "items"), ("In flight", "pending_items"), ("Overruns", "overrun_items")):
        if report[kind]:
            lines += [title, *columns(report[kind]), ""]
    lines += [f"{name.replace('_', ' '):<22}{count:>16,}" for name, count in report["checked"].items()]
    lines += [
        f"{name.replace('_', ' '):<22}{amount / 1_000_000:>16,.6f} USD"
        for name, amount in report["totals_microusd"].items()
    ]
    lines.append(
        f"{report['differences']} differences, {report['pending']} in flight, {report['overruns']} overruns "
        f"of {report['overrun_microusd'] / 1_000_000:,.6f} USD"
    )
    return "\n".join(lines)


def columns(items: list[dict[str, str]]) -> list[str]:
    rows = [COLUMNS, *([item[name] for name in COLUMNS] for item in items)]
    widths = [max(len(row[place]) for row in rows) for place in range(len(COLUMNS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
