"""One lazily opened NATS connection per credential, with failures told apart.

nats-server reports a denied publish only on the client's error callback while the request times out (reference/nats.md 3.2); here the two are
joined. nats-py's own reconnect stays off: while disconnected it buffers publishes and sends them later, which would apply a change after its
caller was told that the outcome is unknown. Instead every question first makes sure of a live connection and opens a fresh one where needed.
"""

from __future__ import annotations

import asyncio
import base64
import random
import re
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import Final, Protocol
from urllib.parse import urlsplit

import nats.errors
import nkeys
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from bot.adapters.nats.login import Login
from bot.model.clients import OWN_NAME

ALIVE_TIMEOUT: Final = 1.0
"""Seconds a server has to answer a PING before a connection counts as dead: a LAN round trip takes under 1 ms, a frozen server never answers."""

PING_INTERVAL: Final = 20
"""Seconds between keep-alive pings on an idle connection; two missed ones close it."""

_DENIED: Final = re.compile(r'permissions violation for (publish|subscription) to "([^"]*)"')
"""The server's words, lower-cased by nats-py."""

_LOGIN_REFUSED: Final = ("authorization violation", "authentication expired", "authentication revoked")
"""What a server answers to a wrong, expired or revoked login; an *authentication timeout* is a slow server."""


class Why(StrEnum):
    """Why a question got no answer; the first three mean that nothing was sent or accepted."""

    NOT_CONNECTED = "not_connected"
    LOGIN_REFUSED = "login_refused"
    DENIED = "denied"
    NO_RESPONDERS = "no_responders"
    TIMED_OUT = "timed_out"
    LOST = "lost"
    """The connection broke after the request may have been sent."""


class RequestFailed(Exception):
    """A question without an answer. `detail` is one sentence without credentials."""

    def __init__(self, why: Why, detail: str) -> None:
        super().__init__(detail)
        self.why = why
        self.detail = detail


class _Listener(Protocol):
    """What `inbox` uses of nats-py's client, whose annotation of `subscribe` leaves a future's result open."""

    async def subscribe(self, subject: str, *, cb: Callable[[Msg], Awaitable[None]]) -> Subscription: ...


async def _listen(client: _Listener, subject: str, on_message: Callable[[Msg], Awaitable[None]]) -> Subscription:
    return await client.subscribe(subject, cb=on_message)


