"""The storm of reference/safety.md B4 against a whole bot: `python -m tests.bench.bench_storm [--alerts N] [--seconds S] [--per-delivery N]`.

A real nats-server, the stand-in Slack with Slack's limits, the bot as a process of its own, and a load generator that sends at its own pace whatever the
answers are (an open loop), each delivery on time, what is refused again after its Retry-After. Every 500th alert is page-worthy. Before it, the same webhook
is measured at rest, in the same run: a shared machine shows in both. Prints each limit with what was seen; the exit code is 1 where one is not met.

With `--alertmanager` the alerts are posted to a real Alertmanager (tests/e2e/monitoring.py says where it is looked for) as Prometheus does, and its webhooks
are the storm: each alert by itself, as the README has it, or with `--group-by alertname,cluster` all alerts of a group after `--group-wait` and all of them
again every `--group-interval` for as long as the group grows. A front between the two notes what the bot answered, and how fast.
"""

import argparse
import asyncio
import json
import resource
import sqlite3
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import aiohttp
from aiohttp import web

from bot.lab.servers import LabCluster
from bot.lab.whole import CHANNEL, WholeBot, free_port, lab_slack
from bot.model import JsonObject
from tests.e2e.monitoring import ALONE, routes, running_alertmanager

VERSION = "2.12.8"
AT_REST = 100
"""Deliveries of the baseline, ten a second."""
PAGE_EVERY = 500
CONNECTIONS = 32
MOST_BYTES = 64 * 2**20
"""Of one webhook: more than Alertmanager makes of 10,000 alerts."""
BATCHES_A_SECOND = 10
"""In which Alertmanager is given its alerts."""
SETTLE_SECONDS = 120.0
"""For what is refused to be sent again, what is queued to be folded, and the last threads to be drawn."""

MOST_REFUSED = 0.01
P99_SECONDS = 0.25
MEMORY_MIB = 512.0
FIRST_MESSAGE_SECONDS = 10.0
PAGE_SECONDS = 30.0
CALLS_A_MINUTE = 60
"""Posts into one channel (reference/safety.md B4)."""


@dataclass
class Seen:
    """What the generator and the watcher saw; times are seconds of one clock."""

    began: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter[int])
    latencies: list[float] = field(default_factory=list[float])
    unaccepted: int = 0
    first_message: float | None = None
    pages_sent: dict[str, float] = field(default_factory=dict[str, float])
    pages_shown: dict[str, float] = field(default_factory=dict[str, float])
    peak_mib: float = 0.0


def payload(cluster: str, numbers: Sequence[int]) -> str:
    """Return an Alertmanager body of distinct alerts."""
    alerts = [alert(cluster, number) for number in numbers]
    return json.dumps({"version": "4", "groupKey": "{}", "truncatedAlerts": 0, "status": "firing", "alerts": alerts})


def alert(cluster: str, number: int) -> JsonObject:
    page = number % PAGE_EVERY == PAGE_EVERY - 1
    return {
        "status": "firing",
        "labels": {
            "alertname": f"Page{number}" if page else f"NatsKind{number % 50}",
            "cluster": cluster,
            "severity": "critical" if page else "warning",
            "stream": f"S{number}",
            "account": "APP",
            "instance": f"10.0.{number // 250}.{number % 250}:8222",
        },
        "annotations": {"summary": f"Stream S{number} has a problem.", "description": "x" * 200},
        "startsAt": "2026-11-21T03:00:00Z",
        "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "http://prometheus.example/graph?g0.expr=nats",
        "fingerprint": f"{number:016x}",
    }


