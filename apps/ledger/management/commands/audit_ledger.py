"""manage.py audit_ledger: every invariant of the ledger on the live database, without locking it."""

import json
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from apps.ledger import auditing
from apps.ledger.models import Account, Hold, Transfer

SHOWN = 100


class Command(BaseCommand):
    help = "Check every invariant of the ledger on one snapshot, without a lock. Exits 1 where one does not hold."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    def handle(self, *args: Any, **options: Any) -> None:
        found = list(auditing.audit())
        counts = {
            "accounts": Account.objects.count(),
            "holds": Hold.objects.count(),
            "transfers": Transfer.objects.count(),
        }
        if options["json"]:
            report = {"violations": len(found), **counts, "items": [asdict(finding) for finding in found[:SHOWN]]}
            self.stdout.write(json.dumps(report, indent=2))
        else:
            for finding in found[:SHOWN]:
                self.stdout.write(
                    f"{finding.check}: {finding.subject} of {finding.organization_id or 'the database'}: "
                    f"expected {finding.expected}, found {finding.found} ({finding.says})"
                )
            checks = len(auditing.CHECKS) + 1
            checked = ", ".join(f"{count:,} {name}" for name, count in counts.items())
            self.stdout.write(f"{checks} invariants over {checked}: {len(found)} violations")
        if found:
            raise SystemExit(1)
