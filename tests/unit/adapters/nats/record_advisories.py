"""Records what the servers publish, one advisory of each kind: `python -m tests.unit.adapters.nats.record_advisories VERSION...`, as root.

A disk that fills up is a small tmpfs below the store of one server, which only root may mount. 2.10.26 and 2.11.11 then disable its JetStream and publish
SERVER.OUT_OF_STORAGE; in the same drill 2.12.8 and 2.15.1 do not.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from nats.aio.client import Client
from nats.aio.msg import Msg

from bot.lab.config import APP, SYS, Login
from bot.lab.drills import create_consumer, create_stream, fetch, publish, request, until
from bot.lab.jetstream import ApiRefused, section
from bot.lab.servers import LabCluster
from bot.model import JsonObject

FOLDER = Path(__file__).parent / "fixtures"
WANTED = (
    *("STREAM.QUORUM_LOST", "STREAM.LEADER_ELECTED", "CONSUMER.QUORUM_LOST", "CONSUMER.LEADER_ELECTED"),
    *("CONSUMER.MAX_DELIVERIES", "API.LIMIT_REACHED", "DOMAIN.LEADER_ELECTED"),
    *("SERVER.OUT_OF_STORAGE", "SERVER.REMOVED"),
)
SMALL_DISK = "12m"

Heard = dict[tuple[str, str], JsonObject]
"""Account and kind to the first advisory of it."""


@asynccontextmanager
async def listening(cluster: LabCluster, login: Login, server: str, heard: Heard) -> AsyncGenerator[Client]:
    async def take(message: Msg) -> None:
        kind = message.subject.removeprefix("$JS.EVENT.ADVISORY.")
        found = next((wanted for wanted in WANTED if kind.startswith(wanted)), None)
        if found is not None:
            row = {"account": login.account, "subject": message.subject, "payload": message.data.decode()}
            heard.setdefault((login.account, found), row)

    client = await cluster.connect(login, server)
    await client.subscribe("$JS.EVENT.ADVISORY.>", cb=take)
    await client.flush()
    try:
        yield client
    finally:
        await client.close()


async def run(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(*command)
    if await process.wait() != 0:
        raise RuntimeError(f"{' '.join(command)} failed; only root may mount")


async def calm(version: str, folder: Path, heard: Heard) -> None:
    """Elections, a message delivered too often, a burst of requests, a lost quorum."""
    async with LabCluster(folder, version, jetstream={"request_queue_limit": 20}) as cluster:
        owner = await cluster.connect(APP)
        await create_stream(owner, "ORDERS", 3)
        keep = str(section(await request(owner, "STREAM.INFO.ORDERS"), "cluster")["leader"])
        await owner.close()
        async with (
            listening(cluster, SYS, keep, heard) as system,
            listening(cluster, APP, keep, heard) as owner,
        ):
            await create_consumer(owner, "ORDERS", "worker", {"max_deliver": 1, "ack_wait": 10**9})
            await publish(owner, "ORDERS", 1)
            await fetch(owner, "ORDERS", "worker", 1)
            await asyncio.sleep(1.5)
            await fetch(owner, "ORDERS", "worker", 1, wait=0.5)
            await request(owner, "STREAM.LEADER.STEPDOWN.ORDERS")
            await request(system, "META.LEADER.STEPDOWN")
            await asyncio.sleep(3)
            for number in range(3_000):
                body = {"stream_name": "ORDERS", "config": {"name": f"b{number}", "mem_storage": True}}
                await owner.publish(f"$JS.API.CONSUMER.CREATE.ORDERS.b{number}", json.dumps(body).encode(), reply="x")
            await owner.flush()
            await asyncio.sleep(2)
            for other in cluster.names:
                if other != keep:
                    await cluster.kill(other)

            async def lost() -> bool:
                return {("SYS", "STREAM.QUORUM_LOST"), ("SYS", "CONSUMER.QUORUM_LOST")} <= heard.keys()

            await until(lost, "no quorum was lost")


async def rough(version: str, folder: Path, heard: Heard) -> None:
    """A full disk on n0, and n1 removed from the meta group."""
    store = folder / "n0" / "store"
    store.mkdir(parents=True)
    await run("mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(store))
    try:
        async with (
            LabCluster(folder, version, jetstream={"max_file_store": 1_000_000_000}) as cluster,
            listening(cluster, SYS, "n2", heard) as system,
            listening(cluster, APP, "n2", heard) as owner,
        ):
            await create_stream(owner, "FULL", 3)
            for _ in range(64):
                with suppress(Exception):
                    await owner.request("FULL.x", b"x" * 500_000, timeout=1)

            await asyncio.sleep(5)  # n0 may still be applying what filled its disk

            async def removed() -> bool:
                with suppress(
                    TimeoutError, ApiRefused
                ):  # the leader may just have lost its JetStream; a second removal is refused
                    await request(system, "SERVER.REMOVE", {"peer": "n1"})
                return ("SYS", "SERVER.REMOVED") in heard

            await until(removed, "n1 did not hear that it was removed")
    finally:
        await run("umount", "-l", str(store))


async def record(version: str) -> None:
    heard: Heard = {}
    for part in (calm, rough):
        with tempfile.TemporaryDirectory() as folder:
            await part(version, Path(folder) / "nats", heard)
    rows = [heard[key] for key in sorted(heard)]
    (FOLDER / f"advisories_{version}.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(version, [f"{account} {kind}" for account, kind in sorted(heard)])


if __name__ == "__main__":
    for wanted_version in sys.argv[1:]:
        asyncio.run(record(wanted_version))
