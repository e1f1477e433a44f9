"""The client connections of every server as CONNZ shows them, and which of them may be let go. Pure.

CONNZ lists clients of all three protocols and no leaf node (server/monitor.go, `Connz`); a connection's `cid` is never used again while its server runs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from bot.model.base import JsonObject, Record, part, parts
from bot.model.groups import latest
from bot.model.sample import Endpoint
from bot.model.snapshot import Snapshot
from bot.model.subjects import lies_within

OWN_NAME: Final = "natsmedic"
"""What natsmedic's own connections call themselves."""

DEFAULT_SYSTEM_ACCOUNT: Final = "$SYS"
"""Where no other one is configured (server/const.go, DEFAULT_SYSTEM_ACCOUNT)."""

PAGE_SLACK: Final = 1024
"""Clients that may come and go while the pages of CONNZ are read, each of as many; a list that lacks more is not the whole one."""


NONE_READ: Final[Mapping[int, frozenset[str]]] = MappingProxyType({})
"""Subscriptions by connection id where nobody asked for them."""


class ClientKind(StrEnum):
    """CONNZ `type`."""

    NATS = "nats"
    MQTT = "mqtt"
    WEBSOCKET = "websocket"


class Selection(Record):
    """Which clients are meant; every word that is given must fit."""

    kinds: tuple[ClientKind, ...] = tuple(ClientKind)
    account: str | None = None
    name: str | None = None
    """The client's own name, or the client id of an MQTT client."""
    subject: str | None = None
    """A pattern that one of its subscriptions lies within; of an MQTT topic as NATS names it."""

    @property
    def needs(self) -> frozenset[Endpoint]:
        """What must be read to tell who is meant."""
        facts = frozenset({Endpoint.VARZ, Endpoint.CONNZ})
        return facts if self.subject is None else facts | {Endpoint.SUBSZ}

    def __str__(self) -> str:
        kinds = "" if set(self.kinds) == set(ClientKind) else f"{' and '.join(map(_SHOWN.__getitem__, self.kinds))} "
        words = [f"account {self.account}"] if self.account is not None else []
        words += [f"name {self.name!r}"] if self.name is not None else []
        words += [f"subscriptions of {self.subject!r}"] if self.subject is not None else []
        return f"{kinds}clients" + (f" with {', '.join(words)}" if words else "")


_SHOWN: Final = {ClientKind.NATS: "NATS", ClientKind.MQTT: "MQTT", ClientKind.WEBSOCKET: "WebSocket"}


@dataclass(frozen=True, slots=True)
class Connected:
    """One client connection of one server. Names are the client's own words."""

    cid: int
    kind: ClientKind
    account: str
    name: str
    start: datetime
    subjects: frozenset[str] = frozenset()
    """What it is subscribed to; empty where subscriptions were not read, too."""

    def fits(self, selection: Selection) -> bool:
        """Tell whether it is one of those that are meant."""
        return (
            self.kind in selection.kinds
            and selection.account in {None, self.account}
            and selection.name in {None, self.name}
            and (selection.subject is None or any(lies_within(one, selection.subject) for one in self.subjects))
        )


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients of one server that may be let go: neither of the system account nor natsmedic's own."""

    server_id: str
    now: datetime
    """The server's own clock, by which the `start` of its clients is told."""
    rows: tuple[Connected, ...]
    kinds: frozenset[ClientKind]
    """What it takes clients of."""
    room: float
    """How many more connections it accepts; infinite where nothing limits them."""
    subscribed: bool = False
    """Whether the subscriptions of all of them are known."""


def clients_of(snapshot: Snapshot, server: str) -> Clients | None:
    """Return a server's clients; None where it did not tell all of them, or not which account is the system's."""
    connz, varz = latest(snapshot, server, Endpoint.CONNZ), latest(snapshot, server, Endpoint.VARZ)
    if connz is None or varz is None:
        return None
    raw = parts(connz, "connections")
    now = moment_of(connz.get("now"))
    total, most, own = connz.get("total"), varz.get("max_connections"), varz.get("connections")
    if now is None or (isinstance(total, int) and total > len(raw) + PAGE_SLACK):
        return None
    system = str(varz.get("system_account") or DEFAULT_SYSTEM_ACCOUNT)
    subjects = _subscriptions(snapshot, server)
    rows = tuple(client for row in raw if (client := connected(row, system, subjects or {})) is not None)
    room = max(most - own, 0) if isinstance(most, int) and isinstance(own, int) and most > 0 else math.inf
    kinds = _listens(varz) | {row.kind for row in rows}
    return Clients(str(connz.get("server_id") or ""), now, rows, kinds, room, subjects is not None)


def _subscriptions(snapshot: Snapshot, server: str) -> Mapping[int, frozenset[str]] | None:
    """Return the subjects that a server's clients are subscribed to, by connection id; None where it did not tell all of them (SUBSZ)."""
    subsz = latest(snapshot, server, Endpoint.SUBSZ)
    if subsz is None:
        return None
    listed, total = parts(subsz, "subscriptions_list"), subsz.get("total")
    if not isinstance(total, int) or total > len(listed):
        return None
    found: dict[int, set[str]] = {}
    for one in listed:
        if isinstance(cid := one.get("cid"), int):
            found.setdefault(cid, set()).add(str(one.get("subject") or ""))
    return {cid: frozenset(subjects) for cid, subjects in found.items()}


def connected(
    row: JsonObject, system_account: str, subscriptions: Mapping[int, frozenset[str]] = NONE_READ
) -> Connected | None:
    """Return a row of CONNZ as a client that may be let go; None for the system account's, natsmedic's own, one whose account is not told or that has
    not finished its login, and what is no client.
    """
    account, start, cid = row.get("account"), moment_of(row.get("start")), row.get("cid")
    kind = row.get("type") or ClientKind.NATS
    if not account or account == system_account or row.get("name") == OWN_NAME or row.get("kind", "Client") != "Client":
        return None
    if kind not in set(ClientKind) or not isinstance(cid, int) or start is None:
        return None
    name = str(row.get("mqtt_client") or row.get("name") or "")
    return Connected(cid, ClientKind(kind), str(account), name, start, subscriptions.get(cid, frozenset()))


def moment_of(value: object) -> datetime | None:
    """Return an aware time as servers write it; None for anything else, and for Go's zero time."""
    if not isinstance(value, str):
        return None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return at if at.tzinfo is not None and at.year > 1 else None


def counted(rows: Iterable[Connected]) -> str:
    """Return how many of which kind and account there are, the most first: `30 MQTT of APP, 2 NATS of BILLING`."""
    found = Counter((row.kind, row.account) for row in rows)
    return ", ".join(f"{count} {_SHOWN[kind]} of {account}" for (kind, account), count in found.most_common())


def share_of(counts: Mapping[str, int]) -> int:
    """Return the most that a server has where all have alike, rounded up."""
    return -(-sum(counts.values()) // len(counts))


def younger(rows: Sequence[Connected], now: datetime, seconds: float) -> list[Connected]:
    """Return those that connected within so many seconds before the server's own `now`."""
    return [row for row in rows if (now - row.start).total_seconds() <= seconds]


def _listens(varz: JsonObject) -> frozenset[ClientKind]:
    """What a server takes clients of, by its ports (VARZ)."""
    others = {ClientKind.MQTT: "mqtt", ClientKind.WEBSOCKET: "websocket"}
    return frozenset({ClientKind.NATS, *(kind for kind, key in others.items() if part(varz, key).get("port"))})
