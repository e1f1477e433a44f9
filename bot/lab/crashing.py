"""Serves the very same bot with crash points armed: `python -m bot.lab.crashing P11[:nth] ... [--log FILE] -- --config FILE serve`.

For tests only: at the nth time the named point is reached the process kills itself with SIGKILL (reference/safety.md 3.2). With `--log`, every point
that is reached becomes a line of the file.
"""

from __future__ import annotations

import os
import signal
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from bot import crashpoints
from bot.cli import main
from bot.crashpoints import Point


class Listener:
    """Kills this process at the nth time that an armed point is reached. `armed` are `(point, nth)` pairs."""

    def __init__(self, armed: Iterable[tuple[Point, int]], log: Path | None = None) -> None:
        self._armed = frozenset(armed)
        self._log = log
        self._seen: Counter[Point] = Counter()

    def __call__(self, point: Point) -> None:
        self._seen[point] += 1
        if self._log is not None:
            with self._log.open("a") as file:
                file.write(f"{point}\n")
        if (point, self._seen[point]) in self._armed:
            os.kill(os.getpid(), signal.SIGKILL)


def armed_at(text: str) -> tuple[Point, int]:
    """Return the point and the count of `P11` or `P11:2`. Raises `ValueError` for a point that there is not."""
    name, _, nth = text.partition(":")
    return Point(name), int(nth or "1")


def run(arguments: list[str]) -> None:
    """Arm what stands before `--`, and run the command line that stands behind it."""
    border = arguments.index("--")
    armed = arguments[:border]
    log = None
    if "--log" in armed:
        place = armed.index("--log")
        log = Path(armed[place + 1])
        del armed[place : place + 2]
    crashpoints.listen(Listener([armed_at(text) for text in armed], log))
    sys.argv = ["natsmedic", *arguments[border + 1 :]]
    main()


if __name__ == "__main__":
    run(sys.argv[1:])
