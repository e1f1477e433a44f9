"""One process of natsmedic that notices things by itself, on a real database; the cluster is the test's own."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

from bot.adapters.database import SqlStore
from bot.adapters.webhooks import parse_alertmanager
from bot.errors import Unreachable
from bot.flow.advisories import Advisories
from bot.flow.intake import Intake
from bot.flow.notices import ADVISORIES, SCHEDULE, parse_notice
from bot.flow.schedule import Schedule
from bot.model import (
    Again,
    Endpoint,
    Finding,
    Focus,
    Incident,
    IncidentState,
    Layer,
    Sample,
    Severity,
    Snapshot,
    SnapshotId,
    Subject,
    new_id,
)
from bot.ports import Phase
from bot.runbook import Check, Runbook, Thresholds
from bot.settings import AdvisorySettings, ClusterSettings, ScheduleSettings, ThreadSettings
from tests.integration import store_records as records
from tests.integration.execution_house import Quiet
from tests.integration.test_intake import cluster

PACE = AdvisorySettings()
OK, WARNING, CRITICAL, UNKNOWN = Severity.OK, Severity.WARNING, Severity.CRITICAL, Severity.UNKNOWN


@dataclass
class House:
    """One process of natsmedic; another one on the same folder is the next process."""

    store: SqlStore
    clock: records.FixedClock
    quiet: Quiet
    intake: Intake
    severities: dict[str, Severity] = field(default_factory=lambda: {"SERVERS": OK, "STREAMS": OK})
    """What each runbook finds."""
    unreadable: bool = False
    gathered: int = 0
    during_gather: Callable[[], Awaitable[None]] | None = None

    async def fold(self) -> list[str]:
        """Process what waits and return the diagnoses that became due."""
        before = len(self.quiet.started)
        await self.intake.drain()
        return [key.partition("/")[2] for phase, key in self.quiet.started[before:] if phase is Phase.DIAGNOSIS]

    async def incidents(self) -> dict[str, Incident]:
        return {incident.title: incident for incident in await self.store.incidents()}

    async def states(self) -> dict[str, IncidentState]:
        return {title: incident.state for title, incident in (await self.incidents()).items()}

    async def sources(self) -> list[str]:
        return [entry.actor for entry in await self.store.audit_entries()]

    def advisories(self, name: str = "prod") -> Advisories:
        return Advisories(cluster=name, pace=PACE, store=self.store, clock=self.clock, intake=self.intake)

    def later(self, seconds: float) -> None:
        self.clock.time += timedelta(seconds=seconds)

    def schedule(self, open_at: str = "critical") -> Schedule:
        return Schedule(
            cluster="prod",
            pace=ScheduleSettings.model_validate({"every": "5m", "open_at": open_at}),
            runbooks=self.runbooks(),
            thresholds={},
            readers=self,  # pyright: ignore[reportArgumentType] - a schedule asks for nothing but `gather`
            store=self.store,
            clock=self.clock,
            intake=self.intake,
        )

    async def gather(self, needs: frozenset[Endpoint], *, again: Callable[[Snapshot], Again | None]) -> Snapshot:
        assert needs == {Endpoint.VARZ}
        self.gathered += 1
        if self.during_gather is not None:
            await self.during_gather()
        if self.unreadable:
            raise Unreachable("no server answers")
        now = self.clock.now()
        varz = Sample.of("n0", Endpoint.VARZ, now, {"server_name": "n0"}, 0)
        taken = Snapshot(SnapshotId(new_id("snap")), "prod", now, "test", (), (varz,))
        assert again(taken) is None
        return taken

    def runbooks(self) -> tuple[Runbook, ...]:
        layers = {"SERVERS": Layer.REACHABILITY, "STREAMS": Layer.STREAMS}

        def runbook(code: str, layer: Layer) -> Runbook:
            def examine(_: Snapshot, __: Thresholds, focus: Focus) -> Sequence[Finding]:
                assert focus == Focus(), "a schedule looks at everything"
                return [finding(code, self.severities[code], layer)]

            check = Check(f"{code}_FINE", layer, "All is well.", frozenset({Endpoint.VARZ}), examine)
            return Runbook(code, code, frozenset(), (), (check,), lambda *_: [])

        return tuple(runbook(code, layer) for code, layer in layers.items())

    async def pass_once(self, schedule: Schedule, **severities: Severity) -> list[str]:
        self.severities |= severities
        await schedule.pass_once()
        self.later(300)
        return await self.fold()


def finding(code: str, severity: Severity, layer: Layer = Layer.STREAMS) -> Finding:
    return Finding(
        check=f"{code}_FINE",
        layer=layer,
        subject=Subject(cluster="prod"),
        severity=severity,
        sentence=f"{code} looked.",
    )


@asynccontextmanager
async def house(
    folder: Path, *clusters: ClusterSettings, clock: records.FixedClock | None = None, max_queue: int = 100
) -> AsyncGenerator[House]:
    clock, quiet = clock or records.FixedClock(), Quiet()
    async with SqlStore.open(f"sqlite:///{folder / 'n.db'}", clock) as store:
        intake = Intake(
            store=store,
            engine=quiet,
            clock=clock,
            chat=quiet,
            clusters=clusters or (cluster("prod"),),
            parsers={"alertmanager": parse_alertmanager, ADVISORIES: parse_notice, SCHEDULE: parse_notice},
            max_queue=max_queue,
            threads=ThreadSettings(),
        )
        yield House(store, clock, quiet, intake)
