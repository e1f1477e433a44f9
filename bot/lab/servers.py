"""A cluster of real nats-server processes that can be killed, frozen and restarted one by one."""

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from nats.aio.client import Client

from bot.lab.binaries import nats_server_binary
from bot.lab.config import APP, HOST, ClusterBlock, Login, Ports, free_ports, server_config, server_tag
from bot.lab.http import http_client
from bot.lab.meta import views_of, whole
from bot.lab.process import LabError, ServerDied, ServerProcess, watch_over

START_TIMEOUT: Final = 40.0
"""Seconds until a cluster must be ready; an idle machine needs 0.3 to 2 (drills.md 1), a busy one a multiple."""

FRESH_TIMEOUT: Final = 5.0
"""Seconds a brand-new cluster has before it is started over."""

STOP_TIMEOUT: Final = 10.0
"""Seconds a server has to end after SIGTERM before it is killed."""

POLL_INTERVAL: Final = 0.05
"""Seconds between two looks at a server that is coming up."""

RECONNECT_WAIT: Final = 1
"""Seconds between a lab client's attempts to find a living server."""

_WITH_HOSTS: Final = 'mount --bind "$1" /etc/hosts && shift && exec "$@"'
"""Shell that gives a server host names of its own, inside a private mount namespace (drills.md, traps); the process keeps its id."""


