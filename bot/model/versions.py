"""Versions of nats-server as numbers. Field presence decides how to parse an answer; the version decides what to ask for and to advise (reference/nats.md 8)."""

from __future__ import annotations

import re

from bot.model.snapshot import Snapshot

Version = tuple[int, int, int]


def version(snapshot: Snapshot, server: str) -> str:
    """Return the server's version, empty where it is not known."""
    return next((s.version for s in snapshot.servers if s.name == server), "")


def version_number(text: str) -> Version:
    """Return a version's numbers, zeros where it can't be read."""
    match = re.match(r"v?(\d+)\.(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2]), int(match[3])) if match else (0, 0, 0)
