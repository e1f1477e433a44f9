"""A whole diagnosis against its floor and its peer, in one run: `python -m tests.bench.bench_diagnose [--version V] [CONSUMERS ...]`.

Floor: curl fetching the same JSZ answers of the three servers in parallel. Peer: STREAM.INFO and CONSUMER.INFO of everything through nats-py, one after the
other as its own API offers it. The diagnosis is all runbooks, from opening the connection to the JSON report; the interpreter's start is not counted. Peak
memory is what a process of its own grows by, against the bytes that it receives. Floor and diagnosis take turns, and each turn is a ratio of its own:
the median ratio is what a shared machine disturbs least.
"""

import argparse
import asyncio
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from nats.aio.client import Client

from bot.bootstrap import open_readers, registry, report_on
from bot.cli.report import as_json
from bot.cli.session import spare_the_collector
from bot.flow.examination import look
from bot.lab import drills
from bot.lab.config import SYSREADER
from bot.lab.servers import LabCluster
from bot.model import Endpoint, Focus, Severity
from bot.settings.target import Target

T = TypeVar("T")

RUNS = 21
PER_STREAM = 5
"""Consumers of one stream, as in reference/drills.md 6."""
QUERY = "accounts=1&streams=1&consumers=1&config=1&raft=1"
TICK = os.sysconf("SC_CLK_TCK")
AT_ONCE = 16


def target_of(urls: Sequence[str]) -> Target:
    login = SYSREADER
    return Target(servers=tuple(urls), user=login.user, password=login.password, inbox_prefix=login.inbox_prefix)


async def diagnose(target: Target) -> tuple[Severity, int, int, bool]:
    """Diagnose once; return the verdict, the bytes received, the questions asked, and whether a first look was enough."""
    found = registry()
    async with open_readers(target) as readers:
        snapshot, judged = await look(readers, found.runbooks, {}, Focus())
        report = report_on(snapshot, judged, found)
        as_json(report)
        stats: dict[str, int] = readers._system._client.stats  # type: ignore[attr-defined]
    once = all(snapshot.readings(endpoint) <= 1 for endpoint in Endpoint)
    return report.verdict.severity, stats["in_bytes"], stats["out_msgs"], once


async def walk(client: Client) -> int:
    """Ask for every stream and every consumer, one by one, and return how many questions that were."""
    js = client.jetstream()
    asked = 0
    offset = 0
    while page := await js.streams_info(offset=offset):
        offset += len(page)
        asked += 1
        for stream in page:
            name = stream.config.name or ""
            await js.stream_info(name)
            consumers = await js.consumers_info(name)
            for consumer in consumers:
                await js.consumer_info(name, consumer.name)
            asked += 2 + len(consumers)
    return asked