class Feeder:
    """Posts alerts to an Alertmanager, each batch at its time."""

    def __init__(self, url: str, cluster: str, session: aiohttp.ClientSession, seen: Seen) -> None:
        self._url = f"{url}/api/v2/alerts"
        self._cluster = cluster
        self._session = session
        self._seen = seen

    async def storm(self, alerts: int, seconds: float) -> None:
        """Post them evenly over so many seconds."""
        self._seen.began = time.perf_counter()
        each = -(-alerts // round(seconds * BATCHES_A_SECOND))
        for first in range(0, alerts, each):
            await asyncio.sleep(max(0.0, self._seen.began + first * seconds / alerts - time.perf_counter()))
            made = [alert(self._cluster, number) for number in range(first, min(first + each, alerts))]
            sent = [{key: one[key] for key in ("labels", "annotations", "generatorURL")} for one in made]
            names = [str(one["labels"]["alertname"]) for one in made]
            async with self._session.post(self._url, json=sent) as answer:
                answer.raise_for_status()
            self._seen.pages_sent |= dict.fromkeys((n for n in names if n.startswith("Page")), time.perf_counter())


class Front:
    """Passes webhooks on to the bot, and notes what became of them."""

    def __init__(self, bot: WholeBot, session: aiohttp.ClientSession, seen: Seen) -> None:
        self._bot = bot
        self._session = session
        self._seen = seen

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[str]:
        """Listen within the block, at the address that is given."""
        app = web.Application(client_max_size=MOST_BYTES)
        app.router.add_post("/webhooks/alertmanager", self._pass_on)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        port = free_port()
        try:
            await web.TCPSite(runner, "127.0.0.1", port).start()
            yield f"http://127.0.0.1:{port}"
        finally:
            await runner.cleanup()

    async def _pass_on(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name: request.headers[name] for name in ("Authorization", "Content-Type")}
        begin = time.perf_counter()
        async with self._session.post(f"{self._bot.url}{request.path}", data=body, headers=headers) as answer:
            said = await answer.read()
            self._seen.latencies.append(time.perf_counter() - begin)
            self._seen.statuses[answer.status] += 1
            return web.Response(status=answer.status, body=said)


class Generator:
    """Sends deliveries, each at its time."""

    def __init__(self, bot: WholeBot, session: aiohttp.ClientSession, seen: Seen) -> None:
        self._url = f"{bot.url}/webhooks/alertmanager"
        self._headers = {"Authorization": f"Bearer {bot.secret}", "Content-Type": "application/json"}
        self._session = session
        self._seen = seen

    async def send(self, body: str) -> int:
        """Send once; return the seconds to wait until it is sent again, 0 where it was stored."""
        begin = time.perf_counter()
        async with self._session.post(self._url, data=body, headers=self._headers) as answer:
            await answer.read()
            self._seen.latencies.append(time.perf_counter() - begin)
            self._seen.statuses[answer.status] += 1
            return 0 if answer.status == 202 else int(answer.headers.get("Retry-After", "15"))

    async def insist(self, body: str, until: float) -> None:
        """Send until it is stored, as Alertmanager does."""
        while wait := await self.send(body):
            if time.perf_counter() + wait > until:
                self._seen.unaccepted += 1
                return
            await asyncio.sleep(wait)

    async def storm(self, bodies: Sequence[tuple[str, list[str]]], seconds: float) -> None:
        """Send them evenly over so many seconds; `bodies` come with the page-worthy names they hold."""
        sending: list[asyncio.Task[None]] = []
        self._seen.began = time.perf_counter()
        until = self._seen.began + seconds + SETTLE_SECONDS
        for place, (body, pages) in enumerate(bodies):
            due = self._seen.began + place * seconds / len(bodies)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            self._seen.pages_sent |= dict.fromkeys(pages, time.perf_counter())
            sending.append(asyncio.create_task(self.insist(body, until)))
        await asyncio.gather(*sending)


async def watch(bot: WholeBot, seen: Seen) -> None:
    """Note when messages appear, and how much memory the bot holds."""
    while True:
        now = time.perf_counter()
        for message in bot.slack.messages(CHANNEL):
            if seen.first_message is None and "Alert storm" in message.text:
                seen.first_message = now
            for name in seen.pages_sent.keys() - seen.pages_shown.keys():
                if name in message.text and "Alert storm" not in message.text:
                    seen.pages_shown[name] = now
        seen.peak_mib = memory(bot, "VmHWM")
        await asyncio.sleep(0.1)


def counted(bot: WholeBot, query: str) -> int:
    connection = sqlite3.connect(f"file:{bot.directory / 'natsmedic.db'}?mode=ro", uri=True)
    try:
        return int(connection.execute(query).fetchone()[0])
    finally:
        connection.close()


async def settle(bot: WholeBot, seen: Seen, alerts: int) -> float:
    """Wait until every alert has come in, nothing is queued and every page-worthy alert has its thread, or time is up; return when the queue was empty."""
    end = time.perf_counter() + SETTLE_SECONDS
    empty = 0.0
    while time.perf_counter() < end:
        if not empty and counted(bot, STORED) >= alerts and counted(bot, QUEUED) == 0:
            empty = time.perf_counter()
        if empty and len(seen.pages_shown) == len(seen.pages_sent):
            break
        await asyncio.sleep(0.2)
    return empty


STORED = "SELECT count(*) FROM incidents WHERE source = 'alertmanager'"
QUEUED = "SELECT count(*) FROM deliveries WHERE NOT processed"


def p(latencies: Sequence[float], percent: int) -> float:
    return statistics.quantiles(latencies, n=100)[percent - 1]


def busiest_minute(times: Sequence[float]) -> int:
    """Return the most calls within any 60 s."""
    ordered = sorted(times)
    return max((sum(start <= one < start + 60 for one in ordered) for start in ordered), default=0)


async def prepared(
    arguments: argparse.Namespace, bot: WholeBot, session: aiohttp.ClientSession, seen: Seen, stack: AsyncExitStack
) -> Callable[[], Awaitable[None]]:
    """Return what makes the storm once it is called."""
    if arguments.alertmanager:
        front = await stack.enter_async_context(Front(bot, session, seen).listening())
        config = routes(bot, front, arguments.group_wait, arguments.group_interval, arguments.group_by.split(","))
        folder = bot.directory.parent
        url = await stack.enter_async_context(running_alertmanager(folder, free_port(), config))
        return partial(Feeder(url, bot.cluster.name, session, seen).storm, arguments.alerts, arguments.seconds)
    bodies = [
        (payload(bot.cluster.name, numbers), [f"Page{n}" for n in numbers if n % PAGE_EVERY == PAGE_EVERY - 1])
        for start in range(0, arguments.alerts, arguments.per_delivery)
        for numbers in [range(start, min(start + arguments.per_delivery, arguments.alerts))]
    ]
    return partial(Generator(bot, session, seen).storm, bodies, arguments.seconds)


async def run(arguments: argparse.Namespace) -> bool:
    with tempfile.TemporaryDirectory(prefix="bench-storm-") as folder:
        async with (
            LabCluster(Path(folder) / "nats", VERSION) as cluster,
            lab_slack() as slack,
            WholeBot(Path(folder) / "bot", cluster, slack) as bot,
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=CONNECTIONS), timeout=aiohttp.ClientTimeout(total=15)
            ) as session,
            AsyncExitStack() as stack,
        ):
            await bot.start()
            await bot.slack.connected()
            rest, seen = Seen(), Seen()
            quiet = Generator(bot, session, rest)
            for number in range(AT_REST):
                resolved = payload(cluster.name, [10**9 + number]).replace('"firing"', '"resolved"')
                await quiet.send(resolved)
                await asyncio.sleep(0.1)
            idle_mib = memory(bot, "VmRSS")
            storm = await prepared(arguments, bot, session, seen, stack)
            watching = asyncio.create_task(watch(bot, seen))
            before = cpu(bot)
            await storm()
            sent = time.perf_counter()
            empty = await settle(bot, seen, arguments.alerts)
            used = cpu(bot) - before
            watching.cancel()
            stored = counted(bot, STORED)
            posts = [call.at for call in slack.calls("chat.postMessage")]
            print(
                f"sent {arguments.alerts} alerts in {sent - seen.began:.1f} s, {len(seen.latencies)} deliveries; answers {dict(seen.statuses)}"
            )
            print(
                f"queue empty {empty - seen.began:.1f} s after the first; the bot used {used:.1f} s of CPU; idle memory {idle_mib:.0f} MiB"
            )
            print(
                f"generator used {resource.getrusage(resource.RUSAGE_SELF).ru_utime:.1f} s of CPU, the stand-in Slack included"
            )
            return report(arguments, rest, seen, stored, posts)


