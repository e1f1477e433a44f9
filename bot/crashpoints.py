"""Named places at which a test kills the process with SIGKILL (reference/safety.md 3.2). Nothing is armed unless a test arms it.

Production code only calls `reached`; arming is done by `bot.lab.crashing`, which starts the same bot.
"""

from __future__ import annotations

import os
import signal

_armed: dict[str, int] = {}


def arm(name: str, nth: int = 1) -> None:
    """Kill this process the nth time the named point is reached."""
    _armed[name] = nth


def reached(name: str) -> None:
    """Say that a crash point is reached."""
    if name in _armed:
        _armed[name] -= 1
        if _armed[name] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
