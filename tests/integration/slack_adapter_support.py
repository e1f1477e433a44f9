"""What the tests of the Slack adapter share: a real store, a stand-in Slack, the real approval desk over a world that never moves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

from pydantic import SecretStr

from bot.adapters.charts import draw
from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.adapters.slack import Office, SlackAdapter
from bot.bootstrap.reporting import reporter
from bot.flow.approval import ApprovalDesk
from bot.flow.asking import COMMAND, Asking, parse_asked
from bot.flow.cases import CaseDesk
from bot.flow.checkpoints import Kept
from bot.flow.intake import Intake
from bot.flow.stages import Stages
from bot.flow.tuning import Tuning
from bot.lab.slack import Channel, Message, StandInSlack, User, UserGroup
from bot.limits import Limits
from bot.model import (
    AuditEntry,
    Chart,
    Diagnosis,
    DiagnosisId,
    Endpoint,
    Incident,
    IncidentId,
    IncidentState,
    Preview,
    Proposal,
    ProposalId,
    ProposalState,
    RiskClass,
    Sample,
    Severity,
    Snapshot,
    SnapshotId,
    Stage,
    Subject,
    Verdict,
)
from bot.ports import Draw, Phase
from bot.registry import load
from bot.settings import (
    ClusterSettings,
    GroupSettings,
    LimitSettings,
    NatsSettings,
    PolicySettings,
    SlackSettings,
    ThreadSettings,
    Transport,
)

OPS = "C0OPS"
ADA, GRACE, GUEST, BOT, GONE, STRANGER = "U0ADA", "U0GRACE", "U0GUEST", "U0BOT", "U0GONE", "U0FAR"
USERS = (
    User(id=ADA, name="ada"),
    User(id=GRACE, name="grace"),
    User(id=GUEST, name="guest", is_restricted=True),
    User(id=BOT, name="robot", is_bot=True),
    User(id=GONE, name="gone", deleted=True),
    User(id=STRANGER, name="far", team_id="T0FAR"),
    User(id="U0NOONE", name="no approver"),
)
RULES = PolicySettings(
    groups={
        "operators": GroupSettings(users=(ADA, GUEST, BOT, GONE, STRANGER)),
        "owners": GroupSettings(usergroups=("S0OWN",)),
    },
    approvers=dict.fromkeys((RiskClass.LOW, RiskClass.MEDIUM, RiskClass.DESTRUCTIVE), ("operators", "owners")),
)


class Engine:
    """Remembers what would run."""

    def __init__(self) -> None:
        self.started: list[tuple[Phase, str]] = []

    async def start(self, phase: Phase, key: str) -> None:
        self.started.append((phase, key))


class AtOnce:
    """Steps without a memory."""

    async def run(self, name: str, work: Callable[[], Awaitable[str]]) -> str:
        del name
        return await work()


class StillStages:
    """A world that never moves."""

    async def drift(self, *_: object) -> tuple[str, ...]:
        return ()


@dataclass
class House:
    """One bot's Slack side over its database."""

    slack: StandInSlack
    store: SqlStore
    adapter: SlackAdapter
    engine: Engine = field(default_factory=Engine)
    clusters: tuple[str, ...] = ("prod",)
    stages: Stages = field(default_factory=lambda: Stages({}))
    """With the actions whose values may be set."""
    checkpoints: Sequence[Kept] = ()

    def desk(self) -> ApprovalDesk:
        return ApprovalDesk(
            store=self.store,
            directory=self.adapter.directory,
            readers=cast("Any", {"prod": None}),
            stages=cast("Stages", StillStages()),
            rules=RULES,
            limits=Limits(LimitSettings(), SystemClock()),
            engine=self.engine,
            clock=SystemClock(),
            chat=self.adapter.chat,
        )

    def intake(self) -> Intake:
        clusters = tuple(
            ClusterSettings(
                name=name, channel=OPS, match={"cluster": name}, nats=NatsSettings(servers=("nats://127.0.0.1:1",))
            )
            for name in self.clusters
        )
        return Intake(
            store=self.store,
            engine=self.engine,
            clock=SystemClock(),
            chat=self.adapter.chat,
            clusters=clusters,
            parsers={COMMAND: parse_asked},
            max_queue=100,
            threads=ThreadSettings(),
        )

    def office(self) -> Office:
        asking = Asking(store=self.store, engine=self.engine, clock=SystemClock(), intake=self.intake())
        cases = CaseDesk(
            store=self.store,
            directory=self.adapter.directory,
            rules=RULES,
            engine=self.engine,
            clock=SystemClock(),
            chat=self.adapter.chat,
        )
        tuning = Tuning(
            store=self.store,
            directory=self.adapter.directory,
            readers=cast("Any", {"prod": None}),
            stages=self.stages,
            rules=RULES,
            limits=Limits(LimitSettings(), SystemClock()),
            clock=SystemClock(),
            chat=self.adapter.chat,
        )
        return Office(asking, self.clusters, load().runbooks, cases, tuning, lambda: self.checkpoints)

    async def fold(self) -> None:
        """Take the stored deliveries in."""
        await self.intake().drain()

    async def audited(self, kind: str) -> list[AuditEntry]:
        return [entry for entry in await self.store.audit_entries() if entry.kind == kind]

    def message(self, kind: str) -> Message:
        """The one message in Slack of this kind."""
        found = self.of_kind(kind)
        assert len(found) == 1, [self.slack.render_text(OPS)]
        return found[0]

    def of_kind(self, kind: str) -> list[Message]:
        return [m for m in self.slack.messages(OPS) if key(m).startswith(f"{kind}:")]

    async def until(self, condition: Callable[[], bool], seconds: float = 15.0) -> None:
        """Wait for something to be seen in Slack."""
        await self.slack.workspace.wait_until(condition, seconds)

    async def drawn(self, seconds: float = 15.0) -> None:
        """Wait until nothing is behind."""
        async with asyncio.timeout(seconds):
            while await self.store.behind():
                await asyncio.sleep(0.02)

    async def unwell(self) -> str:
        """Wait until health names a problem, and return it."""
        async with asyncio.timeout(5):
            while self.adapter.health().ok:
                await asyncio.sleep(0.02)
        return " ".join(self.adapter.health().problems)

    async def refusal(self) -> str:
        """Wait for the audit entry of a refused click, and return its sentence."""
        async with asyncio.timeout(10):
            while True:
                found = [one for one in await self.store.audit_entries() if one.kind == "click.refused"]
                if found:
                    return found[0].sentence
                await asyncio.sleep(0.02)

    async def put(self, *records: Incident | Diagnosis | Proposal) -> None:
        async with self.store.begin() as tx:
            for record in records:
                known = await tx.get(Incident, record.id) if isinstance(record, Incident) else None
                await tx.put(record.model_copy(update={"revision": known.revision}) if known else record)
            await tx.touch(IncidentId(records[0].id if isinstance(records[0], Incident) else records[0].incident_id))
        self.adapter.chat.nudge(IncidentId("inc_1"))


