"""Drills of stream groups (family E): histories that fork, holders that are away, members that fall behind.

Each takes a ready `LabCluster`, does its damage with the servers' own means, and returns what it made. Sections of reference/drills.md are named.
"""

import asyncio
import re
import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nats.aio.client import Client
from nats.errors import TimeoutError as RequestTimedOut
from nats.js import JetStreamContext

from bot.lab.binaries import nats_server_binary
from bot.lab.config import APP, HOST, free_ports
from bot.lab.drills import (
    ANSWER_TIMEOUT,
    FLUSH_DELAY,
    create_consumer,
    create_stream,
    move_meta_leader_off,
    publish,
    scale,
    until,
)
from bot.lab.jetstream import ApiRefused, request, section, stream_views
from bot.lab.servers import POLL_INTERVAL, LabCluster
from bot.model import JsonObject, parts

VICTIM: Final = "n2"
"""The server that dies."""

KILL_DELAY: Final = 0.05
"""Seconds between the first scale-up and the death of the holder (drills.md 3.2)."""

DOWN: Final = 1.0
"""Seconds that the holder is away (drills.md 3.2)."""

SETTLED: Final = 6.0
"""Seconds after the restart at which views that still disagree do so for good: until then the server reads its meta log. The clean-up comes at 30."""

ELECTION: Final = 1.0
"""Seconds that a step-down takes until all servers name the new leader."""

RESCUE_SECONDS: Final = 10.0
"""Seconds that a server without a cluster may take to open copied files; it takes tenths."""


@dataclass(frozen=True, slots=True)
class Fork:
    """One stream whose group serves an empty history while a server still holds the messages."""

    stream: str
    messages: int
    holder: str
    leader: str
    outside: bool
    """The holder's copy is outside of the Raft group; else the holder is a member that does not lead."""


async def holder_dies_in_scale_up(cluster: LabCluster, *, streams: int = 3, published: int = 20) -> list[str]:
    """R1 streams on n2 are scaled up to R3, and n2 is killed 50 ms later (drills.md 3.2). Returns their names; n2 stays down.

    Before 2.12 the two empty members elect one of themselves within 10 s, every time; when n2 returns it follows that leader and keeps its messages,
    which nobody asks it for. From 2.12.8 on they wait for n2.
    """
    await move_meta_leader_off(cluster, VICTIM)
    client = await cluster.connect(name="n0")
    try:
        names = [f"S{number}" for number in range(streams)]
        infos = [await _single(client, name, VICTIM, published) for name in names]
        updates = [asyncio.create_task(_scale_up(client, section(info, "config"))) for info in infos]
        await asyncio.sleep(KILL_DELAY)
        await cluster.kill(VICTIM)
        await asyncio.gather(*updates)
    finally:
        await client.close()
    return names


async def new_history(cluster: LabCluster, *, streams: int = 3, published: int = 20) -> list[str]:
    """The same on a version before 2.12; returns once every stream has an empty leader. Raises `LabError`."""
    names = await holder_dies_in_scale_up(cluster, streams=streams, published=published)

    async def led() -> bool:
        views = [await stream_views(cluster, name) for name in names]
        return all(len(view) == 2 and all(v.cluster.leader in view for v in view.values()) for view in views)

    await until(led, f"the empty members of {cluster.version(VICTIM)} elected no leader")
    return names


async def race(cluster: LabCluster, *, streams: int = 20, published: int = 20) -> list[Fork]:
    """Drills.md 3.2 as it was first seen: streams on all servers, n2 away for a second only. Some fork, in more ways than in `new_history`, or none does.

    Returns the forks that are there once n2 has read its meta log.
    """
    client = await cluster.connect(name="n0")
    try:
        names = [f"S{number}" for number in range(streams)]
        infos = [
            await _single(client, name, cluster.names[number % len(cluster.names)], published)
            for number, name in enumerate(names)
        ]
        updates = [asyncio.create_task(_scale_up(client, section(info, "config"))) for info in infos]
        await asyncio.sleep(KILL_DELAY)
        await cluster.kill(VICTIM)
        await asyncio.sleep(DOWN)
        await cluster.restart(VICTIM, ready=False)
        await asyncio.sleep(SETTLED)
        for update in updates:
            update.cancel()
        await asyncio.gather(*updates, return_exceptions=True)
    finally:
        await client.close()
    return [fork for name in names if (fork := await forked(cluster, name, published))]


