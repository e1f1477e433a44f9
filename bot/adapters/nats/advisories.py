"""Listens to the JetStream advisories of one cluster with one user, for as long as natsmedic serves.

A connection of its own, because those of the readers are dropped and replaced whenever a question finds them dead. A lost subscription is made again on a fresh
connection, with growing pauses: nats-py's own reconnect stays off (see `connection.py`). What is published meanwhile is not heard; what lasts is repeated.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, Protocol

import nats.errors
import structlog
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from bot.adapters.nats.advisory import ACCOUNT_KINDS, PREFIX, SYSTEM_KINDS, Kind, subjects_of, translate
from bot.adapters.nats.connection import ALIVE_TIMEOUT, Connection, RequestFailed, Why
from bot.adapters.nats.login import Login, login_of
from bot.errors import BadInput
from bot.flow.incoming import IncomingAlert
from bot.model import JsonObject
from bot.ports import Clock
from bot.settings import ClusterSettings

log = structlog.get_logger(__name__)

RETRY_DELAYS: Final = (1.0, 2.0, 5.0, 15.0, 30.0, 60.0)
"""Seconds from the nth failure in a row to the next try; the last one repeats."""

PROBE_SECONDS: Final = 10.0
"""Between two looks whether the server still answers: a frozen one keeps the connection open, which nats-py's own pings find out after a minute."""

DENIED_SECONDS: Final = 600.0
"""After so long a denied subscription is tried again: permissions change by a reload, which tells nobody."""

PENDING_MESSAGES: Final = 10_000
PENDING_BYTES: Final = 16 * 1024 * 1024
"""What may wait per subject: the elections of a large cluster are a few thousand at once. More are dropped and counted."""

Heard = Callable[[IncomingAlert, JsonObject], None]
"""Takes one advisory, as an alert and raw; never waits."""


class _Subscriber(Protocol):
    """What is used of nats-py's client, whose annotation of `subscribe` leaves a future's result open."""

    async def subscribe(
        self, subject: str, *, cb: Callable[[Msg], Awaitable[None]], pending_msgs_limit: int, pending_bytes_limit: int
    ) -> Subscription: ...


async def _subscribe(client: _Subscriber, subject: str, take: Callable[[Msg], Awaitable[None]]) -> None:
    await client.subscribe(subject, cb=take, pending_msgs_limit=PENDING_MESSAGES, pending_bytes_limit=PENDING_BYTES)


class Ear(Connection):
    """A connection that hears what is published on some subjects."""

    def __init__(self, servers: Sequence[str], login: Login, purpose: str, timeout: float) -> None:
        super().__init__(servers, login, purpose, timeout)
        self._subjects: Sequence[str] = ()
        self.denied: set[str] = set()
        """Subjects of the last `open` that the server denies."""
        self.dropped = 0
        """Messages that came faster than they were taken."""

    async def open(self, subjects: Sequence[str], take: Callable[[Msg], Awaitable[None]]) -> None:
        """Subscribe on a fresh connection. Raises `RequestFailed`."""
        await self.aclose()
        self._subjects, self.denied = subjects, set()
        client = await self._ready()
        try:
            for subject in subjects:
                await _subscribe(client, subject, take)
            await client.flush()  # denials come before its answer
        except (nats.errors.Error, OSError, TimeoutError) as error:
            raise RequestFailed(Why.LOST, f"the connection of the {self.who} failed: {error}") from error

    async def alive(self) -> bool:
        """Say whether the server of these subscriptions still answers."""
        client = self._client
        if client is None or not client.is_connected:
            return False
        try:
            await client.flush(timeout=ALIVE_TIMEOUT)  # pyright: ignore[reportArgumentType] - any number works
        except (nats.errors.Error, OSError, TimeoutError):
            return False
        return True

    def _on_error(self, error: Exception) -> None:
        words = str(error).lower()
        if isinstance(error, nats.errors.SlowConsumerError):
            self.dropped += 1
        elif "permissions violation for subscription" in words:
            self.denied |= {subject for subject in self._subjects if f'"{subject.lower()}"' in words}
        else:
            super()._on_error(error)