def key(message: Message) -> str:
    """The key in a message's metadata."""
    return str(((message.metadata or {}).get("event_payload") or {}).get("key", ""))


def settings(slack: StandInSlack, transport: Transport = Transport.SOCKET) -> SlackSettings:
    return SlackSettings(
        bot_token=SecretStr(slack.bot_token),
        app_token=SecretStr(slack.app_token),
        signing_secret=SecretStr(slack.signing_secret),
        api_url=slack.api_url,
        transport=transport,
        workspaces=("T0LAB",),
    )


def stand_in(*, rate_limits: bool = False) -> StandInSlack:
    groups = [UserGroup(id="S0OWN", handle="owners", users=(GRACE,))]
    channels = [Channel(id=OPS, name="ops"), Channel(id="C0OUT", name="out", bot_is_member=False)]
    return StandInSlack(USERS, channels, groups, rate_limits=rate_limits)


@asynccontextmanager
async def house(
    tmp_path: Path,
    *,
    rate_limits: bool = False,
    transport: Transport = Transport.SOCKET,
    start: bool = True,
    drawing: Draw = draw,
    clusters: tuple[str, ...] = ("prod",),
    stages: Stages | None = None,
) -> AsyncGenerator[House]:
    """A running Slack side."""
    async with (
        stand_in(rate_limits=rate_limits) as slack,
        SqlStore.open(f"sqlite:///{tmp_path / 'natsmedic.db'}", SystemClock()) as store,
    ):
        report = reporter(store, SystemClock(), lambda: None)
        adapter = SlackAdapter(
            settings(slack, transport), RULES, store, store, SystemClock(), draw=drawing, report=report
        )
        built = House(slack, store, adapter, clusters=clusters, stages=stages or Stages({}))
        try:
            if start:
                await adapter.start(built.desk(), built.office())
                if transport is Transport.SOCKET:
                    await slack.connected()
            yield built
        finally:
            await adapter.stop()


