"""`python -m apps.runner.engines.under COMMAND …` becomes that command, which dies with the runner that started it."""

from __future__ import annotations

import os
import sys

from apps.runner.engines.parent import die_with_parent


def main() -> None:
    die_with_parent()
    try:
        os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - the command is the operator's own
    except OSError as error:
        print(f"{sys.argv[1]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)


if __name__ == "__main__":
    main()
