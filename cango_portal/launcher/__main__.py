"""python -m cango_portal.launcher run | stop | clean | manage … | demo | fleet | chromium | node | rabbitmq"""

import errno
import os
import sys
from importlib import import_module

from cango_portal.launcher.place import Place, Refused


def main(arguments: list[str]) -> int:
    command, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    place = Place.of(os.environ)
    if command == "run":
        from cango_portal.launcher.run import Run

        return Run(place).main()
    if command in {"demo", "fleet"}:
        done: int = import_module(f"cango_portal.launcher.{command}").main(place)
        return done
    if command in {"chromium", "node", "rabbitmq"}:  # what only tests need
        ensured: int = import_module(f"cango_portal.launcher.{command}").main()
        return ensured
    if command in {"manage", "stop", "clean"}:
        from cango_portal.launcher import management

        if command == "manage":
            return management.manage(place, rest)
        return management.stop(place) if command == "stop" else management.clean(place)
    sys.stderr.write(f"{__doc__}\n")
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except Refused as refusal:
        sys.stderr.write(f"{refusal}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        sys.stderr.write(f"{Place.of(os.environ).full()}\n")
        sys.exit(1)
