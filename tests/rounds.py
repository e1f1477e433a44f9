"""Looking again without a reason: for tests of what later rounds hold."""

from collections.abc import Callable

from bot.model import TRENDS, Again, Snapshot


def always(rounds: int, interval: float = 0.0) -> Callable[[Snapshot], Again]:
    """Ask for so many rounds of everything that moves, whatever the first one shows."""
    return lambda _: Again(TRENDS, rounds, interval)
