"""Versions as servers write them. Field presence decides how an answer is parsed; the version decides what to ask for and to advise (reference/nats.md 8)."""

from __future__ import annotations

import re
from typing import Final

from bot.model.snapshot import Snapshot

Version = tuple[int, int, int]

UNREADABLE: Final[Version] = (0, 0, 0)

_VERSION: Final = re.compile(r"v?(\d+)\.(\d+)\.(\d+)")


def version(snapshot: Snapshot, server: str) -> str:
    """Return the server's version, empty where it is not known."""
    return next((s.version for s in snapshot.servers if s.name == server), "")


def version_number(text: str) -> Version:
    """Return a version's numbers, `UNREADABLE` where there are none."""
    match = _VERSION.match(text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else UNREADABLE


def has(text: str, first: tuple[Version, ...]) -> bool:
    """True where a version has what came with `first`: the first versions of their lines, oldest line first, and every line after the last of them."""
    number = version_number(text)
    line = next((one for one in first if one[:2] == number[:2]), first[-1])
    return number >= line
