"""Two clusters in one bot, wired as it serves, on the real engine and database: one that never answers delays nothing of the other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

import pytest

from bot.action import Draft
from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.adapters.engine import DbosEngine
from bot.bootstrap.wiring import Bot, wire
from bot.errors import Unreachable
from bot.flow.approval import Answer, Click
from bot.model import (
    Again,
    Choice,
    Endpoint,
    Execution,
    ExecutionState,
    Finding,
    Focus,
    Incident,
    Layer,
    OperationId,
    Person,
    Proposal,
    ProposalState,
    Record,
    RiskClass,
    Severity,
    SlackUser,
    Snapshot,
    SnapshotId,
    Subject,
    new_id,
)
from bot.ports import Phase, PhaseHandler, Readers, Writers
from bot.registry import Registry
from bot.runbook import Check, Proposed, Runbook, Thresholds
from bot.settings import Settings
from tests.integration.execution_house import Params, Quiet, SetValue, Target

pytestmark = pytest.mark.timeout(60)
SLOW, WELL = "slow", "well"
ADA, BO = SlackUser(team_id="T1", user_id="U1"), SlackUser(team_id="T1", user_id="U2")
GROUPS: Final = {ADA.user_id: "operators", BO.user_id: "keepers"}
ALERTS: Final = 5
"""Of the slow cluster: more than are diagnosed of one at once."""
SOON: Final = 15.0
"""Seconds; the whole repair takes 1 or 2. Nothing here waits for a time-out: what hangs hangs until it is let go."""


@dataclass
class Cluster:
    """Readers of one cluster; `answers` is not set while it hangs."""

    cluster: str
    answers: asyncio.Event
    api_timeout: float = 2.0
    asked: int = 0
    unreachable: bool = False

    async def gather(
        self, needs: frozenset[Endpoint], *, again: Callable[[Snapshot], Again | None] | None = None
    ) -> Snapshot:
        del needs, again
        self.asked += 1
        await self.answers.wait()
        if self.unreachable:
            raise Unreachable(f"No server of {self.cluster} answers.")
        taken_at = SystemClock().now()
        return Snapshot(SnapshotId(new_id("snap")), self.cluster, taken_at, "test", servers=(), samples=(), unknown=())


class SetHere(SetValue):
    """Sets a value on the cluster of its readers, at once or once it is let go."""

    risk: RiskClass = RiskClass.LOW
    settle: float = 0.0

    def __init__(self, target: Target, applies: dict[str, asyncio.Event]) -> None:
        super().__init__(target)
        self._applies = applies

    async def apply(self, readers: Readers, writers: Writers, params: Record, operation: OperationId) -> None:
        await self._applies[readers.cluster].wait()
        await super().apply(readers, writers, cast("Params", params), operation)


def examine(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> Sequence[Finding]:
    del thresholds, focus
    subject = Subject(cluster=snapshot.cluster, stream="ORDERS")
    sentence = f"ORDERS of {snapshot.cluster} has no value."
    return [
        Finding(check="SET_001", layer=Layer.STREAMS, subject=subject, severity=Severity.CRITICAL, sentence=sentence)
    ]


def propose(
    snapshot: Snapshot, findings: Sequence[Finding], thresholds: Thresholds, focus: Focus
) -> Sequence[Proposed]:
    del thresholds, focus
    draft = Draft(title="Set it", why="It is not set.", stages=(("test.set", {"name": snapshot.cluster}),))
    return [Proposed(findings[0].subject, draft)]


RUNBOOK: Final = Runbook(
    code="SET",
    title="A value is set",
    alerts=frozenset({"NotSet"}),
    thresholds=(),
    checks=(Check("SET_001", Layer.STREAMS, "It is set.", frozenset({Endpoint.VARZ}), examine),),
    propose=propose,
)


class People:
    """Ada operates, Bo keeps."""

    async def look_up(self, user: SlackUser, *, fresh: bool = False) -> Person:
        del fresh
        return Person(
            user=user,
            key=user.user_id,
            human=True,
            active=True,
            guest=False,
            home_workspace=True,
            groups=frozenset({GROUPS[user.user_id]}),
            looked_up_at=SystemClock().now(),
        )


def settings() -> Settings:
    def cluster(name: str, channel: str) -> dict[str, object]:
        nats = {"servers": ["nats://127.0.0.1:1"], "system": {"user": "sys", "password": "sys"}}
        return {"name": name, "channel": channel, "match": {"cluster": name}, "nats": nats}

    return Settings.model_validate(
        {
            "mode": "approve",
            "database": {"url": "sqlite:///unused.db"},
            "clusters": [cluster(SLOW, "C0SLOW"), cluster(WELL, "C0WELL")],
            "policy": {
                "groups": {"operators": {"users": ["U1"]}, "keepers": {"users": ["U2"]}},
                "approvers": {"low": ["operators"], "medium": ["operators"], "destructive": ["operators", "keepers"]},
                "clusters": {SLOW: {"approvers": {"low": ["keepers"]}}},
            },
            "slack": {"bot_token": "xoxb-of-some-length", "app_token": "xapp-of-some-length", "workspaces": ["T1"]},
            "webhooks": {"sources": {"alertmanager": {"bearer": "a-secret-of-some-length"}}},
        }
    )


@dataclass
class House:
    bot: Bot
    store: SqlStore
    target: Target
    clusters: dict[str, Cluster]
    applies: dict[str, asyncio.Event]

    async def alert(self, cluster: str, count: int = 1) -> None:
        for number in range(count):
            labels = {"alertname": "NotSet", "cluster": cluster, "number": str(number)}
            one = {
                "status": "firing",
                "labels": labels,
                "annotations": {},
                "startsAt": "2026-11-21T03:00:00Z",
                "endsAt": "0001-01-01T00:00:00Z",
                "fingerprint": f"{cluster}{number}",
            }
            body = {"version": "4", "groupKey": "{}", "truncatedAlerts": 0, "status": "firing", "alerts": [one]}
            await self.bot.intake.accept("alertmanager", json.dumps(body))
        await self.bot.intake.drain()

    async def proposal(self, cluster: str) -> Proposal:
        """Wait for what is proposed for a cluster."""
        async with asyncio.timeout(SOON):
            while True:
                for one in await self.store.proposals(active_only=True):
                    if one.cluster == cluster and one.state is ProposalState.PENDING:
                        return one
                await asyncio.sleep(0.02)

    async def decide(self, user: SlackUser, proposal: Proposal) -> Answer:
        click = Click(user=user, button=proposal.button, choice=Choice.APPROVE)
        return await self.bot.desk.decide(click, "looked at it", "")

    async def ended(self, proposal: Proposal) -> Execution:
        async with asyncio.timeout(SOON):
            while (run := await self.store.execution_of(proposal.id)) is None or not run.state.terminal:
                await asyncio.sleep(0.02)
        return run

    async def incidents(self, cluster: str) -> list[Incident]:
        return [one for one in await self.store.incidents() if one.cluster == cluster]


@asynccontextmanager
async def house(folder: Path) -> AsyncGenerator[House]:
    url, clock, target, quiet = f"sqlite:///{folder / 'n.db'}", SystemClock(), Target(), Quiet()
    clusters = {name: Cluster(name, asyncio.Event()) for name in (SLOW, WELL)}
    applies = {name: asyncio.Event() for name in (SLOW, WELL)}
    clusters[WELL].answers.set()
    applies[WELL].set()
    handlers: dict[Phase, PhaseHandler] = {}
    engine = DbosEngine(url, "test", handlers)
    async with SqlStore.open(url, clock) as store:
        bot = wire(
            settings(),
            store=store,
            engine=engine,
            clock=clock,
            chat=quiet,
            directory=People(),
            readers={name: cast("Readers", one) for name, one in clusters.items()},
            writers={name: cast("Writers", object()) for name in clusters},
            found=Registry((RUNBOOK,), {"test.set": SetHere(target, applies)}),
        )
        handlers |= {Phase.DIAGNOSIS: bot.diagnoser.run, Phase.EXECUTION: bot.executor.run}
        await engine.launch()
        try:
            yield House(bot, store, target, clusters, applies)
        finally:
            async with asyncio.timeout(SOON):  # what hangs does not hold up the end either
                await engine.shutdown()


async def test_a_cluster_that_never_answers_delays_no_diagnosis_approval_or_repair_of_another(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        slow = h.clusters[SLOW]
        await h.alert(SLOW, ALERTS)
        await h.alert(WELL)
        proposal = await h.proposal(WELL)
        assert (await h.decide(ADA, proposal)).accepted
        assert (await h.ended(proposal)).state is ExecutionState.DONE
        assert h.target.effects == [WELL]
        assert slow.asked == 2, "no more than two diagnoses ask it at once, and both still wait"
        assert {one.last_diagnosis for one in await h.incidents(SLOW)} == {None}
        assert [one.channel for one in await h.incidents(WELL)] == ["C0WELL"]
        slow.unreachable = True
        slow.answers.set()
        async with asyncio.timeout(SOON):
            while any(one.last_diagnosis is None for one in await h.incidents(SLOW)):
                await asyncio.sleep(0.02)
        found = [one for incident in await h.incidents(SLOW) for one in await h.store.diagnoses(incident.id)]
        assert {one.verdict.severity for one in found} == {Severity.UNKNOWN}
        assert {one.channel for one in await h.incidents(SLOW)} == {"C0SLOW"}


async def test_a_change_that_hangs_holds_the_lock_of_its_own_cluster_alone(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.clusters[SLOW].answers.set()
        await h.alert(SLOW)
        await h.alert(WELL)
        hanging, proposal = await h.proposal(SLOW), await h.proposal(WELL)
        assert not (await h.decide(ADA, hanging)).accepted, "on that cluster another group approves"
        assert (await h.decide(BO, hanging)).accepted
        assert not (await h.decide(BO, proposal)).accepted
        async with asyncio.timeout(SOON):
            while (await h.store.fence(SLOW))[0] is None:
                await asyncio.sleep(0.02)
        assert (await h.decide(ADA, proposal)).accepted
        assert (await h.ended(proposal)).state is ExecutionState.DONE
        holder, _ = await h.store.fence(SLOW)
        run = await h.store.execution_of(hanging.id)
        assert run is not None
        assert (run.id, run.state) == (holder, ExecutionState.APPLYING)
        assert h.target.effects == [WELL]
        h.applies[SLOW].set()
        assert (await h.ended(hanging)).state is ExecutionState.DONE
        assert h.target.effects == [WELL, SLOW]
