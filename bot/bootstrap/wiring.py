"""How the phases are put together: from settings and ports to what serves. Nothing runs here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.adapters.nats import advisory_listeners
from bot.adapters.terminal import TerminalDirectory
from bot.adapters.webhooks import parser_of
from bot.bootstrap.replicas import Run
from bot.flow import narration
from bot.flow.advisories import Advisories
from bot.flow.approval import ApprovalDesk
from bot.flow.asking import COMMAND, Asking, parse_asked
from bot.flow.cases import CaseDesk
from bot.flow.diagnosis import Diagnoser
from bot.flow.execution import Executor
from bot.flow.intake import Intake
from bot.flow.notices import ADVISORIES, SCHEDULE, parse_notice
from bot.flow.quota import Quota
from bot.flow.schedule import Schedule
from bot.flow.stages import Stages
from bot.flow.sweep import Sweeper
from bot.flow.tuning import Tuning
from bot.limits import Limits
from bot.model import IncidentId, Person, SlackUser
from bot.ports import (
    Chat,
    Clock,
    Directory,
    Engine,
    Phase,
    PhaseHandler,
    Readers,
    Steps,
    Writers,
)
from bot.registry import Registry
from bot.settings import Mode, Settings


class LateChat:
    """Forwards to the chat once there is one: flow needs a chat, and the Slack adapter needs flow."""

    def __init__(self) -> None:
        self.target: Chat | None = None

    def nudge(self, incident: IncidentId) -> None:
        if self.target is not None:
            self.target.nudge(incident)


class LateHandlers(Mapping[Phase, PhaseHandler]):
    """Phase handlers, filled in after the engine that will call them exists."""

    def __init__(self) -> None:
        self.known: dict[Phase, PhaseHandler] = {}

    def __getitem__(self, phase: Phase) -> PhaseHandler:
        async def handle(key: str, steps: Steps) -> None:
            with narration.of_phase(phase, key):
                await self.known[phase](key, steps)

        return handle

    def __iter__(self) -> Iterator[Phase]:
        return iter(Phase)

    def __len__(self) -> int:
        return len(Phase)


class NoDirectory:
    """Knows nobody: without Slack nobody can approve."""

    async def look_up(self, user: SlackUser, *, fresh: bool = False) -> Person:
        """Return a person who may do nothing."""
        del fresh
        key = f"{user.team_id}/{user.user_id}"
        return Person.unknown(user, key, SystemClock().now(), "no Slack is configured")


@dataclass(frozen=True)
class Bot:
    """The wired phases."""

    intake: Intake
    asking: Asking
    diagnoser: Diagnoser
    desk: ApprovalDesk
    cases: CaseDesk
    tuning: Tuning
    executor: Executor
    sweeper: Sweeper


def wire(
    settings: Settings,
    *,
    store: SqlStore,
    engine: Engine,
    clock: Clock,
    chat: Chat,
    directory: Directory,
    readers: Mapping[str, Readers],
    writers: Mapping[str, Writers],
    found: Registry,
) -> Bot:
    """Put the phases together. Only the executor gets writers, and only in mode approve."""
    stages = Stages(found.actions)
    rules = settings.policy
    limits = Limits(settings.limits, clock)
    diagnoser = Diagnoser(
        store=store,
        clock=clock,
        chat=chat,
        readers=readers,
        runbooks=found.runbooks,
        stages=stages,
        rules=rules,
        limits=limits,
        mode=settings.mode,
        writable=frozenset(writers),
        thresholds=settings.thresholds,
        threads=settings.threads,
    )
    desk = ApprovalDesk(
        store=store,
        directory=directory,
        readers=readers,
        stages=stages,
        rules=rules,
        limits=limits,
        engine=engine,
        clock=clock,
        chat=chat,
    )
    cases = CaseDesk(store=store, directory=directory, rules=rules, engine=engine, clock=clock, chat=chat)
    tuning = Tuning(
        store=store,
        directory=directory,
        readers=readers,
        stages=stages,
        rules=rules,
        limits=limits,
        clock=clock,
        chat=chat,
    )
    executor = Executor(
        store=store,
        stages=stages,
        readers=readers,
        writers=writers if settings.mode is Mode.APPROVE else {},
        # Only what is already recorded is looked up there: no click of Slack can claim to come from a terminal.
        directory=TerminalDirectory(rules, clock, directory),
        rules=rules,
        limits=limits,
        engine=engine,
        clock=clock,
        chat=chat,
    )
    intake = Intake(
        store=store,
        engine=engine,
        clock=clock,
        chat=chat,
        clusters=settings.clusters,
        parsers={name: parser_of(source) for name, source in settings.webhooks.sources.items()}
        | {ADVISORIES: parse_notice, SCHEDULE: parse_notice, COMMAND: parse_asked},
        max_queue=settings.webhooks.max_queue,
        threads=settings.threads,
        quotas={
            name: Quota(source.alerts_per_second, source.alerts_burst)
            for name, source in settings.webhooks.sources.items()
        },
    )
    asking = Asking(store=store, engine=engine, clock=clock, intake=intake)
    sweeper = Sweeper(
        store=store, engine=engine, clock=clock, chat=chat, threads=settings.threads, rules=settings.policy
    )
    return Bot(intake, asking, diagnoser, desk, cases, tuning, executor, sweeper)


def watchers(
    settings: Settings,
    *,
    store: SqlStore,
    clock: Clock,
    readers: Mapping[str, Readers],
    found: Registry,
    intake: Intake,
) -> dict[str, Run]:
    """Return what notices by itself that something is wrong, by name: listeners to advisories, and schedules."""
    parts: dict[str, Run] = {}
    for cluster in settings.clusters:
        name = cluster.name
        if cluster.hears_advisories:
            advisories = Advisories(cluster=name, pace=cluster.advisories, store=store, clock=clock, intake=intake)
            parts[f"advisories of {name}"] = advisories.run
            for number, listener in enumerate(advisory_listeners(cluster, clock, advisories.heard), start=1):
                parts[f"listener {number} of {name}"] = listener.run
        if cluster.schedule is not None:
            schedule = Schedule(
                cluster=name,
                pace=cluster.schedule,
                runbooks=found.chosen(cluster.schedule.runbooks),
                thresholds=settings.thresholds,
                readers=readers[name],
                store=store,
                clock=clock,
                intake=intake,
            )
            parts[f"schedule of {name}"] = schedule.run
    return parts
