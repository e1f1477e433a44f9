"""Tries what a NATS user may ask, by requests that change nothing even where they are allowed.

A server checks the permission before anything else and answers a denied request with a permissions violation (reference/nats.md 3.2). So whoever hears none
may ask, even where nobody answers, as without a meta leader. What is allowed is asked about a stream, consumer, account or server that does not exist, and with
a body that is no JSON, so that the answer is an error. What could hurt in spite of that is not tried: `META.LEADER.STEPDOWN` and the removal of the trial
stream. Each denial is a line in the log of that server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple

from bot.adapters.nats.api import read
from bot.adapters.nats.connection import Connection, RequestFailed, Why
from bot.errors import Unreadable
from bot.model import TRIAL_STREAM, part
from bot.model.checkup import Permission, Right

NOBODY: Final = "natsmedic-doctor-asks-about-nothing"
"""Stands for a stream, a consumer and an account; nobody calls theirs so."""
NO_SERVER: Final = "NATSMEDICDOCTORNOSUCHSERVER"
"""Stands for a server's id, which is an nkey of 56 characters."""
NO_JSON: Final = b"-"


class Tried(NamedTuple):
    """A subject to try; `exact` is False where permissions may rightly name the real objects only."""

    subject: str
    needed: bool
    exact: bool = True


def _needed(*subjects: str, exact: bool = True) -> tuple[Tried, ...]:
    return tuple(Tried(subject, needed=True, exact=exact) for subject in subjects)


def _forbidden(*subjects: str) -> tuple[Tried, ...]:
    return tuple(Tried(subject, needed=False) for subject in subjects)


_READING: Final = (
    *("$JS.API.INFO", "$JS.API.STREAM.NAMES", "$JS.API.STREAM.LIST", f"$JS.API.STREAM.INFO.{NOBODY}"),
    *(f"$JS.API.CONSUMER.NAMES.{NOBODY}", f"$JS.API.CONSUMER.LIST.{NOBODY}"),
    f"$JS.API.CONSUMER.INFO.{NOBODY}.{NOBODY}",
)
_CHANGING: Final = (
    *(f"$JS.API.STREAM.UPDATE.{NOBODY}", f"$JS.API.STREAM.LEADER.STEPDOWN.{NOBODY}"),
    *(f"$JS.API.STREAM.PEER.REMOVE.{NOBODY}", f"$JS.API.CONSUMER.CREATE.{NOBODY}.{NOBODY}"),
    *(f"$JS.API.CONSUMER.DELETE.{NOBODY}.{NOBODY}", f"$JS.API.CONSUMER.LEADER.STEPDOWN.{NOBODY}.{NOBODY}"),
)
_DESTROYING: Final = (
    *(f"$JS.API.STREAM.CREATE.{NOBODY}", f"$JS.API.STREAM.DELETE.{NOBODY}", f"$JS.API.STREAM.PURGE.{NOBODY}"),
    *(f"$JS.API.STREAM.MSG.DELETE.{NOBODY}", f"$JS.API.STREAM.MSG.GET.{NOBODY}"),
    *(f"$JS.API.STREAM.SNAPSHOT.{NOBODY}", f"$JS.API.STREAM.RESTORE.{NOBODY}"),
)
_WATCHED: Final = ("VARZ", "JSZ", "HEALTHZ", "ROUTEZ", "RAFTZ", "STATSZ", "CONNZ", "ACCOUNTZ", "GATEWAYZ", "LEAFZ")

ACCOUNT_READER: Final = (*_needed(*_READING), *_forbidden(*_CHANGING, *_DESTROYING))
ACCOUNT_WRITER: Final = (
    *_needed(*_READING, f"$JS.API.STREAM.CREATE.{TRIAL_STREAM}"),
    *_needed(*_CHANGING, exact=False),
    *_forbidden(*_DESTROYING),
)
SYSTEM_READER: Final = (
    *_needed("$SYS.REQ.SERVER.PING", *(f"$SYS.REQ.SERVER.{NO_SERVER}.{one}" for one in _WATCHED)),
    *_forbidden(*(f"$SYS.REQ.SERVER.{NO_SERVER}.{one}" for one in ("RELOAD", "KICK", "LDM", "PROFILEZ"))),
    *_forbidden("$JS.API.SERVER.REMOVE", f"$JS.API.ACCOUNT.PURGE.{NOBODY}"),
)
SYSTEM_WRITER: Final = (
    *_needed(*(f"$SYS.REQ.SERVER.{NO_SERVER}.{one}" for one in ("RELOAD", "KICK", "LDM")), "$JS.API.SERVER.REMOVE"),
    *_forbidden(f"$SYS.REQ.SERVER.{NO_SERVER}.PROFILEZ", f"$JS.API.ACCOUNT.PURGE.{NOBODY}"),
)
"""deploy/nats-permissions.conf and reference/safety.md 5.7, as far as they can be tried without harm."""

_NO_WAY_IN: Final = frozenset({Why.NOT_CONNECTED, Why.LOGIN_REFUSED, Why.LOST})


async def permissions(connection: Connection, tried: Sequence[Tried]) -> list[Permission]:
    """Try all at once and return what the server said."""
    return list(await asyncio.gather(*(_try(connection, one) for one in tried)))


async def server_time(connection: Connection) -> datetime | None:
    """Return the clock of the server that answers first; None where none names one. Needs a user of the system account."""
    try:
        answer = await read(connection, "$SYS.REQ.SERVER.PING")
        found = datetime.fromisoformat(str(part(answer or {}, "server").get("time")))
    except (Unreadable, ValueError):
        return None
    return found if found.tzinfo is not None else None


async def _try(connection: Connection, one: Tried) -> Permission:
    right, detail = Right.ALLOWED, ""
    try:
        await connection.request(one.subject, NO_JSON)
    except RequestFailed as error:
        if error.why is Why.DENIED:
            right = Right.DENIED
        elif error.why in _NO_WAY_IN or (error.why is Why.TIMED_OUT and not await connection.settled()):
            right, detail = Right.UNKNOWN, error.detail
    return Permission(
        who=connection.who, what=one.subject, needed=one.needed, exact=one.exact, seen=right, detail=detail
    )
