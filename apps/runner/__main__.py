"""`cango-runner enroll | run | models | doctor`: what a site's node runs. It needs neither Django nor a database."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from apps.core.logging import JSONFormatter

FORBIDDEN = ("django", "psycopg", "cango_portal")


def forbid() -> None:
    """Make them impossible to load in this process: some library always tries (kombu, for Django's lazy strings)."""
    for package in FORBIDDEN:
        sys.modules[package] = None  # type: ignore[assignment]


def main() -> int:
    forbid()
    parser = argparse.ArgumentParser(prog="cango-runner", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="serve the pools of a configuration file until SIGTERM")
    run.add_argument("--config", type=Path, required=True)
    models = commands.add_parser("models", help="make the demonstration's model files; what is there stays")
    models.add_argument("--into", type=Path, required=True)
    doctor = commands.add_parser("doctor", help="say what this node sees: engines, GPUs, portal, Redis, broker")
    doctor.add_argument("--config", type=Path, required=True)
    enroll = commands.add_parser("enroll", help="make this machine a node, once, with a token from the portal's staff")
    enroll.add_argument("--portal", required=True, metavar="URL")
    enroll.add_argument("--token", required=True)
    enroll.add_argument("--into", type=Path, default=Path("identity.json"), help="where its key is kept")
    given = parser.parse_args()
    if given.command == "enroll":
        return enrol(given.portal, given.token, given.into)
    if given.command == "models":
        return make_models(given.into)
    from apps.runner import config

    try:
        configuration = config.load(given.config)
    except config.BadConfiguration as error:
        print(error, file=sys.stderr)
        return 2
    if given.command == "doctor":
        from apps.runner.doctor import examine

        return asyncio.run(examine(configuration))
    return serve(configuration)


def make_models(directory: Path) -> int:
    from apps.runner import models

    try:
        made = models.make(directory)
    except (models.CannotMake, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    for name, new in made.items():
        print(f"{directory / name}: {'made' if new else 'there already'}")
    return 0


def enrol(portal_url: str, token: str, into: Path) -> int:
    from apps.runner import identity

    try:
        node = asyncio.run(identity.enroll(portal_url=portal_url, token=token, into=into))
    except (identity.NotEnrolled, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"This machine is {node.node} at {node.site}; its key is in {into}.")
    if node.reason:
        print(f"It is quarantined: {node.reason}. The portal's staff must look at it.", file=sys.stderr)
        return 3
    print(f'Next: name `identity = "{into}"` in runner.toml, start `cango-runner run`, and have the node admitted.')
    return 0


def run(work: Coroutine[Any, Any, None]) -> None:
    """On uvloop where it is installed: a stream is many small writes."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


def serve(configuration: object) -> int:
    from apps.runner.config import Configuration
    from apps.runner.identity import NotEnrolled, completed
    from apps.runner.process import Runner
    from apps.runner.reports import SpoolInUse

    assert isinstance(configuration, Configuration)
    handler = logging.StreamHandler()
    handler.setFormatter(JSONFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for name in ("httpx", "httpcore", "kombu"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("celery").setLevel(logging.CRITICAL)  # it would print an order it cannot read

    async def work() -> None:
        await Runner(await completed(configuration)).run()

    try:
        run(work())
    except (SpoolInUse, NotEnrolled) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def command() -> None:
    """The console script `cango-runner`."""
    sys.exit(main())


if __name__ == "__main__":
    command()
