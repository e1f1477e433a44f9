"""The bot as it serves: store, engine, Slack, phases, and what notices by itself."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import structlog

from bot.adapters.charts import draw
from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.adapters.engine import DbosEnded, DbosEngine
from bot.adapters.fenced import always, fenced
from bot.adapters.metrics import Standing
from bot.adapters.nats import NatsWriters, connect_cluster
from bot.adapters.slack import Office, SlackAdapter
from bot.adapters.timed import timed
from bot.adapters.webhooks import serve_http, webhook_app
from bot.bootstrap.auditing import audited
from bot.bootstrap.leaving import Leaving
from bot.bootstrap.measuring import measured
from bot.bootstrap.reading import both_sides, registry
from bot.bootstrap.replicas import Replica, Run, hear, joined, take_over
from bot.bootstrap.reporting import reporter
from bot.bootstrap.storing import open_store
from bot.bootstrap.watchdog import Watchdog
from bot.bootstrap.wiring import LateChat, LateHandlers, NoDirectory, watchers, wire
from bot.errors import SettingsError, StoreError
from bot.flow.retention import Retention
from bot.ports import (
    UNMETERED,
    Clock,
    Directory,
    KubernetesWriter,
    Meter,
    Phase,
    Readers,
    System,
    Writers,
)
from bot.settings import ClusterSettings, Settings

log = structlog.get_logger(__name__)

RESTART_SECONDS = 5.0
"""Until a part that failed by a defect starts again."""

END_SECONDS = 0.5
"""Until a part that was told to end is told again."""

SWITCH_SECONDS = 0.0005
"""How long a thread that judges a snapshot or draws a picture keeps the interpreter while the event loop waits for it. Python's own 5 ms are lost at every
read and write of a socket and of the database, of which a webhook has a dozen (measured: tests/bench/bench_storm.py)."""


def writers_of(
    nats: NatsWriters | None, cluster: ClusterSettings, meter: Meter = UNMETERED, may_send: Callable[[], bool] = always
) -> Writers | None:
    """Return what may change the cluster, on either side, for as long as `may_send` says so; None where nothing may."""
    measured: Writers | None = timed(nats, System.NATS, meter, cluster.name)
    applier = cluster.kubernetes.as_applier if cluster.kubernetes is not None else None
    if applier is None:
        return None if measured is None else fenced(measured, may_send)
    from bot.adapters.cluster import ClusterWriters  # noqa: PLC0415
    from bot.adapters.kubernetes import KubernetesApiWriter  # noqa: PLC0415

    kubernetes: KubernetesWriter = timed(KubernetesApiWriter(applier), System.KUBERNETES, meter, cluster.name)
    both: Writers = ClusterWriters(measured or NatsWriters(cluster.name, {}), kubernetes)
    return fenced(both, may_send)


async def serve(settings: Settings) -> None:
    """Run the bot until SIGTERM or SIGINT. Raises NatsmedicError where it cannot start."""
    if not settings.webhooks.sources and not any(c.hears_advisories or c.schedule for c in settings.clusters):
        raise SettingsError(
            "webhooks.sources is empty and no cluster has advisories or a schedule, so no alert could ever come in: "
            "add a source with its own secret, a nats.system user or a schedule."
        )
    sys.setswitchinterval(SWITCH_SECONDS)
    found = registry()
    found.check_thresholds(settings.thresholds)
    found.check_schedules(settings.schedules)
    clock = SystemClock()
    chat = LateChat()
    handlers = LateHandlers()
    leaving = Leaving(settings.shutdown.grace)
    async with AsyncExitStack() as stack:
        stack.enter_context(leaving.on_signals())
        measuring = await stack.enter_async_context(measured(settings, found))
        store = await stack.enter_async_context(open_store(settings, meter=measuring.meter))
        replica = await stack.enter_async_context(joined(store, clock, leaving.cut))
        readers, writers = await _connect(settings, clock, stack, measuring.meter, lambda: replica.may_send)
        engine = DbosEngine(settings.database.url, replica.name, handlers, answers_for=replica.answers_for)
        directory: Directory = NoDirectory()
        slack = None
        if settings.slack is not None:
            report = reporter(store, clock, lambda: kept.newest)  # `kept` is bound before anything is drawn
            slack = SlackAdapter(
                settings.slack,
                settings.policy,
                store,
                store,
                clock,
                draw=draw,
                report=report,
                meter=measuring.meter,
                may_send=lambda: replica.may_send,
            )
            directory = slack.directory
            chat.target = slack.chat
        bot = wire(
            settings,
            store=store,
            engine=engine,
            clock=clock,
            chat=chat,
            directory=directory,
            readers=readers,
            writers=writers,
            found=found,
        )
        handlers.known |= {
            Phase.DIAGNOSIS: bot.diagnoser.run,
            Phase.EXECUTION: bot.executor.run,
        }
        kept = await stack.enter_async_context(
            audited(settings, store=store, clock=clock, slack=slack, replica=replica)
        )
        await engine.launch()
        stack.push_async_callback(engine.shutdown)
        if slack is not None:
            names = tuple(c.name for c in settings.clusters)
            office = Office(bot.asking, names, found.runbooks, bot.cases, bot.tuning, kept.standings)
            await slack.start(bot.desk, office, replica.leading)
            stack.push_async_callback(slack.stop)
        watchdog = Watchdog()
        stack.enter_context(watchdog.watching())
        duties: dict[str, Run] = {
            "intake": bot.intake.run,
            "sweeper": bot.sweeper.run,
            "take-over": partial(take_over, store, engine, clock),
            "retention": Retention(
                store=store, ended=DbosEnded(settings.database.url), clock=clock, rules=settings.retention
            ).run,
            **watchers(settings, store=store, clock=clock, readers=readers, found=found, intake=bot.intake),
            **({"hurry": partial(hear, store, slack.chat.hurry, clock)} if slack is not None else {}),
        }
        own = {"watchdog": watchdog.beat, "checkpoints": partial(kept.follow, replica.leading), **measuring.parts}
        await stack.enter_async_context(_running(own | replica.once_leading(duties), clock))
        standing = Standing(
            checkpoints=kept.standing, swept_at=lambda: bot.sweeper.swept_at, leads=replica.leading.is_set
        )
        await stack.enter_async_context(measuring.exposed(store, clock, standing))
        slack_handler = slack.http_handler if slack is not None and slack.http_mode else None
        app = webhook_app(
            settings.webhooks,
            bot.intake,
            lambda: _not_ready(store, leaving, replica),
            slack_handler,
            clock=clock,
            checkpoints=kept.standing,
            alive=watchdog.problem,
        )
        measuring.watch(app)
        log.info(
            "natsmedic serves",
            listen=settings.webhooks.listen,
            mode=settings.mode,
            replica=replica.name,
            clusters=[c.name for c in settings.clusters],
        )
        # Alerts are stored until the end: the next start takes them in.
        async with leaving.after(engine.park, *([slack.chat.caught_up] if slack is not None else [])):
            await serve_http(app, settings.webhooks.listen, until=leaving.gone)
        replica.insist()


@asynccontextmanager
async def _running(parts: Mapping[str, Run], clock: Clock) -> AsyncGenerator[None]:
    """Run the parts beside the block; they have ended when it is left."""

    async def keep(part: str, run: Run) -> None:
        while True:
            try:
                await run()
            except Exception:  # a defect of one part must not take the others with it
                log.exception("a part of natsmedic failed and starts again", part=part)
            await clock.sleep(RESTART_SECONDS)

    tasks = [asyncio.create_task(keep(part, run), name=part) for part, run in parts.items()]
    try:
        yield
    finally:
        await end(tasks)


async def end(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel tasks that never end and wait until they have. Asks again: `asyncio.wait_for` of Python 3.11 swallows a cancellation that comes together
    with what it waits for (python/cpython#86296, fixed in 3.12).
    """
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=END_SECONDS)