async def curl(urls: Iterable[str]) -> int:
    """Fetch all with one curl, in parallel, and return the bytes."""
    arguments = [part for url in urls for part in ("-o", "/dev/null", f"{url}/jsz?{QUERY}")]
    process = await asyncio.create_subprocess_exec(
        "curl",
        "-s",
        "-Z",
        "--parallel-immediate",
        "-w",
        "%{size_download}\n",
        *arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    out, _ = await process.communicate()
    return sum(int(line) for line in out.split())


class Turn(NamedTuple):
    """One measurement of something, in seconds."""

    wall: float
    own: float
    """CPU of this process and of the processes that it started and that ended."""
    servers: float
    """CPU of the servers."""


async def timed(cluster: LabCluster, work: Callable[[], Awaitable[T]]) -> tuple[Turn, T]:
    """Return what one run takes, and its result."""
    servers, own, start = cpu_seconds(cluster), own_cpu_seconds(), time.perf_counter()
    result = await work()
    wall = time.perf_counter() - start
    return Turn(wall, own_cpu_seconds() - own, cpu_seconds(cluster) - servers), result


def typical(turns: Sequence[Turn]) -> Turn:
    """Return the medians; of the servers' CPU the mean, because it is counted in coarse ticks."""
    wall, own, servers = zip(*turns, strict=True)
    return Turn(statistics.median(wall), statistics.median(own), statistics.mean(servers))


def own_cpu_seconds() -> float:
    """CPU that this process and its ended children have used so far."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def cpu_seconds(cluster: LabCluster) -> float:
    """CPU that the servers have used so far."""
    total = 0
    for name in cluster.names:
        fields = Path(f"/proc/{cluster.pid(name)}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICK


async def fill(client: Client, consumers: int) -> None:
    """Create R1 memory streams with their consumers."""
    gate = asyncio.Semaphore(AT_ONCE)
    streams = [f"S{number}" for number in range(consumers // PER_STREAM)]

    async def stream(name: str) -> None:
        async with gate:
            await drills.create_stream(client, name, 1, {"storage": "memory"})

    async def consumer(name: str, number: int) -> None:
        async with gate:
            await drills.create_consumer(client, name, f"c{number}")

    await asyncio.gather(*map(stream, streams))
    await asyncio.gather(*(consumer(name, number) for name in streams for number in range(PER_STREAM)))


async def measure(version: str, consumers: int) -> None:
    registry()
    spare_the_collector()  # as every command does before its work begins
    with tempfile.TemporaryDirectory() as directory:
        async with LabCluster(Path(directory), version) as cluster:
            client = await cluster.connect()
            await fill(client, consumers)
            urls = [cluster.monitor_url(name) for name in cluster.names]
            target = target_of(cluster.urls)
            while not (await diagnose(target))[3]:
                await asyncio.sleep(10)  # the errors of a cluster that was filled in seconds are still many for its age
            turns = [
                (await timed(cluster, lambda: curl(urls)), await timed(cluster, lambda: diagnose(target)))
                for _ in range(RUNS)
            ]
            walked, questions = await timed(cluster, lambda: walk(client))
            child = [sys.executable, "-m", __spec__.name, "--memory", json.dumps(cluster.urls)]
            grown, got = json.loads(subprocess.run(child, check=True, capture_output=True).stdout)  # noqa: ASYNC221
            await client.close()
    floor, whole = typical([turn for (turn, _), _ in turns]), typical([turn for _, (turn, _) in turns])
    ratio = statistics.median(ours.wall / curls.wall for (curls, _), (ours, _) in turns)
    (_, received_by_curl), (_, (severity, _, asked, _)) = turns[-1]
    print(
        f"{version}, {consumers} consumers R1 ({severity}): diagnosis {whole.wall * 1000:.0f} ms = x{ratio:.2f} of curl "
        f"({floor.wall * 1000:.0f} ms, {received_by_curl / 1e6:.1f} MB), {walked.wall / whole.wall:.0f} x faster than walking ({walked.wall:.1f} s); "
        f"{whole.wall * 1e6 / consumers:.1f} us per consumer; CPU {whole.own * 1000:.0f} ms and {whole.servers * 1000:.0f} ms of the servers, "
        f"for curl {floor.own * 1000:.0f} and {floor.servers * 1000:.0f}; peak memory {grown / 1e6:.0f} MB = x{grown / got:.1f} of {got / 1e6:.1f} MB received; "
        f"servers: {asked} messages, walking {questions} requests and {walked.servers:.2f} CPU s",
        flush=True,
    )


def memory(where: str) -> None:
    """In a process of its own: print by how much the peak of resident memory grows, and the bytes received."""
    target = target_of(json.loads(where))
    registry()
    spare_the_collector()
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far was the imports'
    before = resident("VmRSS")
    _, received, _, _ = asyncio.run(diagnose(target))
    print(json.dumps([resident("VmHWM") - before, received]))


def resident(field: str) -> int:
    """Return a number of bytes from /proc/self/status."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{field}:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("consumers", nargs="*", type=int, default=[1_000, 5_000])
    parser.add_argument("--version", default="2.11.11")
    parser.add_argument("--memory", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        memory(arguments.memory)
        return
    for consumers in arguments.consumers:
        asyncio.run(measure(arguments.version, consumers))


if __name__ == "__main__":
    main()