class LabCluster:
    """`async with LabCluster(directory, "2.11.2") as cluster:` is a ready cluster that leaves no process behind.

    `versions` is one version for all servers or one for each. Servers are named n0, n1, … and carry the tag
    `node:n0`, …, so an R1 stream can be pinned with `placement.tags`. `max_ha_assets` is per server name, `jetstream`
    holds further keys of every server's jetstream block, `blocks` are cluster blocks by server name, `tenants` are
    accounts beside APP and SYS, with `mqtt` every server takes MQTT clients too. Raises `ServerDied`, `LabError` or
    `binaries.BinaryUnavailable`.
    """

    def __init__(
        self,
        directory: Path,
        versions: Sequence[str] | str,
        size: int = 3,
        name: str = "lab",
        max_ha_assets: Mapping[str, int] | None = None,
        jetstream: Mapping[str, int | str] | None = None,
        blocks: Mapping[str, ClusterBlock] | None = None,
        tenants: Sequence[str] = (),
        *,
        mqtt: bool = False,
    ) -> None:
        wanted = [versions] * size if isinstance(versions, str) else list(versions)
        if len(wanted) != size:
            raise ValueError(f"{len(wanted)} versions for {size} servers: give one, or as many as servers")
        self.directory = directory.absolute()
        self.name = name
        self._jetstream = dict(jetstream or {})
        self._tenants = tuple(tenants)
        self._hosts: Path | None = None
        each = 4 if mqtt else 3
        ports = free_ports(each * size)
        self._servers: dict[str, ServerProcess] = {}
        for index, version in enumerate(wanted):
            server = f"n{index}"
            self._servers[server] = ServerProcess(
                server,
                version,
                self.directory / server,
                Ports(*ports[each * index : each * (index + 1)]),
                (max_ha_assets or {}).get(server, 0),
                (blocks or {}).get(server, ClusterBlock()),
            )

    async def __aenter__(self) -> Self:
        try:
            await self.start()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    @property
    def names(self) -> tuple[str, ...]:
        """All servers, also those that are down."""
        return tuple(self._servers)

    @property
    def urls(self) -> list[str]:
        """Client addresses of all servers, without credentials."""
        return [self.url(name) for name in self._servers]

    def url(self, name: str) -> str:
        return f"nats://{HOST}:{self._servers[name].ports.client}"

    def monitor_url(self, name: str) -> str:
        return f"http://{HOST}:{self._servers[name].ports.monitor}"

    def mqtt_address(self, name: str) -> tuple[str, int]:
        """Host and port for MQTT clients. Raises `LabError` where the cluster takes none."""
        port = self._servers[name].ports.mqtt
        if not port:
            raise LabError(f"cluster {self.name} takes no MQTT clients: start it with mqtt=True")
        return HOST, port

    def block(self, name: str) -> ClusterBlock:
        """The server's cluster block as last written."""
        return self._servers[name].block

    def route_address(self, name: str) -> str:
        """`host:port` on which the server accepts routes."""
        server = self._servers[name]
        return server.block.listen or f"{HOST}:{server.ports.route}"

    def version(self, name: str) -> str:
        return self._servers[name].version

    def tag(self, name: str) -> str:
        """The server's own tag, by which a stream is placed on it."""
        return server_tag(name)

    def max_ha_assets(self, name: str) -> int:
        """The server's limit on Raft groups, 0 where it has none."""
        return self._servers[name].max_ha_assets

    @property
    def answering(self) -> tuple[str, ...]:
        """Servers that live and are not frozen."""
        return tuple(server.name for server in self._servers.values() if server.alive and not server.frozen)

    def pid(self, name: str) -> int | None:
        """Process id while the server lives."""
        server = self._servers[name]
        return server.process.pid if server.process and server.alive else None

    def log(self, name: str) -> str:
        """Everything the server has written so far, over all its restarts."""
        return self._servers[name].log()

    async def connect(
        self,
        login: Login = APP,
        name: str | None = None,
        on_error: Callable[[Exception], Awaitable[None]] | None = None,
    ) -> Client:
        """A NATS client of `login`, to server `name` only or to whichever server answers. The caller closes it.

        `on_error` hears what the server says between requests; a denied publish is heard nowhere else.
        """
        client = Client()
        await client.connect(
            servers=[self.url(name)] if name else self.urls,
            user=login.user,
            password=login.password,
            inbox_prefix=login.inbox_prefix.encode(),
            name=f"lab-{login.user}",
            max_reconnect_attempts=-1,
            reconnect_time_wait=RECONNECT_WAIT,
            error_cb=on_error,
        )
        return client

    async def start(self) -> None:
        """Starts every server that is down, and returns when the cluster is ready.

        A brand-new cluster that is not ready in `FRESH_TIMEOUT` is started once more from nothing: in about 1 of 20
        starts of 2.10.26 the first meta leader takes a peer it has not heard of yet for one without JetStream, and
        settles for a group of 2 (`checkClusterSize` in server/jetstream_cluster.go).
        """
        fresh = not any((server.directory / "store").exists() for server in self._servers.values())
        await self._spawn_all()
        try:
            await self.wait_ready(FRESH_TIMEOUT if fresh else START_TIMEOUT)
        except LabError as error:
            if not fresh or isinstance(error, ServerDied):
                raise
            await self.stop()
            for name in self._servers:
                await self.wipe_store(name)
            await self._spawn_all()
            await self.wait_ready()

    async def _spawn_all(self) -> None:
        starting = (self._spawn(server) for server in self._servers.values() if not server.alive)
        # All have ended before a failure is raised, so that nothing starts behind a stop() that follows.
        for outcome in await asyncio.gather(*starting, return_exceptions=True):
            if outcome is not None:
                raise outcome

    async def stop(self) -> None:
        """Kills every server. The stores stay."""
        await asyncio.gather(*(self.kill(name) for name in self._servers))

    async def kill(self, name: str) -> None:
        """SIGKILL: what a node failure or the out-of-memory killer does."""
        server = self._servers[name]
        if server.process and server.alive:
            with suppress(ProcessLookupError):
                server.process.kill()
        await self._reap(server)

    async def terminate(self, name: str) -> None:
        """SIGTERM and wait: what a rolling restart does. Killed after `STOP_TIMEOUT`."""
        server = self._servers[name]
        if server.process and server.alive:
            await self.thaw(name)
            server.process.terminate()
            try:
                await asyncio.wait_for(self._reap(server), STOP_TIMEOUT)
            except TimeoutError:
                await self.kill(name)

    async def freeze(self, name: str) -> None:
        """SIGSTOP: connections stay open and nobody answers, as with a stalled disk.

        Returns when all threads stand still, which is a moment after the signal.
        """
        process = self._signal(name, signal.SIGSTOP)
        await asyncio.to_thread(os.waitid, os.P_PID, process.pid, os.WSTOPPED)
        self._servers[name].frozen = True

    async def thaw(self, name: str) -> None:
        self._signal(name, signal.SIGCONT)
        self._servers[name].frozen = False

    async def restart(
        self, name: str, *, max_ha_assets: int | None = None, version: str | None = None, ready: bool = True
    ) -> None:
        """Terminates the server if it lives and starts it again, with another limit (0: none) or version where given.

        `ready=False` returns as soon as the server answers, before the cluster is whole.
        """
        server = self._servers[name]
        await self.terminate(name)
        server.max_ha_assets = server.max_ha_assets if max_ha_assets is None else max_ha_assets
        server.version = version or server.version
        await self._spawn(server)
        if ready:
            await self.wait_ready()

    async def reform(self, blocks: Mapping[str, ClusterBlock], hosts: Path | None = None) -> None:
        """Kills every server and starts all with empty stores and these cluster blocks (others get the healthy one).

        `hosts` replaces /etc/hosts for the servers, which only root may do. Returns when every server answers: such a cluster may never be ready.
        """
        await self.stop()
        self._hosts = hosts
        for server in self._servers.values():
            server.block = blocks.get(server.name, ClusterBlock())
            await self.wipe_store(server.name)
        await self._spawn_all()

    async def reload(self, name: str, block: ClusterBlock) -> None:
        """Writes another cluster block and sends SIGHUP; returns at once, and a refused reload stands in the log only."""
        server = self._servers[name]
        server.block = block
        self._write_config(server)
        self._signal(name, signal.SIGHUP)

    async def wipe_store(self, name: str) -> None:
        """Removes what a stopped server has stored: a node that comes back with an empty disk."""
        server = self._servers[name]
        if server.alive:
            raise LabError(f"{name} is running; stop it before its store is wiped")
        await asyncio.to_thread(shutil.rmtree, server.directory / "store", ignore_errors=True)

    async def wait_ready(self, within: float = START_TIMEOUT) -> str:
        """Returns the meta leader's name when every living server names the same meta leader and the whole cluster
        size, and that leader counts every living peer as current. `/healthz` alone says ok before that (drills.md,
        traps). Raises `ServerDied`, `LabError`.
        """
        deadline = time.monotonic() + within
        awaited = [self._servers[name] for name in self.answering]
        monitors = {server.name: self.monitor_url(server.name) for server in awaited}
        async with http_client(2.0) as http:
            while True:
                leader, missing = whole(await views_of(http, monitors), len(self._servers))
                if not missing:
                    return leader
                for server in awaited:
                    if not server.alive:
                        raise server.died()
                if time.monotonic() > deadline:
                    raise LabError(f"cluster {self.name} is not ready after {within:.0f} s: {missing}")
                await asyncio.sleep(POLL_INTERVAL)

    async def _spawn(self, server: ServerProcess) -> None:
        binary = await nats_server_binary(server.version)
        await self._reap(server)  # one that died by itself has left its watch
        config = self._write_config(server)
        private = ("unshare", "-m", "sh", "-c", _WITH_HOSTS, "sh", str(self._hosts)) if self._hosts else ()
        with (server.directory / "console.txt").open("ab") as console:
            # A session of its own: Ctrl-C in a terminal reaches the bot, which then stops its servers in order.
            server.process = await asyncio.create_subprocess_exec(
                *(*private, str(binary), "-c", str(config)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        server.watch = await watch_over(server.process)
        server.frozen = False
        await self._await_clients(server)

    def _write_config(self, server: ServerProcess) -> Path:
        server.directory.mkdir(parents=True, exist_ok=True)
        config = server.directory / "nats.conf"
        text = server_config(
            cluster=self.name,
            name=server.name,
            directory=server.directory,
            ports=server.ports,
            routes=[self.route_address(other) for other in self._servers],
            max_ha_assets=server.max_ha_assets,
            jetstream=self._jetstream,
            block=server.block,
            tenants=self._tenants,
        )
        config.write_text(text)
        return config

    async def _await_clients(self, server: ServerProcess) -> None:
        """Of a server's ports, the one for clients opens last (`Server.Start` in server/server.go)."""
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            if not server.alive:
                raise server.died()
            if time.monotonic() > deadline:
                raise LabError(f"nats-server {server.name} opened no port for clients within {START_TIMEOUT:.0f} s")
            try:
                _, writer = await asyncio.open_connection(HOST, server.ports.client)
            except OSError:
                await asyncio.sleep(POLL_INTERVAL)
                continue
            writer.close()
            return

    async def _reap(self, server: ServerProcess) -> None:
        """Waits for the server's end, and ends its watch before the process id can be given to another process."""
        if server.process:
            await server.process.wait()
        if server.watch and server.watch.returncode is None:
            server.watch.kill()
            await server.watch.wait()

    def _signal(self, name: str, number: signal.Signals) -> asyncio.subprocess.Process:
        server = self._servers[name]
        if not server.process or not server.alive:
            raise LabError(f"{name} is not running; {number.name} has nobody to reach")
        server.process.send_signal(number)
        return server.process