class Connection:
    """A connection of one user, opened on first use, replaced when it no longer answers. Safe for concurrent use."""

    def __init__(self, servers: Sequence[str], login: Login, purpose: str, timeout: float) -> None:
        self._servers = tuple(servers) or login.servers
        self._login = login
        self._purpose = purpose
        self._timeout = timeout
        self._client: Client | None = None
        self._opening = asyncio.Lock()
        self._waiting: dict[str, dict[asyncio.Future[RequestFailed], str]] = {}

    @property
    def timeout(self) -> float:
        """Seconds a question waits for its answer."""
        return self._timeout

    @property
    def who(self) -> str:
        """The user and what it is for, without secrets."""
        return f"{self._purpose} ({self._login})"

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        sent: Callable[[], None] | None = None,
        *,
        headers: dict[str, str] | None = None,
    ) -> Msg:
        """Ask once and return the answer. `sent` is called once the server has the question. Raises `RequestFailed`; never resends."""
        client = await self._ready()
        async with self.watch(subject) as doom:
            ask = asyncio.ensure_future(client.request(subject, payload, timeout=self._timeout, headers=headers))
            try:
                if sent is not None:
                    await asyncio.sleep(0)  # lets the request be written before the PING that follows it
                    with suppress(nats.errors.Error, OSError, TimeoutError):
                        await client.flush(timeout=ALIVE_TIMEOUT)  # pyright: ignore[reportArgumentType] - any number works
                    sent()
                await asyncio.wait({ask, doom}, return_when=asyncio.FIRST_COMPLETED)
                if ask.done():
                    return ask.result()
                raise doom.result()
            except nats.errors.NoRespondersError as error:
                raise RequestFailed(Why.NO_RESPONDERS, f"nobody serves {subject} for {self.who}") from error
            except nats.errors.TimeoutError as error:
                raise RequestFailed(Why.TIMED_OUT, f"no answer on {subject} within {self._timeout:g} s") from error
            except (
                nats.errors.MaxPayloadError,
                nats.errors.BadSubjectError,
                nats.errors.ConnectionClosedError,
            ) as error:
                # All three are raised before a byte is written.
                raise RequestFailed(Why.NOT_CONNECTED, f"{subject} was not sent: {type(error).__name__}") from error
            except (nats.errors.Error, OSError) as error:
                raise RequestFailed(Why.LOST, f"the connection failed while asking {subject}: {error}") from error
            finally:
                ask.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await ask

    @asynccontextmanager
    async def inbox(self, on_message: Callable[[str, Msg], Awaitable[None]]) -> AsyncGenerator[Inbox, None]:
        """Open a private inbox for questions with many answers; `on_message` gets the token of the question and the answer."""
        client = await self._ready()
        prefix = client.new_inbox()

        async def deliver(message: Msg) -> None:
            await on_message(message.subject[len(prefix) + 1 :], message)

        subscription = await _listen(client, f"{prefix}.*", deliver)
        try:
            yield Inbox(self, client, prefix)
        finally:
            with suppress(nats.errors.Error, OSError):
                await subscription.unsubscribe()

    async def settled(self) -> bool:
        """True where the open connection answers a PING now: what the server had to say against earlier requests has arrived."""
        client = self._client
        if client is None or not client.is_connected:
            return False
        try:
            await client.flush(timeout=ALIVE_TIMEOUT)  # pyright: ignore[reportArgumentType] - any number works
        except (nats.errors.Error, OSError, TimeoutError):
            return False
        return True

    async def aclose(self) -> None:
        """Close the connection; a later question opens a new one."""
        async with self._opening:
            await self._drop()

    @asynccontextmanager
    async def watch(self, subject: str) -> AsyncGenerator[asyncio.Future[RequestFailed], None]:
        """A future that is set when the server denies this subject or the connection is lost."""
        doom: asyncio.Future[RequestFailed] = asyncio.get_running_loop().create_future()
        key = subject.lower()
        self._waiting.setdefault(key, {})[doom] = subject
        try:
            yield doom
        finally:
            waiting = self._waiting[key]
            waiting.pop(doom, None)
            if not waiting:
                del self._waiting[key]

    async def _ready(self) -> Client:
        """Return a client whose server has just answered a PING."""
        async with self._opening:
            if self._client is None or not await self.settled():
                await self._drop()
                self._client = await self._open()
            return self._client

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None and not client.is_closed:
            with suppress(nats.errors.Error, OSError, TimeoutError):
                await asyncio.wait_for(client.close(), ALIVE_TIMEOUT)

    async def _open(self) -> Client:
        """Try every server once, in random order, within one time-out."""
        causes: dict[str, list[str]] = {}
        refused = False
        deadline = asyncio.get_running_loop().time() + self._timeout
        for server in random.sample(self._servers, len(self._servers)):
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                break
            try:
                return await self._connect(server, min(left, max(ALIVE_TIMEOUT, self._timeout / len(self._servers))))
            except (nats.errors.Error, OSError, TimeoutError, ValueError) as error:
                cause = _cause(error)
                refused |= any(words in cause.lower() for words in _LOGIN_REFUSED)
                causes.setdefault(cause, []).append(bare(server))
        detail = (
            "; ".join(f"{cause} ({', '.join(where)})" for cause, where in causes.items()) or "no server is configured"
        )
        if refused:
            raise RequestFailed(Why.LOGIN_REFUSED, f"the servers refuse the login of the {self.who}: {detail}")
        raise RequestFailed(Why.NOT_CONNECTED, f"no connection for the {self.who}: {detail}")

    async def _connect(self, server: str, patience: float) -> Client:
        client = Client()
        seen: list[Exception] = []

        async def on_error(error: Exception) -> None:
            seen.append(error)
            self._on_error(error)

        async def on_closed() -> None:
            self._on_lost(client)

        try:
            async with asyncio.timeout(patience):
                await client.connect(
                    servers=[server],
                    error_cb=on_error,
                    closed_cb=on_closed,
                    name=OWN_NAME,
                    allow_reconnect=False,
                    max_reconnect_attempts=1,
                    reconnect_time_wait=0,  # pyright: ignore[reportArgumentType] - seconds
                    connect_timeout=patience,  # pyright: ignore[reportArgumentType] - seconds, any number works
                    ping_interval=PING_INTERVAL,
                    inbox_prefix=self._login.inbox_prefix,
                    user=self._login.user,
                    password=self._login.password,
                    token=self._login.token,
                    user_credentials=str(self._login.creds_file) if self._login.creds_file else None,
                    user_jwt_cb=_jwt(self._login),
                    signature_cb=_signer(self._login),
                    nkeys_seed=str(self._login.nkey_seed_file) if self._login.nkey_seed_file else None,
                    tls=await _tls(self._login),
                )
        except BaseException as error:
            with suppress(Exception):
                # After a failed TLS handshake nats-py's close waits for ever for a writer that never was.
                await asyncio.wait_for(client.close(), ALIVE_TIMEOUT)
            if isinstance(error, nats.errors.NoServersError) and seen:
                raise seen[-1] from error
            raise
        return client

    def _on_error(self, error: Exception) -> None:
        denied = _DENIED.search(str(error).lower())
        if denied is None:
            return
        verb, subject = denied.groups()
        if verb == "publish":
            self._doom([subject], Why.DENIED, f"the {self.who} may not publish to {{subject}}")
        else:
            detail = (
                f"the {self.who} may not subscribe to {subject}: allow {self._login.inbox_prefix}.> or set inbox_prefix"
            )
            self._doom(list(self._waiting), Why.DENIED, detail)

    def _on_lost(self, client: Client) -> None:
        if client is self._client:
            self._doom(list(self._waiting), Why.LOST, f"the connection of the {self.who} was lost")

    def _doom(self, subjects: Sequence[str], why: Why, detail: str) -> None:
        for subject in subjects:
            for doom, asked in self._waiting.get(subject, {}).items():
                if not doom.done():
                    doom.set_result(RequestFailed(why, detail.replace("{subject}", asked)))


