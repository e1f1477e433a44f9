"""Records the fixtures of this folder from real servers: `python -m tests.unit.runbooks.record [split] [healthy] [audit]` from the project's root.

Every file is what `NatsReaders.gather({JSZ, HEALTHZ, RAFTZ}, again=always(2, 5))` returned, answers untouched, one JSON object per snapshot:
- `split_2.11.11`: drill ghost_split (drills.md 3.3), the limit of n1 still reached
- `split_2.10.26`: the same on a version that does not report its limits
- `split_room_2.11.11`: the same after the decoys are gone: damage without its cause
- `healthy_2.15.1`: one R3 stream and consumer, 60 of 200 delivered, 53 acknowledged
- `frozen_2.15.1`: the same 12 s after SIGSTOP of n1

and, with the needs of the cluster audit and 1 s between its rounds:
- `audit_<version>`: a healthy cluster with one R3 stream (limits, monitoring keys) and two consumers, one of them with monitoring keys
"""

import asyncio
import json
import sys
import tempfile
from pathlib import Path

from bot.lab import drills
from bot.lab.servers import LabCluster
from bot.model import Endpoint, Snapshot
from runbooks.cluster_audit import RUNBOOK
from tests.integration.nats_support import reading, settings_of
from tests.rounds import always

FIXTURES = Path(__file__).parent / "fixtures"
NEEDS = frozenset({Endpoint.JSZ, Endpoint.HEALTHZ, Endpoint.RAFTZ})


AUDITED = ("2.10.26", "2.11.11", "2.12.8", "2.15.1")
"""One version of each line."""

STREAM_KEYS = {
    "io.nats.monitor.enabled": "true",
    "io.nats.monitor.peer-expect": "3",
    "io.nats.monitor.peer-lag-critical": "100",
    "io.nats.monitor.peer-seen-critical": "1m",
    "io.nats.monitor.msgs-critical": "10",
    "io.nats.monitor.subjects-warn": "50",
    "io.nats.monitor.subjects-critical": "100",
}
CONSUMER_KEYS = {
    "io.nats.monitor.enabled": "true",
    "io.nats.monitor.outstanding-ack-critical": "100",
    "io.nats.monitor.unprocessed-critical": "1000",
    "io.nats.monitor.last-delivery-critical": "1d",
    "io.nats.monitor.last-ack-critical": "1d",
}


async def keep(
    cluster: LabCluster, name: str, version: str, needs: frozenset[Endpoint] = NEEDS, interval: float = 5.0
) -> None:
    async with reading(settings_of(cluster, timeout=2.0)) as readers:
        snapshot = await readers.gather(needs, again=always(2, interval))
    (FIXTURES / f"{name}_{version}.json").write_text(json.dumps(as_json(snapshot), separators=(",", ":")) + "\n")


def as_json(snapshot: Snapshot) -> dict[str, object]:
    samples = [
        {
            "server": s.server,
            "endpoint": s.endpoint.value,
            "round": s.round,
            "taken_at": s.taken_at.isoformat(),
            "data": s.answer,
            "unknown": s.unknown.model_dump(mode="json") if s.unknown else None,
        }
        for s in snapshot.samples
    ]
    servers = [s.model_dump(mode="json") for s in snapshot.servers]
    taken_at, expected = snapshot.taken_at.isoformat(), sorted(snapshot.expected)
    return {
        "cluster": snapshot.cluster,
        "taken_at": taken_at,
        "expected": expected,
        "servers": servers,
        "samples": samples,
    }


async def record_split(version: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with LabCluster(Path(folder), version, max_ha_assets={"n1": 5}) as cluster:
            drill = await drills.ghost_split(cluster)
            await keep(cluster, "split", version)
            if version == "2.11.11":
                await drills.remove_decoys(cluster, drill)
                await asyncio.sleep(1)
                await keep(cluster, "split_room", version)


async def record_healthy(version: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with LabCluster(Path(folder), version) as cluster:
            client = await cluster.connect()
            await drills.create_stream(client, "ORDERS", 3)
            await drills.create_consumer(client, "ORDERS", "worker")
            await drills.publish(client, "ORDERS", 200)
            messages = await drills.fetch(client, "ORDERS", "worker", 60)
            for seq in (*range(1, 51), 53, 56, 59):
                await messages[seq].ack_sync(timeout=5)
            await client.close()
            await asyncio.sleep(1)
            await keep(cluster, "healthy", version)
            await cluster.freeze("n1")
            await asyncio.sleep(12)
            await keep(cluster, "frozen", version)
            await cluster.thaw("n1")


async def record_audit(version: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with LabCluster(Path(folder), version) as cluster:
            client = await cluster.connect()
            limits = {"max_msgs": 1_000, "max_bytes": 1_000_000, "max_consumers": 10}
            await drills.create_stream(client, "ORDERS", 3, limits | {"metadata": STREAM_KEYS})
            await drills.create_consumer(client, "ORDERS", "worker", {"metadata": CONSUMER_KEYS})
            await drills.create_consumer(client, "ORDERS", "plain")
            await drills.publish(client, "ORDERS", 200)
            for message in (await drills.fetch(client, "ORDERS", "worker", 60)).values():
                await message.ack_sync(timeout=5)
            await client.close()
            await asyncio.sleep(2)
            await keep(cluster, "audit", version, RUNBOOK.needs, interval=1.0)


async def main(wanted: frozenset[str]) -> None:
    """Record what is named, everything where nothing is."""
    if not wanted or "split" in wanted:
        await record_split("2.10.26")
        await record_split("2.11.11")
    if not wanted or "healthy" in wanted:
        await record_healthy("2.15.1")
    if not wanted or "audit" in wanted:
        for version in AUDITED:
            await record_audit(version)


if __name__ == "__main__":
    asyncio.run(main(frozenset(sys.argv[1:])))
