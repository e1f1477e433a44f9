"""Protocols for one cluster: what reads it, and what changes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from bot.model import Again, Endpoint, JsonObject, KubernetesFacts, Snapshot
from bot.model.kubernetes import Change, Kind, Rehearsal


class Readers(Protocol):
    """Reads one cluster. Raises `Unreadable` where a fact can't be had; never returns a guess."""

    @property
    def cluster(self) -> str: ...

    @property
    def api_timeout(self) -> float:
        """Seconds that an API request of this cluster waits for its answer."""
        ...

    async def gather(
        self, needs: frozenset[Endpoint], *, again: Callable[[Snapshot], Again | None] | None = None
    ) -> Snapshot:
        """Read all servers in one parallel pass. `again` judges that first look, on a thread, and may ask for further rounds of what moves
        (`TRENDS` of bot.model); where it asks for none, the very snapshot that it judged is returned. Never raises for a single fact (it becomes
        unknown); raises `Unreachable` where no server at all could be asked.
        """
        ...

    async def look_elsewhere(self) -> None:
        """Let the next look go through another server: in a broken mesh each one shows only those it has a route to."""
        ...

    async def stream_info(self, account: str, stream: str) -> JsonObject | None:
        """Return `$JS.API.STREAM.INFO` raw; None is a definite *stream not found* (10059)."""
        ...

    async def consumer_info(self, account: str, stream: str, consumer: str) -> JsonObject | None:
        """Return `$JS.API.CONSUMER.INFO` raw; None is a definite *consumer not found* (10014)."""
        ...

    async def missing(self, account: str, stream: str = "") -> frozenset[str]:
        """Return the account's streams, or one stream's consumers, that the meta leader knows and whose leader does not answer. What lives on a server that
        is away is named nowhere else.
        """
        ...

    async def closed_clients(self, server_id: str) -> Sequence[JsonObject]:
        """Return the client connections that a server remembers as closed, as CONNZ has them: `stop` and `reason` say when and why. It remembers the
        last 10,000 (`max_closed_clients`). Raises `Unreadable`.
        """
        ...

    async def kubernetes_object(self, kind: Kind, name: str) -> JsonObject | None:
        """Return one object of the cluster's namespace raw and whole; None is a definite *not found*. Never a Secret."""
        ...

    async def rehearse(self, change: Change) -> Rehearsal:
        """Return what the API server would make of a change (server-side dry run). Nothing is written.

        Kubernetes allows a dry run to whom it allows the write, so it goes under the applier's name; without one, or where it may not, the change stands
        in the answer as it would be sent. Raises `Unreadable` where the object can't be asked for, and `Refused` where the server would refuse.
        """
        ...


class ProbingReaders(Readers, Protocol):
    """Readers that may also send messages of their own, to see whether they arrive. A command that a person runs has them; no phase of flow does,
    so an alert never causes traffic.
    """

    async def probe_delivery(self, snapshot: Snapshot, tell: Callable[[str], None]) -> Snapshot:
        """Return the snapshot with `deliveries`: what was published on each server, counted on every other. `tell` hears in one sentence per account
        what is going to be sent. Raises `BadInput` where there is no login to send with.
        """
        ...


class KubernetesReader(Protocol):
    """Reads the Kubernetes side of one cluster."""

    async def gather(self) -> KubernetesFacts:
        """Read everything in one parallel pass. Never raises for the world: what can't be read is unknown, with the verb and the resource."""
        ...

    async def object(self, kind: Kind, name: str) -> JsonObject | None:
        """Return one object raw and whole; None is a definite *not found*. Raises `Unreadable`."""
        ...


class KubernetesWriter(Protocol):
    """Changes the Kubernetes side of one cluster, as the applier."""

    async def rehearse(self, change: Change) -> Rehearsal:
        """Return what the API server would make of the change. Raises `Unreadable` or `Refused`."""
        ...

    async def write(self, change: Change) -> JsonObject:
        """Send the one change and return the object as it was stored. Raises `NotApplied` or `OutcomeUnknown`; never sends twice."""
        ...


class Writers(Protocol):
    """Changes one cluster. Only actions hold one. Raises `NotApplied` or `OutcomeUnknown`; never resends by itself."""

    async def create_consumer(self, account: str, stream: str, config: JsonObject) -> JsonObject:
        """Create with `"action":"create"`; `config` is the complete raw configuration with its `durable_name` or `name`."""
        ...

    async def delete_consumer(self, account: str, stream: str, consumer: str) -> None:
        """Delete through the meta leader."""
        ...

    async def step_down_consumer(self, account: str, stream: str, consumer: str, preferred: str = "") -> None:
        """Ask the consumer's Raft leader to step down, for the member `preferred` where one is named (2.11.0)."""
        ...

    async def reload_server(self, server_id: str) -> None:
        """Ask one server to load its configuration file again (`$SYS.REQ.SERVER.<id>.RELOAD`, 2.10.0). A server that refuses the file keeps the
        configuration it has, and says so: `ServerRefused`.
        """
        ...

    async def update_stream(self, account: str, stream: str, config: JsonObject) -> JsonObject:
        """Replace a stream's configuration; `config` is complete and raw, for the server takes what is left out for a default. Returns the answer, raw."""
        ...

    async def create_trial(self, account: str, config: JsonObject) -> JsonObject:
        """Create the one stream that natsmedic may create and delete, `TRIAL_STREAM`; `config` is complete but for its name. Returns the answer, raw."""
        ...

    async def delete_trial(self, account: str) -> None:
        """Delete that stream, through the meta leader. There is no way to name another one."""
        ...

    async def kick_client(self, server_id: str, cid: int) -> None:
        """Close one client connection of a server (`$SYS.REQ.SERVER.<id>.KICK`, 2.10.0). Raises `ServerRefused` where it has none of this id."""
        ...

    async def warn_client(self, server_id: str, cid: int) -> None:
        """Tell one client that its server goes into lame-duck mode (`$SYS.REQ.SERVER.<id>.LDM`, 2.10.0), so that it may leave by itself. Raises
        `ServerRefused` where it is not there, or where its protocol has no such message, as MQTT.
        """
        ...

    async def write_object(self, change: Change) -> JsonObject:
        """Change one Kubernetes object of the cluster's namespace and return it as it was stored."""
        ...

    async def step_down_stream(self, account: str, stream: str, preferred: str = "") -> None:
        """Ask the stream's Raft leader to step down, for the member `preferred` where one is named (2.11.0)."""
        ...

    async def step_down_meta(self, preferred: str = "") -> None:
        """Ask the meta leader to step down, for the server `preferred` where one is named (2.11.0)."""
        ...

    async def remove_stream_peer(self, account: str, stream: str, peer: str) -> None:
        """Replace the member `peer` of a stream by another server. An `ApiRefused` of 10075 does not say that the member stays (before 2.15)."""
        ...

    async def remove_server(self, server: str, peer_id: str = "") -> None:
        """Remove a server from the meta group: by its peer id where one is given, else by its name."""
        ...

    async def reset_consumer(self, account: str, stream: str, consumer: str, seq: int | None = None) -> JsonObject:
        """Let a consumer start again at a stream sequence, behind its ack floor where none is given (2.14.0); the answer, raw."""
        ...

    async def pause_consumer(self, account: str, stream: str, consumer: str, until: str = "") -> JsonObject:
        """Pause a consumer until a moment (RFC 3339), or end its pause where none is given (2.11.0); the answer, raw."""
        ...

    async def unpin_consumer(self, account: str, stream: str, consumer: str, group: str) -> None:
        """Let go of the client that is pinned in a priority group of a consumer (2.11.0)."""
        ...