class Inbox:
    """A private subject below which many answers arrive."""

    def __init__(self, connection: Connection, client: Client, prefix: str) -> None:
        self._connection = connection
        self._client = client
        self._prefix = prefix

    @asynccontextmanager
    async def asking(
        self, subject: str, payload: bytes, token: str
    ) -> AsyncGenerator[asyncio.Future[RequestFailed], None]:
        """Publish a question whose answers carry `token`; the future is set when the server denies it or the connection is lost."""
        async with self._connection.watch(subject) as doom:
            await self.publish(subject, payload, token)
            yield doom

    async def publish(self, subject: str, payload: bytes, token: str) -> None:
        """Publish a question. Raises `RequestFailed` where the connection is gone."""
        try:
            await self._client.publish(subject, payload, reply=f"{self._prefix}.{token}")
        except (nats.errors.Error, OSError) as error:
            raise RequestFailed(Why.LOST, f"the connection failed while asking {subject}: {_cause(error)}") from error


def bare(server: str) -> str:
    """Return scheme, host and port of a server's address, without user and password."""
    parts = urlsplit(server if "//" in server else f"nats://{server}")
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _cause(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ValueError) and not isinstance(error, UnicodeError):
        # nkeys and nats-py raise these for a malformed seed or address; their texts may hold the input.
        return f"the credential or the address is malformed ({type(error).__name__})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror if error.filename is None else f"{error.strerror}: {error.filename}"
    return str(error) or type(error).__name__


def _jwt(login: Login) -> Callable[[], bytearray] | None:
    token = login.user_jwt
    return None if token is None else lambda: bytearray(token.encode())


def _signer(login: Login) -> Callable[[str], bytes] | None:
    """Return what signs the server's nonce. A bearer token needs no signature, but nats-py sends the token only beside one."""
    if login.user_jwt is None:
        return None
    seed = login.user_seed

    def sign(nonce: str) -> bytes:
        if seed is None:
            return b""
        pair = nkeys.from_seed(bytearray(seed.encode()))  # pyright: ignore[reportUnknownMemberType] - untyped library
        try:
            return base64.b64encode(pair.sign(nonce.encode()))  # pyright: ignore[reportUnknownMemberType]
        finally:
            pair.wipe()

    return sign


async def _tls(login: Login) -> ssl.SSLContext | None:
    """Return what certificates are checked and shown with; files are read on a thread."""
    needed = login.ca_file is not None or login.cert_file is not None
    return await asyncio.to_thread(_context, login) if needed else None


def _context(login: Login) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(login.ca_file) if login.ca_file else None)
    if login.cert_file is not None:
        context.load_cert_chain(str(login.cert_file), str(login.key_file) if login.key_file else None)
    return context