class AdvisoryListener:
    """Hears what one user may hear."""

    def __init__(
        self, *, cluster: str, account: str | None, kinds: Sequence[Kind], ear: Ear, clock: Clock, heard: Heard
    ) -> None:
        self._cluster = cluster
        self._account = account
        self._kinds = kinds
        self._ear = ear
        self._clock = clock
        self._heard = heard
        self._failures = 0
        self._told: Mapping[str, object] = {}
        self.losses = 0
        """How often the subscription was lost, or not made at all."""
        self.unreadable = 0
        """How many messages were no advisories of these kinds."""

    async def run(self) -> None:
        """Listen for ever."""
        while True:
            try:
                await self._listen()
            except RequestFailed as failed:
                delay = RETRY_DELAYS[min(self._failures, len(RETRY_DELAYS) - 1)]
                self._failures += 1
                self.losses += 1
                log.warning(
                    "advisories not heard",
                    cluster=self._cluster,
                    reason=failed.detail,
                    losses=self.losses,
                    retry_in=delay,
                )
                await self._clock.sleep(delay)

    async def _listen(self) -> None:
        """Return where it is worth to subscribe once more. Raises `RequestFailed` once nothing is heard any more."""
        loop = asyncio.get_running_loop()
        subjects = subjects_of(self._kinds)
        try:
            await self._ear.open(subjects, self._take)
            self._failures = 0
            opened = loop.time()
            if len(self._ear.denied) < len(subjects):
                log.info("advisories heard", cluster=self._cluster, by=self._ear.who, account=self._account)
            async with self._ear.watch(PREFIX) as lost:
                while not self._ear.denied or loop.time() - opened < DENIED_SECONDS:
                    self._tell()
                    await asyncio.wait({lost}, timeout=PROBE_SECONDS)
                    if lost.done():
                        raise lost.result()
                    if not await self._ear.alive():
                        raise RequestFailed(Why.LOST, f"the server of the {self._ear.who} answers no longer")
        finally:
            await self._ear.aclose()

    async def _take(self, message: Msg) -> None:
        try:
            alert, raw = translate(
                message.data, self._kinds, cluster=self._cluster, account=self._account, now=self._clock.now()
            )
        except BadInput as error:
            self.unreadable += 1
            log.debug("advisory not readable", cluster=self._cluster, subject=message.subject, reason=str(error))
            return
        self._heard(alert, raw)

    def _tell(self) -> None:
        """Log what is not heard, once; a flood of it gives one line per look."""
        now = {"denied": sorted(self._ear.denied), "dropped": self._ear.dropped, "unreadable": self.unreadable}
        if any(now.values()) and now != self._told:
            way_out = "allow the denied subjects as in deploy/nats-permissions.conf" if self._ear.denied else None
            log.warning("advisories missed", cluster=self._cluster, by=self._ear.who, way_out=way_out, **now)
        self._told = now


def advisory_listeners(
    settings: ClusterSettings, clock: Clock, heard: Heard, environ: Mapping[str, str] | None = None
) -> list[AdvisoryListener]:
    """Return the listeners of a cluster: in the system account, and in every account with a reader. Nothing connects before they run.

    Raises `SettingsError` for a `nats` context that can't be used.
    """
    env = os.environ if environ is None else environ
    nats_ = settings.nats
    users = [] if nats_.system is None else [(None, nats_.system, SYSTEM_KINDS, "listener of the system account")]
    users += [(name, a.reader, ACCOUNT_KINDS, f"listener of account {name}") for name, a in nats_.accounts.items()]
    return [
        AdvisoryListener(
            cluster=settings.name,
            account=account,
            kinds=kinds,
            ear=Ear(nats_.servers, login_of(login, env), purpose, nats_.timeout_seconds),
            clock=clock,
            heard=heard,
        )
        for account, login, kinds, purpose in users
    ]