async def forked(cluster: LabCluster, stream: str, published: int) -> Fork | None:
    """The fork of a stream, None where its leader holds all messages or nobody does."""
    views = await stream_views(cluster, stream)
    leaders = [view.cluster.leader for view in views.values()]
    leader = max(leaders, key=leaders.count, default="")
    holders = [server for server, view in views.items() if view.state.last_seq >= published]
    if leader not in views or leader in holders or not holders:
        return None
    return Fork(stream, published, holders[0], leader, outside=not views[holders[0]].stream_raft_group)


async def lead(cluster: LabCluster, fork: Fork) -> None:
    """Lets the leader step down until the holder leads. Raises `LabError`."""
    preferred: JsonObject | None = {"placement": {"preferred": fork.holder}}
    if cluster.version(fork.holder).startswith("2.10."):
        preferred = None  # err 10003 before 2.11: any member may come next
    client = await cluster.connect()

    async def leads() -> bool:
        if (await stream_views(cluster, fork.stream))[fork.holder].cluster.leader == fork.holder:
            return True
        try:
            await request(client, f"STREAM.LEADER.STEPDOWN.{fork.stream}", preferred)
        except (ApiRefused, RequestTimedOut):
            return False  # an election is under way
        await asyncio.sleep(ELECTION)
        return False

    try:
        await until(leads, f"{fork.holder} did not become leader of {fork.stream}")
    finally:
        await client.close()


async def copy_anew(cluster: LabCluster, fork: Fork) -> None:
    """Scales the stream down to its leader and up again, so that the others copy it; waits until they have. Raises `LabError`."""
    client = await cluster.connect()

    async def held_by(replicas: int) -> bool:
        views = await stream_views(cluster, fork.stream)
        return len(views) == replicas and all(view.state.messages == fork.messages for view in views.values())

    try:
        for replicas in (1, 3):
            await scale(client, fork.stream, replicas)
            await until(lambda n=replicas: held_by(n), f"{fork.stream} is not whole on {replicas} servers")
    finally:
        await client.close()


async def from_standalone(cluster: LabCluster, *, stream: str = "ORDERS", published: int = 100) -> str:
    """A stream that n0 made before it had a cluster (drills.md 3.6): n0 deletes it about 30 s after its start. Returns n0's name."""
    first = cluster.names[0]
    await cluster.stop()
    for name in cluster.names:
        await cluster.wipe_store(name)
    async with alone(cluster, first, cluster.directory / first / "store") as client:
        await create_stream(client, stream, 1)
        await create_consumer(client, stream, "worker")
        await publish(client, stream, published)
    await cluster.start()
    return first


async def copy_files(cluster: LabCluster, server: str, stream: str, to: Path) -> Path:
    """Copies the stream's directory of a running server, as natsmedic's guidance says, and returns a store directory with that stream alone."""
    source = cluster.directory / server / "store" / "jetstream" / APP.account / "streams" / stream
    await asyncio.to_thread(shutil.copytree, source, to / "jetstream" / APP.account / "streams" / stream)
    return to


@asynccontextmanager
async def alone(cluster: LabCluster, like: str, store: Path) -> AsyncGenerator[Client]:
    """A server without a cluster on that store, configured like a lab server otherwise, and a client of APP."""
    client_port, monitor_port = free_ports(2)
    text = (cluster.directory / like / "nats.conf").read_text()
    for pattern, replacement in (
        (r"cluster \{\n.*?\n\}\n", ""),
        (r"store_dir: .*", f'store_dir: "{store}"'),
        (r"listen: .*", f'listen: "{HOST}:{client_port}"'),
        (r"http: .*", f'http: "{HOST}:{monitor_port}"'),
        (r"log_file: .*", f'log_file: "{store.parent / "alone.log"}"'),
    ):
        text = re.sub(pattern, replacement, text, count=1, flags=re.DOTALL if "cluster" in pattern else 0)
    config = store.parent / f"alone-{client_port}.conf"
    config.write_text(text)
    binary = await nats_server_binary(cluster.version(like))
    process = await asyncio.create_subprocess_exec(str(binary), "-c", str(config))
    client = Client()
    try:
        async with asyncio.timeout(RESCUE_SECONDS):
            while not client.is_connected:
                try:
                    await client.connect(
                        f"nats://{HOST}:{client_port}", user=APP.user, password=APP.password, allow_reconnect=False
                    )
                except OSError:
                    await asyncio.sleep(POLL_INTERVAL)
        yield client
    finally:
        await client.close()
        process.terminate()
        await process.wait()


