"""The delivery probe: does what is published on one server arrive on every other, in each account that natsmedic can log in to?

Routes carry an account over one slot of their pool, so a pair of servers may deliver one account and lose another (reference/nats.md 1.C): only messages
prove it, and through one account they prove nothing about another. Asked for by a person and never by an alert, for it is traffic: in each account it
subscribes below the login's own reply prefix, to a subject that nobody can guess, publishes through every server, and counts on every server.

Interest takes a moment to spread over the routes, so a way counts as open once one message came through, and then `MESSAGES` are counted on it. It is
called lost only where not one message came through in `SETTLE` seconds, while both servers did deliver what was published on themselves: a server
that stands still, a login that may not publish, and a server that can't be reached directly are unknown and never a loss.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import permutations
from typing import Final, Protocol

import nats.errors
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from bot.adapters.nats.connection import ALIVE_TIMEOUT, RequestFailed, Why
from bot.adapters.nats.direct import Line, Lines, known_servers, open_lines, strings
from bot.adapters.nats.login import Login
from bot.errors import BadInput
from bot.model import Endpoint, PairDelivery, Snapshot, Unknown, UnknownReason, part, parts

MESSAGES: Final = 20
"""Messages that are counted from each server, as in the drills (reference/drills.md 2); each has a few bytes."""

SETTLE: Final = 5.0
"""Seconds that a way has to let a first message through: interest spreads within a round trip, and a route that was just closed is dialled again
after one second (reference/drills.md 1)."""

ATTEMPTS: Final = 20
"""Messages sent in that time, evenly spaced, while one is missing."""

GRACE: Final = 2.0
"""Seconds that the last message may take once its way is open; a round trip between continents takes under 0.3."""

MOST_SERVERS: Final = 32
"""Servers that are probed; n of them get n * n * (MESSAGES + ATTEMPTS) messages per account at most: 41,000 for 32."""

MOST_ACCOUNTS: Final = 64

ACCOUNTS_AT_ONCE: Final = 4
"""Accounts probed at once, so that there are at most 4 * `MOST_SERVERS` connections."""

SUBJECT: Final = "natsmedic.probe"
"""Tokens between the reply prefix and the random one; deploy/nats-permissions.conf allows `<prefix>.natsmedic.probe.>` by them."""

_FIRST: Final = b"first"
"""Payload of the messages that wait for a way to open; those that are counted carry their number."""

_NUMBERS: Final = {b"%d" % number: number for number in range(MESSAGES)}

Tell = Callable[[str], None]
"""Hears one sentence about what is going to be sent, before it is."""


class DeliveryProbe:
    """The logins that one cluster is probed with: readers by account, and the system user, whose account the servers name."""

    def __init__(
        self, logins: Mapping[str, Login], system: Login | None, servers: Sequence[str], timeout: float
    ) -> None:
        self._logins = dict(logins)
        self._system = system
        self._servers = tuple(servers)
        self._timeout = timeout

    async def run(self, snapshot: Snapshot, tell: Tell) -> Snapshot:
        """Return the snapshot with what every way between two of its servers delivers. Raises `BadInput` where there is no login to probe with."""
        logins = self._by_account(snapshot)
        if not logins:
            raise BadInput(
                "A delivery probe publishes messages, and no NATS login is given: monitoring addresses can't."
            )
        if (servers := len(known_servers(snapshot))) > MOST_SERVERS:
            return _noted(
                snapshot, f"delivery was not probed: there are {servers} servers, a probe goes up to {MOST_SERVERS}"
            )
        chosen, left = list(logins.items())[:MOST_ACCOUNTS], list(logins)[MOST_ACCOUNTS:]
        gate = asyncio.Semaphore(ACCOUNTS_AT_ONCE)

        async def probe(account: str, login: Login) -> list[PairDelivery]:
            async with gate:
                return await self._account(account, login, snapshot, tell)

        found = await asyncio.gather(*(probe(account, login) for account, login in chosen))
        if left:
            snapshot = _noted(snapshot, f"delivery was not probed in {len(left)} accounts, the first is {left[0]}")
        return replace(snapshot, deliveries=tuple(delivery for account in found for delivery in account))

    def _by_account(self, snapshot: Snapshot) -> dict[str, Login]:
        if self._system is None:
            return self._logins
        return {system_account(snapshot): self._system} | self._logins

    async def _account(self, account: str, login: Login, snapshot: Snapshot, tell: Tell) -> list[PairDelivery]:
        mine = f"{login.inbox_prefix}.{SUBJECT}"
        base = f"{mine}.{secrets.token_hex(16)}"
        async with open_lines(login, f"probe of account {account}", self._servers, snapshot, self._timeout) as lines:
            ways = _ways(snapshot, lines)
            if why := _refusal(snapshot, account, lines, mine, f"{base}.0"):
                unknown = Unknown(reason=UnknownReason.NOT_CONFIGURED, detail=why)
                return [PairDelivery(account=account, sender=a, receiver=b, unknown=unknown) for a, b in ways]
            exchange = _Exchange(lines, base, str(login), f"{mine}.>")
            if lines.reached and ways:
                tell(
                    f"account {account}: publishing up to {MESSAGES + ATTEMPTS} messages of a few bytes on each of "
                    f"{len(lines.reached)} servers as {login}, on {base}.*"
                )
                await exchange.run()
        return [exchange.delivery(account, sender, receiver) for sender, receiver in ways]


class _Subscriber(Protocol):
    """What is used of nats-py's client, whose annotation of `subscribe` leaves a future's result open."""

    async def subscribe(self, subject: str, *, cb: Callable[[Msg], Awaitable[None]]) -> Subscription: ...


async def _subscribe(client: _Subscriber, subject: str, take: Callable[[Msg], Awaitable[None]]) -> None:
    await client.subscribe(subject, cb=take)


class _End:
    """One server: publishes on a subject of its own, and hears those of all."""

    def __init__(self, line: Line, subject: str, changed: asyncio.Event, who: str, needs: str) -> None:
        self.cluster = line.server.cluster
        self.subject = subject
        self.attempts = 0
        self.problem: Unknown | None = None
        self.open: set[str] = set()
        """Subjects on which anything came."""
        self.heard: dict[str, set[int]] = {}
        """Numbers that came, by subject."""
        self._line = line
        self._name = line.server.name
        self._changed = changed
        self._who = who
        self._needs = needs
        self._doing = "subscribe to"

    async def listen(self, stack: AsyncExitStack, every: str) -> None:
        """Subscribe to the subjects of all, and hear refusals for as long as the stack is open."""
        doom = await stack.enter_async_context(self._line.connection.watch(self.subject))
        doom.add_done_callback(self._doomed)
        try:
            await _subscribe(self._line.client, every, self._take)
        except (nats.errors.Error, OSError) as error:
            self._broken(error)

    async def publish(self, payload: bytes) -> None:
        """Publish on this server."""
        self._doing = "publish to"
        try:
            await self._line.client.publish(self.subject, payload)
        except (nats.errors.Error, OSError) as error:
            self._broken(error)

    async def flush(self) -> None:
        """Return when the server has taken in all that was sent, and has said what it refuses of it."""
        try:
            await self._line.client.flush(timeout=ALIVE_TIMEOUT)  # pyright: ignore[reportArgumentType] - any number works
        except nats.errors.TimeoutError:
            self.fail(UnknownReason.TIMED_OUT, f"{self._name} did not answer in time")
        except (nats.errors.Error, OSError) as error:
            self._broken(error)

    def fail(self, reason: UnknownReason, detail: str) -> None:
        """Keep the first reason why nothing can be said about this server."""
        self.problem = self.problem or Unknown(reason=reason, detail=detail)
        self._changed.set()

    async def _take(self, message: Msg) -> None:
        self.open.add(message.subject)
        if (number := _NUMBERS.get(message.data)) is not None:
            self.heard.setdefault(message.subject, set()).add(number)
        self._changed.set()

    def _broken(self, error: Exception) -> None:
        self.fail(UnknownReason.UNREACHABLE, f"the connection with {self._name} failed ({type(error).__name__})")

    def _doomed(self, doom: asyncio.Future[RequestFailed]) -> None:
        if doom.cancelled():
            return
        if doom.result().why is Why.DENIED:
            self.fail(UnknownReason.DENIED, f"{self._who} may not {self._doing} {self._needs}")
        else:
            self.fail(UnknownReason.UNREACHABLE, doom.result().detail)


class _Exchange:
    """All servers that one user (`who`) reached publish, and all listen, below `base`; `needs` is what the user must be allowed for it."""

    def __init__(self, lines: Lines, base: str, who: str, needs: str) -> None:
        self._missing = lines.missing
        self._every = f"{base}.*"
        self._changed = asyncio.Event()
        self._ends = {
            name: _End(line, f"{base}.{place}", self._changed, who, needs)
            for place, (name, line) in enumerate(sorted(lines.reached.items()))
        }
        self._seconds = 0.0

    async def run(self) -> None:
        """Publish, and wait for what arrives. Takes `SETTLE` + `GRACE` seconds and a few time-outs of frozen servers at most."""
        async with AsyncExitStack() as stack:
            for end in self._ends.values():
                await end.listen(stack, self._every)
            await self._flush(self._sound())
            start = asyncio.get_running_loop().time()
            await self._settle(start)
            await self._count()
            self._seconds = asyncio.get_running_loop().time() - start
        for name, end in self._ends.items():
            if len(end.heard.get(end.subject, ())) < MESSAGES:
                end.fail(UnknownReason.UNREADABLE, f"{name} did not deliver what was published on itself")

    def delivery(self, account: str, sender: str, receiver: str) -> PairDelivery:
        """Return what became of the messages on this way."""
        problem = self._problem(sender) or self._problem(receiver)
        if problem is not None:
            return PairDelivery(account=account, sender=sender, receiver=receiver, unknown=problem)
        source, end = self._ends[sender], self._ends[receiver]
        return PairDelivery(
            account=account,
            sender=sender,
            receiver=receiver,
            sent=MESSAGES if source.subject in end.open else MESSAGES + source.attempts,
            received=len(end.heard.get(source.subject, ())),
            seconds=round(self._seconds, 3),
        )

    def _problem(self, server: str) -> Unknown | None:
        return self._missing.get(server) or self._ends[server].problem

    def _sound(self) -> list[_End]:
        return [end for end in self._ends.values() if end.problem is None]

    def _listeners(self, end: _End) -> list[_End]:
        """Those who must hear this one, itself included."""
        return [other for other in self._sound() if other.cluster == end.cluster]

    async def _settle(self, start: float) -> None:
        """Return when every way has let a message through, or `SETTLE` seconds after the start."""

        def closed() -> list[_End]:
            return [e for e in self._sound() if not all(e.subject in other.open for other in self._listeners(e))]

        for attempt in range(1, ATTEMPTS + 1):
            waiting = closed()
            for end in waiting:
                end.attempts += 1
                await end.publish(_FIRST)
            await self._flush(waiting)
            await self._until(lambda: not closed(), start + SETTLE * attempt / ATTEMPTS)
            if not closed():
                return

    async def _count(self) -> None:
        """Publish the messages that count. Return when they have arrived on every open way, or after `GRACE` seconds."""
        for payload in _NUMBERS:
            for end in self._sound():
                await end.publish(payload)
        await self._flush(self._sound())

        def arrived() -> bool:
            return all(
                len(other.heard.get(end.subject, ())) == MESSAGES
                for end in self._sound()
                for other in self._listeners(end)
                if end.subject in other.open
            )

        await self._until(arrived, asyncio.get_running_loop().time() + GRACE)
        # A server that stopped answering meanwhile is unknown, and what is missing of it no loss.
        await self._flush(self._sound())

    async def _flush(self, ends: Sequence[_End]) -> None:
        await asyncio.gather(*(end.flush() for end in ends))

    async def _until(self, done: Callable[[], bool], until: float) -> None:
        """Return when `done` holds or the loop's clock reaches `until`."""
        while not done():
            self._changed.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._changed.wait()
            except TimeoutError:
                return


