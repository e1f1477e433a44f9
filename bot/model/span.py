"""Spans of time as people type them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Final

_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}

EXAMPLES: Final = "90m, 2h, 7d"


def span(text: str) -> timedelta | None:
    """Return `90m` as a timedelta; None where it is no span."""
    found = re.fullmatch(r"(\d{1,6})([smhd])", text)
    return timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else None