def another(running: House, rules: PolicySettings = RULES) -> SlackAdapter:
    """The Slack side of a process that was started anew over the same database and the same Slack."""
    store = running.store
    report = reporter(store, SystemClock(), lambda: None)
    return SlackAdapter(settings(running.slack), rules, store, store, SystemClock(), draw=draw, report=report)


def now() -> datetime:
    return datetime.now(UTC)


def incident(words: str = "Consumer stuck", *, name: str = "1", channel: str = OPS) -> Incident:
    return Incident(
        id=IncidentId(f"inc_{name}"),
        cluster="prod",
        source="am",
        fingerprint=f"f{name}",
        starts_at=now(),
        opened_at=now(),
        updated_at=now(),
        state=IncidentState.OPEN,
        title=words,
        channel=channel,
        labels={"stream": words},
        annotations={},
    )


def snapshot() -> Snapshot:
    sample = Sample(server="n1", endpoint=Endpoint.VARZ, taken_at=now(), data={"version": "2.11.11"})
    return Snapshot(
        id=SnapshotId("snap_1"), cluster="prod", taken_at=now(), via="monitoring", servers=(), samples=(sample,)
    )


def diagnosis(
    words: str = "The consumer has no leader.", *charts: Chart, with_snapshot: bool = False, name: str = "1"
) -> Diagnosis:
    return Diagnosis(
        id=DiagnosisId(f"diag_{name}"),
        incident_id=IncidentId("inc_1"),
        runbook="stuck-consumer",
        snapshot_id=SnapshotId("snap_1") if with_snapshot else None,
        started_at=now(),
        ended_at=now(),
        verdict=Verdict(severity=Severity.CRITICAL, root=None, sentence=words),
        findings=(),
        charts=charts,
    )


def proposal(words: str = "Recreate the consumer") -> Proposal:
    preview = Preview(summary=words, diff="-a\n+b", blast_radius="one consumer", way_back="its configuration is kept")
    return Proposal(
        id=ProposalId("prop_1"),
        incident_id=IncidentId("inc_1"),
        diagnosis_id=DiagnosisId("diag_1"),
        cluster="prod",
        subject=Subject(cluster="prod", account="APP", stream="ORDERS", consumer="worker"),
        title=words,
        why="It has no leader.",
        risk=RiskClass.DESTRUCTIVE,
        stages=(Stage(kind="consumer.recreate", params={}, risk=RiskClass.DESTRUCTIVE, preview=preview),),
        world={"consumer.leader": None},
        state=ProposalState.PENDING,
        button="btn_opaque",
        created_at=now(),
        expires_at=now() + timedelta(minutes=10),
    )


APPROVAL = {"reason": "it is stuck", "typed_name": "worker"}


async def offer(running: House) -> None:
    """Bring an incident with a pending proposal into the thread."""
    await running.put(incident(), diagnosis(), proposal())
    await running.drawn()


async def press(running: House, user: str, what: str = "approve", **more: object) -> None:
    shown = running.message("proposal")
    outcome = await running.slack.person.click(user, OPS, shown.ts, what, **more)  # pyright: ignore[reportArgumentType]
    assert outcome.failure is None


async def state(running: House) -> ProposalState:
    stored = await running.store.get(Proposal, "prop_1")
    assert stored is not None
    return stored.state


async def told(running: House, user: str, count: int = 1) -> str:
    await running.until(lambda: len(running.slack.ephemerals(user)) >= count)
    return running.slack.ephemerals(user)[-1].text