def system_account(snapshot: Snapshot) -> str:
    """Return the name that the servers give the system account."""
    named = (
        s.data.get("system_account") for s in snapshot.samples if s.endpoint is Endpoint.VARZ and s.data is not None
    )
    return next((name for name in named if isinstance(name, str) and name), "the system account")


def _refusal(snapshot: Snapshot, account: str, lines: Lines, mine: str, subject: str) -> str | None:
    """Return why nothing may be published in this account; None where it may."""
    if stream := captured_by(snapshot, account, subject):
        return f"stream {stream} of account {account} would store the messages, for it takes in {mine}.>"
    if len(lines.reached) > MOST_SERVERS:
        return f"{len(lines.reached)} servers were found, a probe goes up to {MOST_SERVERS}"
    return None


def captured_by(snapshot: Snapshot, account: str, subject: str) -> str | None:
    """Return a stream of the account that takes in messages on this subject, as far as the snapshot shows its streams."""
    configs = [
        (key.stream, state.config)
        for key, states in snapshot.streams().items()
        if key.account == account
        for state in states.values()
    ]
    listed = snapshot.api.get(f"{account}:$JS.API.STREAM.LIST", {})
    configs += [(str(config.get("name")), config) for s in parts(listed, "streams") if (config := part(s, "config"))]
    return next(
        (name for name, config in configs if any(_takes_in(p, subject) for p in strings(config, "subjects"))), None
    )


def _takes_in(pattern: str, subject: str) -> bool:
    """Whether a subject with wildcards matches one without."""
    wanted, tokens = pattern.split("."), subject.split(".")
    if wanted[-1] == ">":
        return len(tokens) >= len(wanted) and all(w in {"*", t} for w, t in zip(wanted[:-1], tokens, strict=False))
    return len(tokens) == len(wanted) and all(w in {"*", t} for w, t in zip(wanted, tokens, strict=True))


def _ways(snapshot: Snapshot, lines: Lines) -> list[tuple[str, str]]:
    """Return sender and receiver for both directions between any two servers of one cluster; where its name is not known a server belongs to all."""
    clusters = dict.fromkeys(known_servers(snapshot), "") | {server.name: server.cluster for server in snapshot.servers}
    clusters |= {name: line.server.cluster for name, line in lines.reached.items()}
    return [
        (a, b)
        for a, b in permutations(sorted(clusters), 2)
        if clusters[a] == clusters[b] or "" in {clusters[a], clusters[b]}
    ]


def _noted(snapshot: Snapshot, detail: str) -> Snapshot:
    return replace(snapshot, unknown=(*snapshot.unknown, Unknown(reason=UnknownReason.NOT_CONFIGURED, detail=detail)))
