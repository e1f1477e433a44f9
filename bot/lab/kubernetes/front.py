"""A way to a Service of the stand-in from the machine: what kube-proxy does for a cluster IP, as one TCP port on loopback."""

import asyncio
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

from bot.lab.mesh_drills import pump

CONNECT_TIMEOUT: Final = 2.0
"""Seconds until a pod that does not take a connection is passed over."""

HOST: Final = "127.0.0.1"


class ServiceFront:
    """Takes connections on `port` and passes each to one of the pods, at random; a pod that takes none is passed over.

    `addresses` names the pods of the moment, ready or not: clients of a headless service that publishes them see the same.
    """

    def __init__(self, addresses: Callable[[], Sequence[str]], pod_port: int) -> None:
        self._addresses = addresses
        self._pod_port = pod_port
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._pass_on, HOST, 0)
        self.port = int(self._server.sockets[0].getsockname()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        pods = list(self._addresses())
        random.shuffle(pods)
        for pod in pods:
            with suppress(OSError, TimeoutError):
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    far_reader, far_writer = await asyncio.open_connection(pod, self._pod_port)
                self._writers |= {writer, far_writer}
                await asyncio.gather(pump(reader, far_writer), pump(far_reader, writer))
                self._writers -= {writer, far_writer}
                return
        writer.transport.abort()
