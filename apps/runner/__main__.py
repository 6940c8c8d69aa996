"""`cango-runner enroll | run | status | drain | doctor | models`: what a site's node runs. It needs neither Django nor a database."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apps.core import garbage
from apps.core.logging import JSONFormatter

if TYPE_CHECKING:
    from apps.runner.config import Configuration

CONFIG = Path("/etc/cango/runner.toml")
DESCRIPTION = (
    "Runs a node of a site: takes orders of its pools, computes them on its engines, and reports to the portal."
)
EPILOG = """A new machine: enroll it, write its file, `doctor`, `run`; staff then admit it.
docs/sites.md and docs/engines.md say what a node goes through and what the file holds."""
RUN = """SIGTERM: no more orders; attempts that run have 20 s to finish, the others are reported for another try.
A second SIGTERM ends at once. Logs are JSON lines on standard error, without prompts or answers."""
STATUS = """Asks the process that runs here, and nothing over the network.
Exit code: 0 it runs, the portal answers it and a pool is ready; 1 not so; 2 the file is bad or another user's."""
DRAIN = """The portal gives it no new work; requests that run are finished, shards of batches go on elsewhere.
Staff admit it again. Asked once more, it waits for the drain that is under way.
Exit code: 0 empty; 1 the portal refuses, or staff put it back to work; 2 the file is bad; 3 not empty after the deadline; 4 the portal is away."""
FORBIDDEN = ("django", "psycopg", "cango_portal")


def forbid() -> None:
    """Make them impossible to load in this process: some library always tries (kombu, for Django's lazy strings)."""
    for package in FORBIDDEN:
        sys.modules[package] = None  # type: ignore[assignment]


def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="cango-runner", description=DESCRIPTION, epilog=EPILOG, formatter_class=Plain)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, help: str, *, more: str = "", configured: bool = True) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help, description=f"{help}\n\n{more}".strip(), formatter_class=Plain)
        if configured:
            made.add_argument(
                "--config", type=Path, default=CONFIG, metavar="FILE", help=f"the runner's file; without it {CONFIG}"
            )
        return made

    enroll = command("enroll", "make this machine a node, once, with a token from the portal's staff", configured=False)
    enroll.add_argument("--portal", required=True, metavar="URL", help="such as https://portal.example.com")
    enroll.add_argument("--token", required=True, help="the one-time token that staff were shown: enrol_…")
    enroll.add_argument(
        "--into", type=Path, default=Path("identity.json"), metavar="FILE", help="where its key is kept"
    )
    command("run", "serve the pools of the configuration file until SIGTERM", more=RUN)
    told = command("status", "say what runs here: pools, slots, engines, last contact, spool, GPUs", more=STATUS)
    told.add_argument("--json", action="store_true", help="the same for programs")
    leave = command("drain", "take this machine out of work and wait until it is empty", more=DRAIN)
    leave.add_argument("--reason", required=True, type=reason, help="why, for staff and for the record")
    leave.add_argument(
        "--minutes", type=minutes, default=10.0, help="what still runs then is taken away; without it 10"
    )
    leave.add_argument("--no-wait", action="store_true", help="ask, and leave")
    command("doctor", "say in words what is wrong with this node and what to do: engines, GPUs, portal, Redis, broker")
    models = command("models", "make the demonstration's model files; what is there stays", configured=False)
    models.add_argument("--into", type=Path, required=True, metavar="DIRECTORY")
    return parser


class Plain(argparse.RawDescriptionHelpFormatter):
    """Descriptions as they are written."""


def reason(text: str) -> str:
    text = text.strip()
    if not 1 <= len(text) <= 160:
        raise argparse.ArgumentTypeError("a sentence of at most 160 characters")
    return text


def minutes(text: str) -> float:
    try:
        given = float(text)
    except ValueError:
        given = -1.0
    if not 0 <= given <= 24 * 60:
        raise argparse.ArgumentTypeError("a number of minutes from 0 to 1440")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    forbid()
    given = parser().parse_args(arguments)
    if given.command == "enroll":
        return enrol(given.portal, given.token, given.into)
    if given.command == "models":
        return make_models(given.into)
    from apps.runner import config

    try:
        return configured(given, config.load(given.config))
    except config.BadConfiguration as error:
        print(error, file=sys.stderr)
        return 2


def configured(given: argparse.Namespace, configuration: Configuration) -> int:
    """The commands that work with the file."""
    if given.command == "doctor":
        from apps.runner.doctor import examine

        return asyncio.run(examine(configuration))
    if given.command == "status":
        from apps.runner import status

        return status.show(configuration, as_json=given.json)
    if given.command == "drain":
        from apps.runner import leaving

        wish = leaving.drain(configuration, reason=given.reason, seconds=60 * given.minutes, wait=not given.no_wait)
        try:
            return asyncio.run(wish)
        except KeyboardInterrupt:
            print("The drain goes on without you; `cango-runner drain` waits for it again.", file=sys.stderr)
            return 130
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


def serve(configuration: Configuration) -> int:
    from apps.runner.identity import NotEnrolled, completed
    from apps.runner.process import Runner
    from apps.runner.reports import SpoolInUse

    handler = logging.StreamHandler()
    handler.setFormatter(JSONFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for name in ("httpx", "httpcore", "kombu"):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("celery").setLevel(logging.CRITICAL)  # it would print an order it cannot read

    garbage.settle()

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
