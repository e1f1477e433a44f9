"""Changes one cluster through the JetStream API, with the writing credentials and connections of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from bot.adapters.nats.api import checked_filter, checked_name, write
from bot.adapters.nats.connection import Connection
from bot.adapters.nats.direct import REDIALS
from bot.errors import ApiRefused, BadInput, NoResponders, OutcomeUnknown, ServerRefused, WriteDenied
from bot.model import TRIAL_STREAM, JsonObject
from bot.model.kubernetes import Change


class NatsWriters:
    """Implements `bot.ports.Writers`; `connections` holds one per account that has a writer, `system` is the system account's."""

    def __init__(self, cluster: str, connections: Mapping[str, Connection], system: Connection | None = None) -> None:
        self._cluster = cluster
        self._connections = dict(connections)
        self._system = system

    async def create_consumer(self, account: str, stream: str, config: JsonObject) -> JsonObject:
        """Create with `"action":"create"`, so that an existing consumer is refused (10148), and return the answer, raw."""
        name = _consumer_name(config)
        subject = f"$JS.API.CONSUMER.CREATE.{checked_name('stream', stream)}.{name}"
        if filter_subject := config.get("filter_subject"):
            # The server compares this token with the configuration; permissions per filter rest on it (reference/nats.md 3.3).
            subject += f".{checked_filter(str(filter_subject))}"
        body: JsonObject = {"stream_name": stream, "config": config, "action": "create"}
        return await write(self._connection(account), subject, body)

    async def delete_consumer(self, account: str, stream: str, consumer: str) -> None:
        """Delete through the meta leader."""
        subject = f"$JS.API.CONSUMER.DELETE.{checked_name('stream', stream)}.{checked_name('consumer', consumer)}"
        await self._succeed(account, subject)

    async def step_down_consumer(self, account: str, stream: str, consumer: str, preferred: str = "") -> None:
        """Ask the consumer's Raft leader to step down."""
        subject = (
            f"$JS.API.CONSUMER.LEADER.STEPDOWN.{checked_name('stream', stream)}.{checked_name('consumer', consumer)}"
        )
        await self._succeed(account, subject, _placement(preferred))

    async def reload_server(self, server_id: str) -> None:
        """Ask one server to load its configuration file again. Raises `ServerRefused` where it keeps the one it has.

        In a broken mesh the server that we are connected to may have no route to it. Then nothing received the request, and it goes through others.
        """
        await self._ask_server(server_id, "RELOAD", "load its configuration again")

    async def kick_client(self, server_id: str, cid: int) -> None:
        """Close one client connection. Raises `ServerRefused` where there is none of this id."""
        await self._ask_server(server_id, "KICK", f"disconnect client {cid}", {"cid": cid})

    async def warn_client(self, server_id: str, cid: int) -> None:
        """Send one client a lame-duck notice. Raises `ServerRefused` where it can't be told."""
        await self._ask_server(server_id, "LDM", f"send client {cid} a lame-duck notice", {"cid": cid})

    async def update_stream(self, account: str, stream: str, config: JsonObject) -> JsonObject:
        """Replace the configuration through the meta leader and return the answer, raw; its `cluster` is not yet meaningful (reference/nats.md 1.E)."""
        return await write(self._connection(account), f"$JS.API.STREAM.UPDATE.{checked_name('stream', stream)}", config)

    async def create_trial(self, account: str, config: JsonObject) -> JsonObject:
        """Create the trial stream and return the answer, raw. A stream of that name with another configuration is refused (10058)."""
        body = config | {"name": TRIAL_STREAM}
        return await write(self._connection(account), f"$JS.API.STREAM.CREATE.{TRIAL_STREAM}", body)

    async def delete_trial(self, account: str) -> None:
        """Delete the trial stream. Where a member that leads by itself is asked, no answer may come although it is gone (seen on 2.12.8)."""
        await self._succeed(account, f"$JS.API.STREAM.DELETE.{TRIAL_STREAM}")

    async def write_object(self, change: Change) -> JsonObject:
        """There is nobody to write as: `ClusterWriters` knows both sides."""
        raise WriteDenied(
            f"No applier is configured for cluster {self._cluster}: add `kubernetes.applier` to {change}."
        )

    async def step_down_stream(self, account: str, stream: str, preferred: str = "") -> None:
        """Ask the stream's Raft leader to step down."""
        subject = f"$JS.API.STREAM.LEADER.STEPDOWN.{checked_name('stream', stream)}"
        await self._succeed(account, subject, _placement(preferred))

    async def step_down_meta(self, preferred: str = "") -> None:
        """Ask the meta leader to step down, as the system account."""
        system = self._system_connection("let the meta leader step down")
        _demand_success(
            await write(system, "$JS.API.META.LEADER.STEPDOWN", _placement(preferred)), "META.LEADER.STEPDOWN"
        )

    async def remove_stream_peer(self, account: str, stream: str, peer: str) -> None:
        """Ask the meta leader to replace a member of the stream. `ApiRefused` 10075 is no proof that the member stays (reference/nats.md 3.3)."""
        await self._succeed(account, f"$JS.API.STREAM.PEER.REMOVE.{checked_name('stream', stream)}", {"peer": peer})

    async def remove_server(self, server: str, peer_id: str = "") -> None:
        """Ask the meta leader to forget a server. The server takes `peer` for the name where both stand there, so only one does."""
        system = self._system_connection("remove a server from the meta group")
        body: JsonObject = {"peer_id": peer_id} if peer_id else {"peer": server}
        _demand_success(await write(system, "$JS.API.SERVER.REMOVE", body), "SERVER.REMOVE")

    async def reset_consumer(self, account: str, stream: str, consumer: str, seq: int | None = None) -> JsonObject:
        """Ask the consumer's leader to start again at a stream sequence, behind its ack floor where none is given; the answer, raw."""
        subject = f"$JS.API.CONSUMER.RESET.{checked_name('stream', stream)}.{checked_name('consumer', consumer)}"
        return await write(self._connection(account), subject, {} if seq is None else {"seq": seq})

    async def pause_consumer(self, account: str, stream: str, consumer: str, until: str = "") -> JsonObject:
        """Ask the meta leader to pause a consumer until a moment (RFC 3339), or to end its pause; the answer, raw."""
        subject = f"$JS.API.CONSUMER.PAUSE.{checked_name('stream', stream)}.{checked_name('consumer', consumer)}"
        return await write(self._connection(account), subject, {"pause_until": until} if until else {})

    async def unpin_consumer(self, account: str, stream: str, consumer: str, group: str) -> None:
        """Ask the consumer's leader to let go of the client that is pinned in a priority group."""
        subject = f"$JS.API.CONSUMER.UNPIN.{checked_name('stream', stream)}.{checked_name('consumer', consumer)}"
        await write(self._connection(account), subject, {"group": group})

    async def aclose(self) -> None:
        """Close all connections, at once: each may wait for a server that hangs."""
        open_ = (self._system, *self._connections.values())
        await asyncio.gather(*(one.aclose() for one in open_ if one is not None))

    async def _ask_server(self, server_id: str, verb: str, what: str, body: JsonObject | None = None) -> None:
        system = self._system_connection(f"ask a server to {what}")
        subject = f"$SYS.REQ.SERVER.{checked_name('server', server_id)}.{verb}"
        for attempt in range(REDIALS, -1, -1):
            try:
                await write(system, subject, body)
            except ApiRefused as error:
                raise ServerRefused(what, error.code, error.description.strip()) from error
            except NoResponders:
                await system.aclose()
                if not attempt:
                    raise
                continue
            return

    async def _succeed(self, account: str, subject: str, body: JsonObject | None = None) -> None:
        _demand_success(await write(self._connection(account), subject, body), subject)

    def _system_connection(self, purpose: str) -> Connection:
        if self._system is None:
            raise WriteDenied(
                f"No writer of the system account is configured for cluster {self._cluster}: add `nats.system_writer` to {purpose}."
            )
        return self._system

    def _connection(self, account: str) -> Connection:
        connection = self._connections.get(account)
        if connection is None:
            raise WriteDenied(
                f"No writer is configured for account {account!r} of cluster {self._cluster}: "
                f"add `nats.accounts.{account}.writer` to change it."
            )
        return connection


def _demand_success(answer: JsonObject, subject: str) -> None:
    if answer.get("success") is not True:
        raise OutcomeUnknown(f"The answer on {subject} says neither success nor error.")


def _placement(preferred: str) -> JsonObject | None:
    """Return the body of a step-down; none where any member may lead, for 2.10 refuses a body (10003)."""
    return {"placement": {"preferred": preferred}} if preferred else None


def _consumer_name(config: JsonObject) -> str:
    name, durable = config.get("name"), config.get("durable_name")
    if name and durable and name != durable:
        raise BadInput(f"The configuration names the consumer both {name!r} and {durable!r}.")
    return checked_name("consumer", str(name or durable or ""))
