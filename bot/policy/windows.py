"""Change windows: whether one is open, and when the next one opens."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from bot.settings import Day, WindowSettings

WEEK: Final = timedelta(days=7)
DAYS: Final = tuple(Day)
"""In the order of `datetime.weekday`."""


def opens_at(windows: Sequence[WindowSettings], now: datetime) -> datetime | None:
    """Return when the next window opens (UTC), None while one is open or where there are none at all."""
    spans = [span for window in windows for span in _spans(window, now)]
    if not windows or any(begins <= now < ends for begins, ends in spans):
        return None
    return min(begins for begins, _ in spans if begins > now)


def _spans(window: WindowSettings, now: datetime) -> Iterator[tuple[datetime, datetime]]:
    """Yield begin and end (UTC) of a window, from the one that began yesterday to the one in a week and a day.

    Both ends are wall clocks of the zone. One that a change of the clocks leaves out counts as if the clocks had not changed yet; one that comes twice
    counts the first time.
    """
    zone = ZoneInfo(window.zone)
    today = now.astimezone(zone).date()
    for offset in range(-1, WEEK.days + 2):
        day = today + timedelta(days=offset)
        if DAYS[day.weekday()] in window.days:
            wall = datetime.combine(day, window.opens)
            yield wall.replace(tzinfo=zone).astimezone(UTC), (wall + window.lasts).replace(tzinfo=zone).astimezone(UTC)
