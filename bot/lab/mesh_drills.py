"""Drills of family C: route meshes that are incomplete, and decoys that only look so (drills.md 2).

Each takes a `LabCluster`, starts its servers anew with other cluster blocks and empty stores, and returns once the mesh has the
shape that the drill is about. `repair` heals all of them without a restart.
"""

import asyncio
import os
import shutil
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Final

import httpx

from bot.lab.config import HOST, ClusterBlock, free_ports
from bot.lab.drills import until
from bot.lab.http import http_client
from bot.lab.servers import LabCluster
from bot.model import JsonObject, parts

DEFAULT_CONNECTIONS: Final = 4
"""Connections of a pair with default settings: three in the pool and one of the system account (reference/nats.md 6)."""

NOWHERE: Final = f"{HOST}:9"
"""The discard port, where nobody listens: an address that gossip spreads and that leads nowhere."""

CUT_SECONDS: Final = 2.0
"""How long `cut_route` refuses connections; implicit routes are dialled once, within a second (drills.md 2)."""

GIVEN_UP_SECONDS: Final = 1.5
"""How long a broken mesh must not change before it counts as given up; a young server dials implicit routes again after 1 s (drills.md 1)."""

HEADLESS: Final = "nats-headless"

Connections = Mapping[str, Mapping[str, int]]
"""Route connections by server and remote server."""


async def connections(cluster: LabCluster) -> Connections:
    """What ROUTEZ of every living server shows."""
    found: dict[str, dict[str, int]] = {}
    async with http_client(2.0) as http:
        for name in cluster.answering:
            remotes = [str(row.get("remote_name")) for row in await _routes(http, cluster, name)]
            found[name] = {remote: remotes.count(remote) for remote in remotes}
    return found


async def _routes(http: httpx.AsyncClient, cluster: LabCluster, name: str) -> list[JsonObject]:
    return parts((await http.get(f"{cluster.monitor_url(name)}/routez")).json(), "routes")


async def wait_for_mesh(cluster: LabCluster, without: frozenset[frozenset[str]] = frozenset()) -> None:
    """Waits until every pair has `DEFAULT_CONNECTIONS`, except pairs in `without`, which have none."""

    async def shaped() -> bool:
        seen = await connections(cluster)
        return all(
            seen[one].get(other, 0) == (0 if frozenset({one, other}) in without else DEFAULT_CONNECTIONS)
            for one in seen
            for other in seen
            if one != other
        )

    await until(shaped, "the mesh did not get its shape")


async def wrong_advertise(cluster: LabCluster) -> frozenset[frozenset[str]]:
    """All list only n0, and everybody else advertises an address where nobody listens: the others never find each other.

    Returns the pairs without a route. All servers say they are healthy (2.11), and messages between the pairs are lost.
    """
    first, *others = cluster.names
    seed = (cluster.route_address(first),)
    blocks = {name: ClusterBlock(routes=seed, advertise=NOWHERE) for name in others}
    await cluster.reform(blocks | {first: ClusterBlock(routes=seed)})
    return await _broken(cluster, _pairs(others, others))


async def islands(cluster: LabCluster, size: int = 2) -> frozenset[frozenset[str]]:
    """Two clusters of one name: the first `size` servers list only each other, and so do the rest. Returns the pairs without a route."""
    groups = (cluster.names[:size], cluster.names[size:])
    blocks = {
        name: ClusterBlock(routes=tuple(cluster.route_address(other) for other in group))
        for group in groups
        for name in group
    }
    await cluster.reform(blocks)
    return await _broken(cluster, _pairs(*groups))


@asynccontextmanager
async def cut_route(cluster: LabCluster) -> AsyncGenerator[frozenset[frozenset[str]]]:
    """n1 and n2 know each other only by gossip, and the network between them fails for `CUT_SECONDS`: that route never comes back.

    Both advertise a small TCP proxy, which works again and must run as long as the drill. Gives the pair.
    """
    seed = (cluster.route_address("n0"),)
    pair = frozenset({frozenset({"n1", "n2"})})
    proxies = {name: _Proxy(cluster.route_address(name), free_ports(1)[0]) for name in ("n1", "n2")}
    try:
        for proxy in proxies.values():
            await proxy.open()
        blocks = {name: ClusterBlock(routes=seed, advertise=f"{HOST}:{proxy.port}") for name, proxy in proxies.items()}
        await cluster.reform(blocks | {name: ClusterBlock(routes=seed) for name in cluster.names if name not in blocks})
        await wait_for_mesh(cluster)
        for proxy in proxies.values():
            await proxy.close()
        await asyncio.sleep(CUT_SECONDS)
        for proxy in proxies.values():
            await proxy.open()
        yield await _broken(cluster, pair)
    finally:
        for proxy in proxies.values():
            await proxy.close()


