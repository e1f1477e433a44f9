"""`make demo`: three real nats-servers, a stand-in Slack with a web page, the bot on SQLite, and a consumer broken on purpose.

`--scenario` chooses another incident, on a stand-in Kubernetes (bot.lab.kubernetes_demo). The visitor reads the thread and presses the button. `--headless` has two scripted people press it through the stand-in's own HTTP interface,
prints the thread as text, and exits 0 only if the consumer delivers again and the audit chain verifies.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from bot.lab import kubernetes_demo
from bot.lab.drills import Drill, fetch, ghost_split, remove_decoys
from bot.lab.drills import publish as publish_orders
from bot.lab.servers import LabCluster, LabError
from bot.lab.whole import ADA, BO, CHANNEL, VERIFIED_BOARD, WholeBot, lab_slack
from bot.model import JsonObject

VERSION = "2.11.11"
"""A version on which `group node missing` happens, and stays after its cause is gone (reference/drills.md 3.3)."""
ROOM_ON_N1 = 4
"""max_ha_assets of the server that runs out of room for one more Raft group."""
STREAM, CONSUMER = "ORDERS", "worker"
STUCK_CONSUMER = "stuck-consumer"
REPAIR_SECONDS = 180.0
VISIT_SECONDS = 24 * 3600.0
DRAIN_BATCH = 50
DRAIN_WAIT = 1.5
"""Seconds of silence after which a worker has got everything."""
MORE_ORDERS = 40


@dataclass(frozen=True)
class Drained:
    """What a worker got after the repair."""

    got: Counter[int]
    must: frozenset[int]

    @property
    def lost(self) -> list[int]:
        return sorted(self.must - self.got.keys())

    @property
    def repeated(self) -> list[int]:
        """Sequences that had been acknowledged before, or came twice."""
        return sorted(seq for seq, times in self.got.items() if times > 1 or seq not in self.must)


def say(line: str) -> None:
    """Print one line at once; the demo is read while it runs."""
    print(line, flush=True)


async def break_consumer(cluster: LabCluster) -> Drill:
    """Let n1 run out of room while the stream is scaled to three replicas, then make room again: the damage stays."""
    drill = await ghost_split(cluster, stream=STREAM, consumers=(CONSUMER,))
    await remove_decoys(cluster, drill)
    return drill


async def drain(cluster: LabCluster, drill: Drill, published: int) -> Drained:
    """Work as the application does: pull and acknowledge until nothing comes any more."""
    got: Counter[int] = Counter()
    client = await cluster.connect()
    try:
        while batch := await fetch(client, drill.stream, drill.worker.name, DRAIN_BATCH, wait=DRAIN_WAIT):
            for seq, message in batch.items():
                got[seq] += 1
                await message.ack_sync(timeout=DRAIN_WAIT)
    finally:
        await client.close()
    return Drained(got, frozenset(range(1, published + 1)) - frozenset(drill.worker.acked))


@asynccontextmanager
async def stage(directory: Path, port: int) -> AsyncGenerator[WholeBot]:
    """Start servers, stand-in Slack and bot."""
    slack = lab_slack()
    async with LabCluster(directory / "nats", VERSION, max_ha_assets={"n1": ROOM_ON_N1}) as cluster:
        say(f"  three nats-servers {VERSION} with JetStream: {', '.join(cluster.urls)}")
        await slack.start(port=port)
        try:
            async with WholeBot(directory, cluster, slack) as bot:
                await bot.start()
                say(f"  the bot, on SQLite: natsmedic --config {bot.config} serve")
                yield bot
        finally:
            await slack.stop()


async def approve_headless(bot: WholeBot, user: str, reason: str) -> None:
    """Press Approve and fill the form in, over the stand-in's HTTP interface, as its web page does."""
    message = await bot.see_button("approve")
    async with httpx.AsyncClient(base_url=bot.slack.page_url, timeout=30) as lab:
        await _gesture(lab, "lab/click", {"user": user, "channel": CHANNEL, "ts": message.ts, "what": "approve"})
        await bot.wait(lambda: bot.form(user), 10, f"no form opened for {user}")
        form: JsonObject = {"user": user, "values": {"reason": reason, "typed_name": CONSUMER}}
        await _gesture(lab, "lab/submit", form)


async def _gesture(lab: httpx.AsyncClient, path: str, body: JsonObject) -> None:
    answer = await lab.post(path, json=body)
    answer.raise_for_status()
    result = answer.json()
    if result.get("errors") or result.get("failure"):
        raise LabError(f"Slack refused {path} {body}: {result}")


async def audit_verifies(bot: WholeBot) -> bool:
    """Run `natsmedic audit verify` as a user would, and print what it says."""
    code, output = await bot.command("audit", "verify")
    say(f"$ natsmedic --config {bot.config} audit verify\n{output.rstrip()}")
    return code == 0


