"""Changes one cluster through the JetStream API, with the writing credentials and connections of their own."""

from __future__ import annotations

from collections.abc import Mapping

from bot.adapters.nats.api import checked_filter, checked_name, write
from bot.adapters.nats.connection import Connection
from bot.adapters.nats.direct import REDIALS
from bot.errors import ApiRefused, BadInput, NoResponders, OutcomeUnknown, ServerRefused, WriteDenied
from bot.model import JsonObject
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

    async def step_down_consumer(self, account: str, stream: str, consumer: str) -> None:
        """Ask the consumer's Raft leader to step down."""
        subject = (
            f"$JS.API.CONSUMER.LEADER.STEPDOWN.{checked_name('stream', stream)}.{checked_name('consumer', consumer)}"
        )
        await self._succeed(account, subject)

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

    async def write_object(self, change: Change) -> JsonObject:
        """There is nobody to write as: `ClusterWriters` knows both sides."""
        raise WriteDenied(
            f"No applier is configured for cluster {self._cluster}: add `kubernetes.applier` to {change}."
        )

    async def aclose(self) -> None:
        """Close all connections."""
        for connection in (*([self._system] if self._system else []), *self._connections.values()):
            await connection.aclose()

    async def _ask_server(self, server_id: str, verb: str, what: str, body: JsonObject | None = None) -> None:
        if self._system is None:
            raise WriteDenied(
                f"No writer of the system account is configured for cluster {self._cluster}: add `nats.system_writer` to ask a server to {what}."
            )
        subject = f"$SYS.REQ.SERVER.{checked_name('server', server_id)}.{verb}"
        for attempt in range(REDIALS, -1, -1):
            try:
                await write(self._system, subject, body)
            except ApiRefused as error:
                raise ServerRefused(what, error.code, error.description.strip()) from error
            except NoResponders:
                await self._system.aclose()
                if not attempt:
                    raise
                continue
            return

    async def _succeed(self, account: str, subject: str) -> None:
        answer = await write(self._connection(account), subject)
        if answer.get("success") is not True:
            raise OutcomeUnknown(f"The answer on {subject} says neither success nor error.")

    def _connection(self, account: str) -> Connection:
        connection = self._connections.get(account)
        if connection is None:
            raise WriteDenied(
                f"No writer is configured for account {account!r} of cluster {self._cluster}: "
                f"add `nats.accounts.{account}.writer` to change it."
            )
        return connection


def _consumer_name(config: JsonObject) -> str:
    name, durable = config.get("name"), config.get("durable_name")
    if name and durable and name != durable:
        raise BadInput(f"The configuration names the consumer both {name!r} and {durable!r}.")
    return checked_name("consumer", str(name or durable or ""))