async def _not_ready(store: SqlStore, leaving: Leaving, replica: Replica) -> Sequence[str]:
    """Return why no webhook should come here. Slack or a cluster being down is no reason: alerts must still be stored."""
    try:
        await store.count_unprocessed()
    except StoreError as error:
        return [*leaving.problems, *replica.problems, str(error)]
    return [*leaving.problems, *replica.problems]


async def _connect(
    settings: Settings, clock: Clock, stack: AsyncExitStack, meter: Meter, may_send: Callable[[], bool]
) -> tuple[dict[str, Readers], dict[str, Writers]]:
    readers: dict[str, Readers] = {}
    writers: dict[str, Writers] = {}
    closing: list[Run] = []
    stack.push_async_callback(_close, closing)
    for cluster in settings.clusters:
        reading, writing = await connect_cluster(cluster, clock)
        closing.append(reading.aclose)
        readers[cluster.name] = both_sides(reading, cluster, clock, meter)
        if writing is not None:
            closing.append(writing.aclose)
        if (able := writers_of(writing, cluster, meter, may_send)) is not None:
            writers[cluster.name] = able
    return readers, writers


async def _close(closing: Sequence[Run]) -> None:
    """Close all at once: a server that hangs takes its time beside the others."""
    await asyncio.gather(*(close() for close in closing))