def memory(bot: WholeBot, kind: str) -> float:
    """Return the MiB that the bot holds: VmRSS now, VmHWM at most so far."""
    line = next(x for x in Path(f"/proc/{bot.pid}/status").read_text().splitlines() if x.startswith(kind))
    return int(line.split()[1]) / 1024


def cpu(bot: WholeBot) -> float:
    """Return the CPU seconds that the bot has used."""
    fields = Path(f"/proc/{bot.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def report(arguments: argparse.Namespace, rest: Seen, seen: Seen, stored: int, posts: Sequence[float]) -> bool:
    attempts = sum(seen.statuses.values())
    refused = seen.statuses[503] / attempts
    clientside = sum(count for status, count in seen.statuses.items() if 400 <= status < 500)
    p99, base = p(seen.latencies, 99), p(rest.latencies, 99)
    first = (seen.first_message or float("inf")) - seen.began
    waits = [seen.pages_shown.get(name, float("inf")) - sent for name, sent in seen.pages_sent.items()]
    busiest = busiest_minute(posts)
    print(
        f"at rest: p50 {p(rest.latencies, 50) * 1e3:.1f} ms, p99 {base * 1e3:.1f} ms; storm p50 {p(seen.latencies, 50) * 1e3:.1f} ms, p99 is {p99 / base:.1f} times that at rest"
    )
    limits = [
        ("alerts in incidents", stored, arguments.alerts, stored == arguments.alerts),
        ("4xx", clientside, 0, clientside == 0),
        ("503", f"{refused:.2%}", f"{MOST_REFUSED:.0%}", refused <= MOST_REFUSED),
        ("never accepted", seen.unaccepted, 0, seen.unaccepted == 0),
        ("webhook p99, ms", f"{p99 * 1e3:.0f}", f"{P99_SECONDS * 1e3:.0f}", p99 <= P99_SECONDS),
        ("memory, MiB", f"{seen.peak_mib:.0f}", f"{MEMORY_MIB:.0f}", seen.peak_mib <= MEMORY_MIB),
        ("first storm message, s", f"{first:.1f}", f"{FIRST_MESSAGE_SECONDS:g}", first <= FIRST_MESSAGE_SECONDS),
        (
            f"slowest of {len(waits)} pages, s",
            f"{max(waits, default=0):.1f}",
            f"{PAGE_SECONDS:g}",
            max(waits, default=0) <= PAGE_SECONDS,
        ),
        ("posts in the busiest minute", busiest, CALLS_A_MINUTE, busiest <= CALLS_A_MINUTE),
    ]
    for name, value, limit, met in limits:
        print(f"{'met   ' if met else 'MISSED'} {name:32} {value!s:>8}   limit {limit}")
    return all(met for *_, met in limits)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alerts", type=int, default=10_000)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--per-delivery", type=int, default=1, help="distinct alerts in one webhook request")
    parser.add_argument("--alertmanager", action="store_true", help="through a real Alertmanager")
    parser.add_argument("--group-by", default=ALONE, help="labels of the Alertmanager's groups, with commas between")
    parser.add_argument("--group-wait", default="1s", help="of the Alertmanager")
    parser.add_argument("--group-interval", default="5s", help="of the Alertmanager")
    return 0 if asyncio.run(run(parser.parse_args())) else 1


if __name__ == "__main__":
    sys.exit(main())
