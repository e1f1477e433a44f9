"""One cluster from both sides at once: NATS itself, and the Kubernetes it runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import structlog

from bot.adapters.kubernetes.redaction import shown
from bot.errors import ReadDenied, Unreadable
from bot.model import (
    Again,
    Endpoint,
    JsonObject,
    KubernetesFacts,
    Snapshot,
    SnapshotId,
    Unknown,
    UnknownReason,
    new_id,
)
from bot.model.kubernetes import ONLY_KUBERNETES, Change, Kind, Rehearsal
from bot.ports import Clock, KubernetesReader, KubernetesWriter, ProbingReaders, Writers

log = structlog.get_logger(__name__)


class ClusterReaders:
    """Implements `bot.ports.ProbingReaders`: the snapshots of `nats`, with what `kubernetes` read meanwhile in them."""

    def __init__(
        self, nats: ProbingReaders, kubernetes: KubernetesReader, clock: Clock, applier: KubernetesWriter | None = None
    ) -> None:
        self._nats = nats
        self._kubernetes = kubernetes
        self._clock = clock
        self._applier = applier

    @property
    def cluster(self) -> str:
        """Name of the cluster in the settings."""
        return self._nats.cluster

    @property
    def api_timeout(self) -> float:
        """Seconds that an API request waits for its answer."""
        return self._nats.api_timeout

    async def gather(
        self, needs: frozenset[Endpoint], *, again: Callable[[Snapshot], Again | None] | None = None
    ) -> Snapshot:
        """Take both sides in one parallel pass; `again` sees them together.

        Where no server answers, the snapshot holds what Kubernetes says alone: why pods do not run stands there. Raises `Unreachable`
        where Kubernetes has no word on the cluster either.
        """
        loop = asyncio.get_running_loop()
        looking = asyncio.create_task(self._kubernetes.gather())
        judged: Snapshot | None = None

        def judge(first: Snapshot) -> Again | None:
            """Judge on the thread where the NATS side calls it, as soon as the other side is there."""
            nonlocal judged
            judged = _with(first, asyncio.run_coroutine_threadsafe(_result(looking), loop).result())
            return again(judged) if again else None

        try:
            snapshot = await self._nats.gather(needs, again=judge if again else None)
            facts = await looking
        except Unreadable as error:
            facts = await looking
            if isinstance(facts.workloads, Unknown) or not facts.workloads:
                raise
            return self._without_servers(facts, error)
        finally:
            looking.cancel()
        return judged if judged is not None and judged.id == snapshot.id else _with(snapshot, facts)

    async def look_elsewhere(self) -> None:
        await self._nats.look_elsewhere()

    async def stream_info(self, account: str, stream: str) -> JsonObject | None:
        return await self._nats.stream_info(account, stream)

    async def consumer_info(self, account: str, stream: str, consumer: str) -> JsonObject | None:
        return await self._nats.consumer_info(account, stream, consumer)

    async def missing(self, account: str, stream: str = "") -> frozenset[str]:
        return await self._nats.missing(account, stream)

    async def closed_clients(self, server_id: str) -> Sequence[JsonObject]:
        return await self._nats.closed_clients(server_id)

    async def kubernetes_object(self, kind: Kind, name: str) -> JsonObject | None:
        return await self._kubernetes.object(kind, name)

    async def rehearse(self, change: Change) -> Rehearsal:
        """Ask the API server, as the applier; where there is none, or it may not, show the change as it would be sent."""
        if self._applier is not None:
            try:
                return await self._applier.rehearse(change)
            except ReadDenied:
                log.warning("the applier may not even rehearse a change", change=str(change), cluster=self.cluster)
        return shown(change, by_server=False)

    async def probe_delivery(self, snapshot: Snapshot, tell: Callable[[str], None]) -> Snapshot:
        return await self._nats.probe_delivery(snapshot, tell)

    def _without_servers(self, facts: KubernetesFacts, error: Unreadable) -> Snapshot:
        reason = UnknownReason.DENIED if isinstance(error, ReadDenied) else UnknownReason.UNREACHABLE
        snapshot = Snapshot(
            id=SnapshotId(new_id("snap")),
            cluster=self.cluster,
            taken_at=self._clock.now(),
            via=ONLY_KUBERNETES,
            servers=(),
            samples=(),
            unknown=(Unknown(reason=reason, detail=str(error)),),
        )
        return _with(snapshot, facts)


class ClusterWriters:
    """Implements `bot.ports.Writers`: the changes of `nats`, and those of Kubernetes as the applier."""

    def __init__(self, nats: Writers, kubernetes: KubernetesWriter) -> None:
        self._nats = nats
        self._kubernetes = kubernetes

    async def create_consumer(self, account: str, stream: str, config: JsonObject) -> JsonObject:
        return await self._nats.create_consumer(account, stream, config)

    async def delete_consumer(self, account: str, stream: str, consumer: str) -> None:
        await self._nats.delete_consumer(account, stream, consumer)

    async def step_down_consumer(self, account: str, stream: str, consumer: str, preferred: str = "") -> None:
        await self._nats.step_down_consumer(account, stream, consumer, preferred)

    async def reload_server(self, server_id: str) -> None:
        await self._nats.reload_server(server_id)

    async def update_stream(self, account: str, stream: str, config: JsonObject) -> JsonObject:
        return await self._nats.update_stream(account, stream, config)

    async def create_trial(self, account: str, config: JsonObject) -> JsonObject:
        return await self._nats.create_trial(account, config)

    async def delete_trial(self, account: str) -> None:
        await self._nats.delete_trial(account)

    async def kick_client(self, server_id: str, cid: int) -> None:
        await self._nats.kick_client(server_id, cid)

    async def warn_client(self, server_id: str, cid: int) -> None:
        await self._nats.warn_client(server_id, cid)

    async def write_object(self, change: Change) -> JsonObject:
        return await self._kubernetes.write(change)

    async def step_down_stream(self, account: str, stream: str, preferred: str = "") -> None:
        await self._nats.step_down_stream(account, stream, preferred)

    async def step_down_meta(self, preferred: str = "") -> None:
        await self._nats.step_down_meta(preferred)

    async def remove_stream_peer(self, account: str, stream: str, peer: str) -> None:
        await self._nats.remove_stream_peer(account, stream, peer)

    async def remove_server(self, server: str, peer_id: str = "") -> None:
        await self._nats.remove_server(server, peer_id)

    async def reset_consumer(self, account: str, stream: str, consumer: str, seq: int | None = None) -> JsonObject:
        return await self._nats.reset_consumer(account, stream, consumer, seq)

    async def pause_consumer(self, account: str, stream: str, consumer: str, until: str = "") -> JsonObject:
        return await self._nats.pause_consumer(account, stream, consumer, until)

    async def unpin_consumer(self, account: str, stream: str, consumer: str, group: str) -> None:
        await self._nats.unpin_consumer(account, stream, consumer, group)


def _with(snapshot: Snapshot, facts: KubernetesFacts) -> Snapshot:
    return replace(snapshot, kubernetes=facts, unknown=snapshot.unknown + facts.unknown)


async def _result(looking: asyncio.Task[KubernetesFacts]) -> KubernetesFacts:
    return await asyncio.shield(looking)
