"""The named places at which a test may end the process with SIGKILL (reference/safety.md 3.2). In production nobody listens, so nothing happens there.

Production code only calls `reached`; who listens is the matter of `bot.lab.crashing`, which starts the same bot.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class Point(StrEnum):
    """All of them, in the order in which an alert that ends in a repair passes them."""

    P00 = "P00"
    """Bytes of a delivery read, not parsed."""
    P01 = "P01"
    """The sender is authenticated, the delivery not yet committed."""
    P02 = "P02"
    """The delivery is committed, no 2xx was sent."""
    P03 = "P03"
    """2xx was sent, Slack knows nothing of it."""
    P04 = "P04"
    """A message is posted, its `ts` not stored."""
    P05 = "P05"
    """Inside a diagnosis."""
    P06 = "P06"
    """A proposal is stored and not posted."""
    P07 = "P07"
    """A click was received, the approval is not committed."""
    P08 = "P08"
    """The approval is committed, Slack has no acknowledgement."""
    P09 = "P09"
    """The approvals suffice, the execution has not the cluster's lock yet."""
    P10 = "P10"
    """The lock is taken, nothing was looked at again."""
    P11 = "P11"
    """The intent is committed with its audit entry, nothing was sent."""
    P12 = "P12"
    """The request was sent, its answer not seen."""
    P13 = "P13"
    """The answer was seen, the outcome is not committed."""
    P14 = "P14"
    """Between two stages of one proposal."""
    P15 = "P15"
    """Inside a verification."""
    P16 = "P16"
    """The end is committed, the thread does not show it."""


_listener: Callable[[Point], None] | None = None


def listen(listener: Callable[[Point], None] | None) -> None:
    """Call `listener` at every point from now on; None for nobody."""
    global _listener  # noqa: PLW0603 - one process, one listener; handing it through every layer would put tests into signatures
    _listener = listener


def reached(point: Point) -> None:
    """Say that a crash point is reached."""
    if _listener is not None:
        _listener(point)
