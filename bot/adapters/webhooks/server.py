"""uvicorn inside our own event loop: signals stay ours, the socket is bound before anything else starts, and stopping is graceful."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncGenerator, Generator
from typing import Final

import structlog
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol

from bot.errors import SettingsError

log = structlog.get_logger(__name__)

HEAD_TIMEOUT: Final = 10.0
"""Seconds in which a request's head must be complete; the same patience as for its body."""
GRACE: Final = 5
"""Seconds that requests in flight get at the end."""
HEAD_BYTES: Final = 16 * 1024
"""A request's line and headers together, h11's own default; more is 400 and the connection is closed."""
CONNECTIONS: Final = 512
"""Connections held at once, half of the 1,024 files that a process may have open by default; one more is hung up on, so that the database, Slack and the
clusters are never the ones that find no file left."""
BACKLOG: Final = 1024
"""Connections the kernel keeps waiting: a storm's burst of senders."""


class _ImpatientProtocol(H11Protocol):
    """uvicorn waits for ever for a request's head (slow loris) and for the rest of a refused body; this hangs up."""

    head_timeout = HEAD_TIMEOUT
    most = CONNECTIONS
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > self.most:
            log.warning("one connection too many is hung up on", most=self.most)
            transport.abort()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        self._unwatch()
        super().connection_lost(exc)

    def _watch(self) -> None:
        answering = self.cycle is not None and not self.cycle.response_complete  # pyright: ignore[reportUnnecessaryComparison]  None at first
        if answering:
            self._unwatch()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.head_timeout, self.transport.close)

    def _unwatch(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _QuietServer(uvicorn.Server):
    """SIGTERM belongs to the process, not to one of its parts."""

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _listen(listen: str, key: str) -> socket.socket:
    """Return a listening socket. Raises SettingsError, which names the key of the settings, where the address cannot be used."""
    name, _, number = listen.rpartition(":")
    host, port = name.strip("[]"), int(number)
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
        return socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise SettingsError(
            f"{key}: {listen} cannot be listened on ({error.strerror}); expected a free local address; name another port."
        ) from None


@contextlib.asynccontextmanager
async def serving(
    app: Starlette, listen: str, *, head_timeout: float = HEAD_TIMEOUT, key: str = "webhooks.listen"
) -> AsyncGenerator[tuple[str, int]]:
    """Serve `app` on `host:port` while the block runs; yields the bound host and port (port 0 asks for a free one).

    Leaving the block takes no new connection and gives requests in flight `GRACE` seconds.
    """
    listener = _listen(listen, key)
    server = _QuietServer(_config(app, head_timeout))
    task = asyncio.create_task(server.serve(sockets=[listener]), name="http server")
    try:
        while not server.started and not task.done():  # noqa: ASYNC110  uvicorn says so by a flag only
            await asyncio.sleep(0)
        bound: tuple[str, int] = listener.getsockname()[:2]
        log.info("listening", host=bound[0], port=bound[1])
        yield bound
    finally:
        server.should_exit = True
        await task
        listener.close()


async def serve_http(app: Starlette, listen: str, *, until: asyncio.Event) -> None:
    """Serve `app` until the event is set, then stop gracefully. Raises SettingsError where the address cannot be used."""
    async with serving(app, listen):
        await until.wait()


def _config(app: Starlette, head_timeout: float) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http=type("Protocol", (_ImpatientProtocol,), {"head_timeout": head_timeout}),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=GRACE,
        h11_max_incomplete_event_size=HEAD_BYTES,
    )
