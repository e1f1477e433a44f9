"""A value of a proposal that a person may want otherwise: what it is called, what it is now, and between which bounds it may be. Pure data."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final

from bot.model.base import Json, Record
from bot.model.nats_conf.section import seconds_of

TEXT_LIMIT: Final = 40
"""Characters of a typed value that are looked at; the longest of ours, a duration with three units, has 12."""


class Measure(StrEnum):
    """How a value is written, and so how it is compared with its bounds."""

    NUMBER = "a number"
    WHOLE = "a whole number"
    DURATION = "a duration such as 90s or 24h"

    def amount(self, text: str) -> float | None:
        """Return what `text` means in the base unit; None where it is not written so."""
        found = _READERS[self](text) if text.isascii() and len(text) <= TEXT_LIMIT else None
        return found if found is not None and math.isfinite(found) else None

    def typed(self, text: str) -> Json:
        """Return `text` as an action's parameters hold it: numbers as numbers, everything with a unit as it is written."""
        if self is Measure.WHOLE:
            return int(text)
        return float(text) if self is Measure.NUMBER else text


class Tunable(Record):
    """One value. The texts are written as `measure` says."""

    name: str
    """The field of the action's parameters; stages of one proposal that share it get the same value."""
    title: str
    measure: Measure
    unit: str = ""
    """What a bare number counts, e.g. `clients a second`."""
    value: str
    least: str
    most: str

    @property
    def bounds(self) -> str:
        """What is expected, for people."""
        return " ".join(filter(None, (f"{self.measure}, from {self.least} to {self.most}", self.unit)))

    def problem(self, text: str) -> str:
        """Return what is wrong with a typed value: seen, expected; empty where nothing is."""
        amount, least, most = (self.measure.amount(one) for one in (text, self.least, self.most))
        if amount is not None and least is not None and most is not None and least <= amount <= most:
            return ""
        return f"{text[:TEXT_LIMIT]!r} is outside; expected {self.bounds}."


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _whole(text: str) -> float | None:
    digits = text.removeprefix("-")
    return float(text) if digits.isdecimal() else None


_READERS: Final[Mapping[Measure, Callable[[str], float | None]]] = {
    Measure.NUMBER: _number,
    Measure.WHOLE: _whole,
    Measure.DURATION: seconds_of,
}
