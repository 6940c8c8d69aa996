"""The rows of a simulated fleet: what `make fleet` asks of the portal. `--table` shows what ran where."""

import json
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from apps.portal import fleet, seeding
from apps.sites.burning_in import NotTested

COLUMNS = {
    "node": "node", "site": "site", "usd_per_mwh": "USD/MWh", "gco2e_per_kwh": "g/kWh", "slots": "slots", "ready": "ready",
    "power_w": "W", "jobs": "jobs", "energy_wh": "Wh", "partner": "partner",
}  # fmt: skip


class Command(BaseCommand):
    help = "Write, admit or show the nodes of a simulated fleet"
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        what = parser.add_mutually_exclusive_group(required=True)
        what.add_argument(
            "--write", type=Path, metavar="FILE", help="write the rows; the nodes with their tokens go to FILE"
        )
        what.add_argument(
            "--admit",
            action="store_true",
            help="nodes that passed their burn-in get work; says how many are being tested",
        )
        what.add_argument("--leave", action="store_true", help="the fleet's model is not offered any more")
        what.add_argument("--table", action="store_true", help="each node with its power, jobs and energy")
        parser.add_argument("--nodes", type=int, default=20)
        parser.add_argument("--seed", type=int, default=1)
        parser.add_argument("--json", action="store_true", help="the table as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEMO:
            raise CommandError("This portal is not a demo (DEMO=0), so no simulated fleet joins it.")
        if options["write"]:
            made = fleet.write(options["nodes"], options["seed"])
            nodes = [{**asdict(node), "token": token} for node, token in made]
            seeding.write_private(options["write"], json.dumps(nodes, indent=2))
        elif options["admit"]:
            try:
                self.stdout.write(str(fleet.admit()))
            except NotTested as refusal:
                raise CommandError(refusal.message) from refusal
        elif options["leave"]:
            fleet.leave()
        elif options["json"]:
            self.stdout.write(json.dumps(fleet.table()))
        else:
            self.stdout.write(as_text(fleet.table()))


def as_text(rows: list[dict[str, Any]]) -> str:
    cells = [list(COLUMNS.values())] + [[said(row[name]) for name in COLUMNS] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(COLUMNS))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join(lines)


def said(value: object) -> str:
    """`–` where there is no reading."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
