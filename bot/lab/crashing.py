"""Serves the very same bot with crash points armed: `python -m bot.lab.crashing P11[:nth] -- --config FILE serve`.

For tests only: at the nth time the named point is reached the process kills itself with SIGKILL (reference/safety.md 3.2).
"""

from __future__ import annotations

import sys

from bot import crashpoints
from bot.cli import main


def run(arguments: list[str]) -> None:
    """Arm what stands before `--`, and run the command line that stands behind it."""
    border = arguments.index("--")
    for point in arguments[:border]:
        name, _, nth = point.partition(":")
        crashpoints.arm(name, int(nth or "1"))
    sys.argv = ["natsmedic", *arguments[border + 1 :]]
    main()


if __name__ == "__main__":
    run(sys.argv[1:])