async def backup(client: Client, stream: str) -> int | None:
    """What `nats stream backup` would save: the messages that STREAM.SNAPSHOT announces, None where nobody answers."""
    body: JsonObject = {"deliver_subject": client.new_inbox(), "no_consumers": False}
    try:
        answer = await request(client, f"STREAM.SNAPSHOT.{stream}", body)
    except RequestTimedOut:
        return None
    return int(section(answer, "state").get("messages", 0))


async def single_stream_away(cluster: LabCluster, *, stream: str = "ORDERS", published: int = 50) -> str:
    """An R1 stream whose only holder dies, and with it the only server that knows its name. Returns the holder."""
    client = await cluster.connect(name="n0")
    try:
        await create_stream(client, stream, 1, {"placement": {"tags": [f"node:{VICTIM}"]}})
        await publish(client, stream, published)
    finally:
        await client.close()
    await asyncio.sleep(FLUSH_DELAY)
    await cluster.kill(VICTIM)
    return VICTIM


async def two_of_two(cluster: LabCluster, *, stream: str = "ORDERS", published: int = 50) -> str:
    """An R2 stream that loses one of its two members, and so its quorum (drills.md 3.6). Returns the killed member."""
    client = await cluster.connect()
    try:
        await create_stream(client, stream, 2)
        await publish(client, stream, published)
        victim = str((await _followers(client, stream))[0])
    finally:
        await client.close()
    await cluster.kill(victim)
    return victim


async def fall_behind(cluster: LabCluster, *, stream: str = "ORDERS", operations: int = 400) -> str:
    """A follower that stands still (SIGSTOP) while its leader commits so many operations. Returns the frozen follower."""
    client = await cluster.connect(name="n0")
    try:
        await create_stream(client, stream, 3)
        await publish(client, stream, 10)
        follower = next(name for name in await _followers(client, stream) if name != "n0")
        await cluster.freeze(follower)
        # One at a time: each message is an operation of its own, where a burst shares some.
        await publish(client, stream, operations)
    finally:
        await client.close()
    return follower


@asynccontextmanager
async def throttled(
    cluster: LabCluster, server: str, *, share: float = 0.05, period: float = 0.3
) -> AsyncGenerator[None]:
    """Lets a frozen server run for a share of each period only, as a CPU limit does; at the end it runs freely."""

    async def run() -> None:
        while True:
            await cluster.thaw(server)
            await asyncio.sleep(share * period)
            await cluster.freeze(server)
            await asyncio.sleep((1 - share) * period)

    task = asyncio.create_task(run())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        await cluster.thaw(server)


async def flood(cluster: LabCluster, stream: str, *, messages: int = 3_000) -> None:
    """Publishes so many messages of 20 kB that a member which lacks them needs a while to copy them."""
    client = await cluster.connect(name="n0")
    try:
        jetstream = JetStreamContext(client, timeout=ANSWER_TIMEOUT)
        for _ in range(0, messages, 50):
            await asyncio.gather(*(jetstream.publish(f"{stream}.bulk", bytes(20_000)) for _ in range(50)))
    finally:
        await client.close()


async def _followers(client: Client, stream: str) -> list[str]:
    info = await request(client, f"STREAM.INFO.{stream}")
    return [str(peer.get("name")) for peer in parts(section(info, "cluster"), "replicas")]


async def _single(client: Client, stream: str, holder: str, published: int) -> JsonObject:
    """A stream with one replica on that server, a consumer and messages; returns its info."""
    await create_stream(client, stream, 1, {"placement": {"tags": [f"node:{holder}"]}})
    await create_consumer(client, stream, "worker")
    await publish(client, stream, published)
    return await request(client, f"STREAM.INFO.{stream}")


async def _scale_up(client: Client, config: JsonObject) -> None:
    """One scale-up to three replicas; its answer may get lost with the server that dies."""
    wanted = {key: value for key, value in config.items() if key != "placement"} | {"num_replicas": 3}
    try:
        await request(client, f"STREAM.UPDATE.{config['name']}", wanted)
    except (RequestTimedOut, ApiRefused):
        return
