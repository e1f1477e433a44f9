"""Times of people: change windows and the rota of a group. Both are written as wall clocks of a named time zone, so that they survive a change of the clocks."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta
from enum import StrEnum
from typing import Annotated, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, Field, NaiveDatetime, field_validator

from bot.settings.clusters import Name
from bot.settings.section import Section, problem, shown

MINUTES_OF_A_DAY: Final = 1_440
LONGEST_SHIFT: Final = 28
"""Days; whoever is on call for longer is a member of the group."""


def _known_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # a folder of the database, e.g. Europe, is an OSError
        raise problem(
            f"is {shown(value)}, which is no time zone",
            "a name of the IANA database such as Europe/Berlin, or UTC",
            "correct it",
        ) from None
    return value


Zone = Annotated[str, AfterValidator(_known_zone)]


class Day(StrEnum):
    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


class WindowSettings(Section):
    """When changes are allowed. `hours` that end before they begin go on into the next day."""

    days: Annotated[tuple[Day, ...], Field(min_length=1)] = tuple(Day)
    """The days on which the window opens."""
    hours: str = Field(
        default="00:00-24:00",
        json_schema_extra={"pattern": r"^\d\d:\d\d-\d\d:\d\d$"},
        description="HH:MM-HH:MM of the zone's wall clock; 24:00 is the end of the day",
    )
    zone: Zone

    @field_validator("hours", mode="after")
    @classmethod
    def _two_times(cls, value: str) -> str:
        found = re.fullmatch(r"(\d\d):(\d\d)-(\d\d):(\d\d)", value)
        numbers = [int(part) for part in found.groups()] if found else []
        opens, closes = (numbers[0] * 60 + numbers[1], numbers[2] * 60 + numbers[3]) if numbers else (-1, -1)
        whole_minutes = all(minute < 60 for minute in numbers[1::2])
        if not (whole_minutes and 0 <= opens < MINUTES_OF_A_DAY and 0 <= closes <= MINUTES_OF_A_DAY):
            raise problem(f"is {shown(value)}", "two times such as 09:00-17:00", "correct it")
        if opens == closes:
            raise problem(f"is {shown(value)}, which is no time at all", "two times that differ", "correct it")
        return value

    @property
    def opens(self) -> time:
        """The wall clock at which it opens."""
        return time(int(self.hours[0:2]), int(self.hours[3:5]))

    @property
    def lasts(self) -> timedelta:
        """How far the wall clock goes until it closes: more than nothing, at most a day."""
        opens = int(self.hours[0:2]) * 60 + int(self.hours[3:5])
        closes = int(self.hours[6:8]) * 60 + int(self.hours[9:11])
        return timedelta(minutes=closes - opens if closes > opens else closes - opens + MINUTES_OF_A_DAY)

    def __str__(self) -> str:
        days = "every day" if set(self.days) == set(Day) else ", ".join(self.days)
        return f"{days} {self.hours} {self.zone}"


class RotaSettings(Section):
    """Persons who are a group in turn: the first for `days` from `first` on, then the next, and round again."""

    persons: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Keys of policy.persons; one may stand here twice."""
    first: NaiveDatetime
    """Wall clock of the zone at which the first shift begins, e.g. 2026-01-05 09:00."""
    days: Annotated[int, Field(ge=1, le=LONGEST_SHIFT)] = 7
    zone: Zone

    def on_call(self, now: datetime) -> str | None:
        """Return whose shift it is; nobody's before the first. Shifts change at the same wall clock, whatever the clocks do."""
        passed = now.astimezone(ZoneInfo(self.zone)).replace(tzinfo=None) - self.first
        shift = passed // timedelta(days=self.days)
        return self.persons[shift % len(self.persons)] if shift >= 0 else None
