"""One connection to each server of a cluster, whatever addresses are configured.

A list of servers, or the one name of a Kubernetes Service, leads to some server; a question about a pair of servers needs both. So every address that
is known is dialled: the configured ones, those that the servers tell in VARZ, and those that they tell a client at its connect (INFO `connect_urls`, by
which every NATS client finds the others). VARZ lists the addresses of all servers and not which is whose, and an address may lead to another server
each time, so who is at the other end is known after the connect only.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import urlsplit

from nats.aio.client import Client

from bot.adapters.nats.connection import ALIVE_TIMEOUT, Connection, RequestFailed, Why, bare
from bot.adapters.nats.login import Login
from bot.model import Endpoint, JsonObject, ServerIdentity, Snapshot, Unknown, UnknownReason

MOST_ADDRESSES: Final = 128
"""Addresses that are dialled: four for each of the 32 servers that a probe goes up to. A wrong configuration may tell any number."""

DIALS_AT_ONCE: Final = 16
"""Connects under way at once for one user: a TLS handshake costs a server some milliseconds of CPU."""

REDIALS: Final = 8
"""How often configured addresses are dialled again while servers are missing, where there are fewer addresses than servers: behind the name of a
Service each connection leads to a random server."""

_ANYWHERE: Final = frozenset({"", "0.0.0.0", "::", "[::]"})  # noqa: S104 - compared, not bound
"""A listen host that says nothing about where a server is."""

_TOLD_SCHEMES: Final = frozenset({"nats", "tls"})
"""What the addresses in VARZ and INFO are for; those of WebSocket clients differ."""

_ADDRESS: Final = re.compile(r"[A-Za-z0-9_.:\[\]-]+:\d{1,5}")
"""`host:port` as a server tells it; credentials go there, so nothing else is let into an address."""


class Direct(Connection):
    """A connection to one address. Where that leads to several servers, a new connection may reach another one: open it once."""

    def __init__(self, address: str, login: Login, purpose: str, timeout: float) -> None:
        super().__init__((address,), login, purpose, timeout)

    async def open(self) -> Client:
        """Return the connected client. Raises `RequestFailed`."""
        return await self._ready()


@dataclass(frozen=True, slots=True)
class Line:
    """An open connection and the server at its other end."""

    connection: Direct
    client: Client
    server: ServerIdentity


@dataclass(frozen=True, slots=True)
class Lines:
    """The servers that one user reached, by name, and why the other known ones were not."""

    reached: Mapping[str, Line]
    missing: Mapping[str, Unknown]


@asynccontextmanager
async def open_lines(
    login: Login, purpose: str, servers: Sequence[str], snapshot: Snapshot, patience: float
) -> AsyncGenerator[Lines, None]:
    """Connect `login` to every server of the snapshot and to those that `servers` lead to; all are closed when the block ends.

    `patience` is seconds for each connect. Takes a few times as long at most, and that only where addresses do not answer.
    """
    search = _Search(login, purpose, patience, servers or login.servers)
    try:
        yield await search.run(snapshot)
    finally:
        await asyncio.gather(*(line.connection.aclose() for line in search.reached.values()))


class _Search:
    def __init__(self, login: Login, purpose: str, timeout: float, configured: Sequence[str]) -> None:
        self._login = login
        self._purpose = purpose
        self._timeout = timeout
        self._configured = tuple(configured)
        self._gate = asyncio.Semaphore(DIALS_AT_ONCE)
        self._dialled: set[str] = set()
        self._failures: dict[str, RequestFailed] = {}
        self._told: list[str] = []
        self.reached: dict[str, Line] = {}

    async def run(self, snapshot: Snapshot) -> Lines:
        known = known_servers(snapshot)
        await self._dial_all(self._configured)
        self._told += told_by_varz(snapshot)
        # A server that the snapshot does not know is one of an island, and may tell of more.
        while self.reached.keys() != known and (addresses := self._told_addresses()):
            await self._dial_all(addresses)
        for _ in range(REDIALS):
            missing = known - self.reached.keys()
            if not missing or len(self._configured) >= len(known) or not self.reached:
                break
            again = [address for address in self._configured if bare(address) not in self._failures]
            await self._dial_all([address for address in again for _ in missing])
        return Lines(self.reached, {name: self._why_not(snapshot, name) for name in known - self.reached.keys()})

    async def _dial_all(self, addresses: Sequence[str]) -> None:
        self._dialled.update(addresses)
        await asyncio.gather(*(self._dial(address) for address in addresses))

    def _told_addresses(self) -> Sequence[str]:
        """What the servers told and was not dialled yet, each once."""
        found = dict.fromkeys(a for a in self._completed() if a not in self._dialled)
        return list(found)[: max(0, MOST_ADDRESSES - len(self._dialled))]

    def _completed(self) -> Iterable[str]:
        """What the servers told is `host:port`: scheme, and the credentials that an address may carry, are those of the first configured one."""
        first = urlsplit(next(iter(self._configured), "nats://"))
        if first.scheme not in _TOLD_SCHEMES:
            return
        userinfo, at, _ = first.netloc.rpartition("@")
        plain = {bare(address) for address in self._configured}
        for told in filter(_ADDRESS.fullmatch, self._told):
            if f"{first.scheme}://{told}" not in plain:
                yield f"{first.scheme}://{userinfo}{at}{told}"

    async def _dial(self, address: str) -> None:
        connection = Direct(address, self._login, self._purpose, self._timeout)
        async with self._gate:
            try:
                # nats-py waits without end for the close of a connection whose TLS handshake failed.
                async with asyncio.timeout(self._timeout + ALIVE_TIMEOUT):
                    client = await connection.open()
            except RequestFailed as failed:
                self._failures[bare(address)] = failed
                return
            except TimeoutError:
                detail = f"{bare(address)} did not let {self._login} in within {self._timeout:g} s"
                self._failures[bare(address)] = RequestFailed(Why.NOT_CONNECTED, detail)
                return
        info: JsonObject = client._server_info  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - nats-py shows the other end nowhere else
        server = _identity_of_info(info)
        if server.name in self.reached:
            await connection.aclose()
            return
        self.reached[server.name] = Line(connection, client, server)
        self._told += strings(info, "connect_urls")

    def _why_not(self, snapshot: Snapshot, name: str) -> Unknown:
        """Why a server was not reached: what its own address answered, or all addresses where they say the same."""
        own = _own_address(snapshot.data(name, Endpoint.VARZ) or {})
        failed = next((f for address, f in self._failures.items() if own and address.endswith(f"//{own}")), None)
        if failed is None and not self.reached:
            failed = next(iter(self._failures.values()), None)
        refused = failed is not None and failed.why is Why.LOGIN_REFUSED
        why = failed.detail if failed else "no address that is known leads to it"
        return Unknown(
            reason=UnknownReason.DENIED if refused else UnknownReason.UNREACHABLE,
            detail=f"{name} is not reachable directly: {why}",
        )


def known_servers(snapshot: Snapshot) -> frozenset[str]:
    """Return the names of the servers that the snapshot knows to exist."""
    return snapshot.expected | {server.name for server in snapshot.servers}


def told_by_varz(snapshot: Snapshot) -> list[str]:
    """Return the client addresses (`host:port`) that VARZ answers tell: each server's own where it is a definite one, then those it advertises."""
    answers = [s.data for s in snapshot.samples if s.endpoint is Endpoint.VARZ and s.data is not None]
    own = [address for varz in answers if (address := _own_address(varz))]
    return own + [address for varz in answers for address in strings(varz, "connect_urls")]


def _own_address(varz: JsonObject) -> str | None:
    host, port = varz.get("host"), varz.get("port")
    if not isinstance(host, str) or host in _ANYWHERE or not isinstance(port, int):
        return None
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def _identity_of_info(info: JsonObject) -> ServerIdentity:
    """Who sent this INFO (nats-server `server/server.go`, type Info)."""
    words = {key: str(info.get(key) or "") for key in ("server_name", "server_id", "version", "cluster", "host")}
    return ServerIdentity(
        name=words["server_name"] or words["server_id"],
        id=words["server_id"],
        version=words["version"],
        cluster=words["cluster"],
        host=words["host"],
    )


def strings(raw: JsonObject, key: str) -> list[str]:
    """Return the texts of the list below `key`; none where there is no list."""
    found: object = raw.get(key)
    return [word for word in cast("list[object]", found) if isinstance(word, str)] if isinstance(found, list) else []