async def incident(bot: WholeBot, started: float) -> Drill:
    """Break the consumer, post the alert, and wait for the first message in the thread."""
    drill = await break_consumer(bot.cluster)
    worker = drill.worker
    say(
        f"  {drill.published} orders published, {len(worker.acked)} done, {len(worker.unacked)} in work; then ORDERS was scaled to 3 replicas"
        f" while {drill.sick[0]} had no room:\n  consumer {CONSUMER!r} has lost its Raft node there, and {drill.sick[0]} now serves old orders again"
    )
    posted = time.monotonic()
    answer = await bot.alert(labels={"account": "APP", "stream": STREAM, "consumer": CONSUMER})
    say(f"  Alertmanager webhook posted: HTTP {answer.status_code}")
    await bot.wait(lambda: bot.board() is not None, 30, "no thread appeared")
    now = time.monotonic()
    say(f"  first message in the thread {now - posted:.1f} s after the alert, {now - started:.1f} s after the start")
    return drill


async def settled(bot: WholeBot, within: float = REPAIR_SECONDS) -> None:
    """Wait until natsmedic itself has looked again and says so on the status board."""
    await bot.see(VERIFIED_BOARD, within)


async def after_repair(bot: WholeBot, drill: Drill) -> bool:
    """Prove with a worker that the consumer delivers again: nothing lost, repeats counted."""
    client = await bot.cluster.connect()
    try:
        await publish_orders(client, STREAM, MORE_ORDERS)
    finally:
        await client.close()
    drained = await drain(bot.cluster, drill, drill.published + MORE_ORDERS)
    _, predicted = await bot.predicted()
    say(
        f"  the worker got {sum(drained.got.values())} messages: {len(drained.must) - len(drained.lost)} of {len(drained.must)} that had to come,"
        f" {len(drained.lost)} lost, {len(drained.repeated)} repeated ({predicted} predicted at most)"
    )
    return not drained.lost and len(drained.repeated) <= predicted


async def headless(bot: WholeBot, started: float) -> bool:
    """Play the whole incident; return whether everything is as promised."""
    drill = await incident(bot, started)
    await approve_headless(bot, ADA, "the worker repeats old orders")
    await bot.wait(lambda: "1 of 2" in bot.slack.render_text(CHANNEL), 20, "the first approval never showed")
    await approve_headless(bot, BO, "checked with the shop: orders are idempotent")
    await settled(bot)
    delivers = await after_repair(bot, drill)
    say("\n----- the thread -----\n" + bot.slack.render_text(CHANNEL) + "\n----------------------\n")
    verifies = await audit_verifies(bot)
    say(f"consumer delivers again: {'yes' if delivers else 'NO'} · audit chain verifies: {'yes' if verifies else 'NO'}")
    return delivers and verifies


async def with_visitor(bot: WholeBot, started: float) -> bool:
    """Leave the buttons to the visitor, and stay until Ctrl-C."""
    drill = await incident(bot, started)
    say(f"\n  Open {bot.slack.page_url}")
    say(
        "  Be Ada and press Approve, then be Bo and approve as well: this repair needs two people. Ctrl-C ends the demo.\n"
    )
    await settled(bot, within=VISIT_SECONDS)
    await after_repair(bot, drill)
    say("  Repaired. The page stays open until Ctrl-C.")
    await asyncio.Event().wait()
    return True


async def run(directory: Path, scenario: str, *, scripted: bool, port: int) -> bool:
    """Run one scenario in `directory`."""
    if scenario != STUCK_CONSUMER:
        return await kubernetes_demo.run(directory, scenario, scripted=scripted, port=port, say=say)
    started = time.monotonic()
    say("natsmedic demo")
    async with stage(directory, port) as bot:
        say(f"  Slack, as a page: {bot.slack.page_url}")
        return await (headless if scripted else with_visitor)(bot, started)


def main() -> int:
    """Parse the arguments and run."""
    parser = argparse.ArgumentParser(
        prog="natsmedic demo", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--headless", action="store_true", help="two scripted people approve; exit 0 only if it is repaired"
    )
    parser.add_argument("--data", type=Path, metavar="DIR", help="keep natsmedic.yaml, natsmedic.db and logs there")
    parser.add_argument(
        "--scenario",
        choices=(STUCK_CONSUMER, *kubernetes_demo.SCENARIOS),
        default=STUCK_CONSUMER,
        help="which incident (default: %(default)s); the others need Linux, for their stand-in Kubernetes",
    )
    parser.add_argument("--port", type=int, default=0, help="port of the Slack page on 127.0.0.1 (default: a free one)")
    arguments = parser.parse_args()
    with contextlib.ExitStack() as stack:
        directory: Path = arguments.data or Path(
            stack.enter_context(tempfile.TemporaryDirectory(prefix="natsmedic-demo-"))
        )
        if (directory / "natsmedic.db").exists():
            parser.error(f"{directory} holds a former demo: name a new directory, or remove it")
        directory.mkdir(parents=True, exist_ok=True)
        try:
            return (
                0
                if asyncio.run(
                    run(directory.resolve(), arguments.scenario, scripted=arguments.headless, port=arguments.port)
                )
                else 1
            )
        except LabError as error:
            print(f"The demo failed: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            say("\nStopped.")
            return 0


if __name__ == "__main__":
    sys.exit(main())
