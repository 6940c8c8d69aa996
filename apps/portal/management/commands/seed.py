"""Write the demo's data; what is there stays as it is."""

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from apps.portal import seeding


class Command(BaseCommand):
    help = "Write the demo's people, credit, key, models, prices, site and pools; then demo.json and runner.toml"
    requires_system_checks = []  # they read every page's code; the pages themselves do that a moment later

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--migrate", action="store_true", help="bring the database up to date first")
        parser.add_argument("--migrated", type=Path, help="a file to make once the database is up to date")
        parser.add_argument("--quiet", action="store_true", help="print nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.DEMO:
            raise CommandError("This portal is not a demo (DEMO=0), so no sample data is written.")
        if options["migrate"]:
            call_command("migrate", interactive=False, verbosity=0)
        if options["migrated"]:
            options["migrated"].touch()
        engine = None
        if settings.ENGINE_URL:
            try:
                engine = seeding.ask(settings.ENGINE_URL, settings.ENGINE_KEY)
            except seeding.EngineAway as error:
                self.stderr.write(f"The engine was left out: {error}.")
        demo = seeding.seed(engine=engine)
        if not options["quiet"]:
            self.stdout.write(
                f"The demo is in place: {demo['email']}, {demo['organization']}, {settings.VAR / 'demo.json'}"
            )
