"""What `natsmedic doctor` was answered and what it says about it: raw facts from the adapters, and one line per thing looked at."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

from bot.model.base import JsonObject, Record


class Health(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"
    """It could not be looked at, which is never taken for healthy."""


class CheckupLine(Record):
    """One thing that was looked at. No field ever holds a secret."""

    subject: str
    """What was looked at, e.g. `Slack channel C0123456789`."""
    health: Health
    observed: str
    expected: str
    way_out: str = ""
    """A command or setting that mends it; empty where nothing is to be mended."""


class Reply(Record):
    """What a service said to one question. Exactly one of `body` and `silence` says something where `error` is empty."""

    body: JsonObject = {}
    error: str = ""
    """The service's own code for *no*, e.g. `not_in_channel`."""
    silence: str = ""
    """Why there was no answer at all, one sentence; empty where there was one."""
    scopes: tuple[str, ...] | None = None
    """What the token may do; None where the answer does not say."""
    date: datetime | None = None
    """The service's clock, from its Date header (whole seconds)."""


class Right(StrEnum):
    """Whether somebody may ask for something."""

    ALLOWED = "allowed"
    DENIED = "denied"
    UNKNOWN = "unknown"


class Permission(Record):
    """One right of one user, as the server enforces it."""

    who: str
    what: str
    """The subject, or verb and resource."""
    needed: bool
    """False: it must be denied."""
    exact: bool = True
    """False where a narrower permission than the one that was tried would do as well."""
    seen: Right
    detail: str = ""
    """Why it is unknown, one sentence."""


def moment_of_header(header: str | None) -> datetime | None:
    """Return the moment of a Date header (RFC 9110, 5.6.7); None where it has none."""
    try:
        found = parsedate_to_datetime(header or "")
    except ValueError:
        return None
    return found if found.tzinfo is not None else None


EXIT_CODES = {Health.OK: 0, Health.WARN: 1, Health.FAIL: 2, Health.UNKNOWN: 3}
"""As `natsmedic diagnose`."""


WORSE = (Health.OK, Health.WARN, Health.UNKNOWN, Health.FAIL)
"""Each says more than those before it: a failure more than what could not be looked at, and that more than a warning."""


def worst(lines: Iterable[CheckupLine]) -> Health:
    """Return what the whole comes to. Nothing looked at is unknown."""
    return max((line.health for line in lines), key=WORSE.index, default=Health.UNKNOWN)
