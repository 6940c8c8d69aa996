"""`make manage`, `make stop` and `make clean`: what is done to a portal that may or may not be running."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

from cango_portal.launcher.place import ROOT, Place, Refused, Turn
from cango_portal.launcher.run import environment_of, say, with_environment
from cango_portal.launcher.servers import Servers, elsewhere

STOP_SECONDS = 60


def manage(place: Place, arguments: list[str]) -> int:
    """Run a management command against the running portal's servers, or against servers started for it alone."""
    command = [sys.executable, "manage.py", *arguments]
    turn = Turn(place)
    if turn.holder() is not None and place.environment.exists():
        environment = with_environment(json.loads(place.environment.read_text()))
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    place.prepare()
    turn.take(command="manage")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    servers = Servers(place.var)
    try:
        servers.start()
        environment = with_environment(environment_of(place, servers))
        return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
    finally:
        servers.stop()
        turn.give()


def stop(place: Place) -> int:
    turn = Turn(place)
    holder = turn.holder()
    if holder is None:
        say(f"No portal runs with its data in {place.var}.")
        return 0
    if "address" not in holder:
        raise Refused(turn.held())
    try:
        os.kill(holder["pid"], signal.SIGTERM)
    except ProcessLookupError:
        pass
    except PermissionError:
        raise Refused(f"Process {holder['pid']} belongs to another user; stop it as that user.") from None
    deadline = time.monotonic() + STOP_SECONDS
    while turn.holder() is not None:
        if time.monotonic() > deadline:
            raise Refused(f"Process {holder['pid']} did not end within {STOP_SECONDS} s; see {place.logs}.")
        time.sleep(0.1)
    say(f"The portal at {holder['address']} was stopped. Its data stays in {place.var}")
    return 0


def clean(place: Place) -> int:
    """Remove all data, after a yes."""
    turn = Turn(place)
    if not place.var.exists():
        say(f"There is nothing to remove: {place.var} does not exist.")
        return 0
    if not turn.path.exists():
        raise Refused(f"{place.var} does not look like a portal's directory, so nothing was removed.")
    if turn.holder() is not None:
        raise Refused(turn.held())
    moved = elsewhere(place.var)
    try:
        answer = input(f"Remove {place.var} with its database, keys, files and mails? Type yes: ")
    except EOFError:
        answer = ""
    if answer.strip().lower() != "yes":
        say("Nothing was removed.")
        return 0
    shutil.rmtree(place.var)
    if moved.exists() and moved.lstat().st_uid == os.geteuid():
        shutil.rmtree(moved)
    say(f"{place.var} is gone; the next make run starts from nothing.")
    return 0
