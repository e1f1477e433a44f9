"""How long a snapshot takes, against one raw `$SYS.REQ.SERVER.PING.JSZ` with all answers: `python tests/bench/bench_nats_gather.py [version]`."""

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg

from bot.lab import drills
from bot.lab.config import SYSREADER
from bot.lab.servers import LabCluster
from bot.model import Endpoint
from tests.integration.nats_support import ALL, reading, settings_of
from tests.rounds import always

RUNS = 9
STATE = frozenset({Endpoint.VARZ, Endpoint.JSZ, Endpoint.HEALTHZ, Endpoint.ROUTEZ, Endpoint.RAFTZ})
"""What the consumer runbooks read; the other endpoints come on top."""
STREAMS, CONSUMERS = 200, 1000


async def raw_jsz(client: Client, servers: int) -> None:
    """The floor: one question, every server's answer, decoded."""
    inbox = client.new_inbox()
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    answers: list[object] = []

    async def take(message: Msg) -> None:
        answers.append(orjson.loads(message.data))
        if len(answers) == servers:
            done.set_result(None)

    subscription = await client.subscribe(inbox, cb=take)
    body = {"accounts": True, "streams": True, "consumer": True, "config": True, "raft": True}
    await client.publish("$SYS.REQ.SERVER.PING.JSZ", orjson.dumps(body), reply=inbox)
    await asyncio.wait_for(done, 10)
    await subscription.unsubscribe()


async def median_ms(work: Callable[[], Awaitable[object]]) -> float:
    took: list[float] = []
    for _ in range(RUNS):
        start = time.perf_counter()
        await work()
        took.append((time.perf_counter() - start) * 1000)
    return statistics.median(took)


async def report(cluster: LabCluster, what: str) -> None:
    client = await cluster.connect(SYSREADER)
    urls = [cluster.monitor_url(name) for name in cluster.names]
    async with (
        reading(settings_of(cluster)) as sys_,
        reading(settings_of(cluster, system=None, monitoring=urls)) as http,
    ):
        await sys_.gather(ALL)
        raw = await median_ms(lambda: raw_jsz(client, len(cluster.names)))
        jsz = await median_ms(lambda: sys_.gather(frozenset({Endpoint.JSZ})))
        state = await median_ms(lambda: sys_.gather(STATE))
        everything = await median_ms(lambda: sys_.gather(ALL))
        twice = await median_ms(lambda: sys_.gather(ALL, again=always(2)))
        over_http = await median_ms(lambda: http.gather(ALL))
        snapshot = await sys_.gather(ALL)
        start = time.perf_counter()
        views = len(snapshot.consumers())
        parse = (time.perf_counter() - start) * 1000
    await client.close()
    print(
        f"{what}: raw PING.JSZ {raw:.1f} ms; gather JSZ {jsz:.1f} ms (x{jsz / raw:.1f}); five endpoints {state:.1f} ms (x{state / raw:.1f}); "
        f"all {everything:.1f} ms (x{everything / raw:.1f}), in two rounds {twice:.1f} ms (x{twice / raw:.1f}); "
        f"all over HTTP {over_http:.1f} ms (x{over_http / raw:.1f}); views of {views} consumers parsed in {parse:.1f} ms"
    )


async def main(version: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        async with LabCluster(Path(directory), version) as cluster:
            await report(cluster, f"{version}, empty")
            client = await cluster.connect()
            for number in range(STREAMS):
                await drills.create_stream(client, f"S{number}", 1)
                for consumer in range(CONSUMERS // STREAMS):
                    await drills.create_consumer(client, f"S{number}", f"c{consumer}")
            await client.close()
            await report(cluster, f"{version}, {STREAMS} streams and {CONSUMERS} consumers R1")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "2.11.11"))