@asynccontextmanager
async def missing_slot(cluster: LabCluster) -> AsyncGenerator[frozenset[str]]:
    """n0 and n1 are connected and lack one connection of their pool, so they lose the messages of the accounts on that slot and of no others.

    n0 reaches n1 through a TCP proxy that lets one connection less through than a pair has, and tries the last one for ever; nobody else dials n0. It
    runs as long as the drill. Gives the pair.
    """
    pair = frozenset({"n0", "n1"})
    proxy = _Proxy(cluster.route_address("n1"), free_ports(1)[0], most=DEFAULT_CONNECTIONS - 1)
    through = f"{HOST}:{proxy.port}"
    others = [name for name in cluster.names if name not in pair]
    direct = tuple(cluster.route_address(name) for name in others)
    blocks = {name: ClusterBlock(routes=(*direct, cluster.route_address("n1"))) for name in others}
    blocks |= {
        "n0": ClusterBlock(routes=(through, *direct), advertise=NOWHERE),
        "n1": ClusterBlock(routes=direct, advertise=through),
    }

    async def shaped() -> bool:
        seen = await connections(cluster)
        return all(
            seen[one].get(other) == DEFAULT_CONNECTIONS - (frozenset({one, other}) == pair)
            for one in seen
            for other in seen
            if one != other
        )

    try:
        await proxy.open()
        while True:
            await cluster.reform(blocks)
            await until(shaped, "the mesh did not get its shape")
            await asyncio.sleep(GIVEN_UP_SECONDS)
            await until(shaped, "the mesh did not keep its shape")
            async with http_client(2.0) as http:
                rows = await _routes(http, cluster, "n0")
            # The connection that was left over may be the system account's, which is none of the pool; then once more.
            if any(row.get("remote_name") == "n1" and row.get("account") for row in rows):
                break
        yield pair
    finally:
        await proxy.close()


async def pool_off(cluster: LabCluster, server: str = "n2") -> None:
    """Decoy: `pool_size: -1` on one server. Its pairs have one connection, the others four, and nothing is lost."""
    await cluster.reform({server: ClusterBlock(pool_size=-1)})

    async def shaped() -> bool:
        seen = await connections(cluster)
        return all(
            seen[one].get(other) == (1 if server in {one, other} else DEFAULT_CONNECTIONS)
            for one in seen
            for other in seen
            if one != other
        )

    await until(shaped, "the mesh did not get its shape")


async def no_advertise(cluster: LabCluster) -> None:
    """Decoy: `no_advertise` hides client addresses only and changes nothing about routes."""
    await cluster.reform({name: ClusterBlock(no_advertise=True) for name in cluster.names})
    await wait_for_mesh(cluster)


def headless_impossible() -> str:
    """Why `headless` can't run here, empty where it can."""
    if os.geteuid() != 0:
        return "a private /etc/hosts needs root"
    return "" if shutil.which("unshare") else "there is no unshare command"


async def headless(cluster: LabCluster) -> Connections:
    """One name that means all servers is the only route, as with a headless service: every connection is dialled to a random one.

    Returns the connections of the uneven mesh; the rare even one is started over. Root only: see `headless_impossible`.
    """
    port = free_ports(1)[0]
    addresses = {name: f"127.0.0.{11 + index}" for index, name in enumerate(cluster.names)}
    hosts = cluster.directory / "hosts"
    hosts.write_text("127.0.0.1 localhost\n" + "".join(f"{address} {HEADLESS}\n" for address in addresses.values()))
    blocks = {n: ClusterBlock(listen=f"{a}:{port}", routes=(f"{HEADLESS}:{port}",)) for n, a in addresses.items()}
    while True:
        await cluster.reform(blocks, hosts)
        seen = await _settled(cluster)
        if any(seen[a].get(b, 0) < DEFAULT_CONNECTIONS for a in seen for b in seen if a != b):
            return seen


async def repair(cluster: LabCluster) -> None:
    """Gives every server the list of all servers and reloads one after another; nothing is restarted."""
    for name in cluster.names:
        await cluster.reload(name, replace(cluster.block(name), routes=None))
    await wait_for_mesh(cluster)


def _pairs(one: tuple[str, ...] | list[str], other: tuple[str, ...] | list[str]) -> frozenset[frozenset[str]]:
    return frozenset(frozenset({a, b}) for a in one for b in other if a != b)


async def _broken(cluster: LabCluster, pairs: frozenset[frozenset[str]]) -> frozenset[frozenset[str]]:
    """Waits for a mesh without these pairs that stays like that."""
    await wait_for_mesh(cluster, pairs)
    await asyncio.sleep(GIVEN_UP_SECONDS)
    await wait_for_mesh(cluster, pairs)
    return pairs


async def _settled(cluster: LabCluster) -> Connections:
    """The connections once they have not changed for `GIVEN_UP_SECONDS`."""
    seen, since = await connections(cluster), time.monotonic()

    async def still() -> bool:
        nonlocal seen, since
        now = await connections(cluster)
        if now != seen:
            seen, since = now, time.monotonic()
        return time.monotonic() - since >= GIVEN_UP_SECONDS

    await until(still, "the mesh did not come to rest")
    return seen


class _Proxy:
    """Forwards TCP connections to a route port, `most` at a time, until it is closed; then it refuses them."""

    def __init__(self, target: str, port: int, most: int | None = None) -> None:
        self._host, _, target_port = target.rpartition(":")
        self._target_port = int(target_port)
        self.port = port
        self._room = asyncio.Semaphore(most) if most else None
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        self._server = await asyncio.start_server(self._admit, HOST, self.port)

    async def close(self) -> None:
        """Refuses new connections and breaks the open ones."""
        if self._server is None:
            return
        self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()
        await self._server.wait_closed()
        self._server = None

    async def _admit(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._room is None:
            await self._forward(reader, writer)
        elif self._room.locked():
            writer.transport.abort()
        else:
            async with self._room:
                await self._forward(reader, writer)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            far_reader, far_writer = await asyncio.open_connection(self._host, self._target_port)
        except OSError:
            writer.transport.abort()
            self._writers.discard(writer)
            return
        self._writers.add(far_writer)
        await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
        self._writers -= {writer, far_writer}


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copies what arrives until one end closes, then closes the other."""
    with suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.transport.abort()
