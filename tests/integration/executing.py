"""Carries a draft through the real executor on a real database, as if somebody had approved it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from bot.action import Draft
from bot.adapters.clock import SystemClock
from bot.adapters.database import SqlStore
from bot.flow.approval import queued
from bot.flow.execution import Executor
from bot.flow.stages import Plan, Stages
from bot.limits import Limits
from bot.model import (
    Approval,
    ApprovalId,
    AuditEntry,
    Choice,
    Execution,
    JsonObject,
    Person,
    Proposal,
    ProposalId,
    ProposalState,
    RiskClass,
    SlackUser,
    new_id,
)
from bot.ports import Phase, Readers, Writers
from bot.registry import load
from bot.settings import GroupSettings, LimitSettings, PolicySettings
from tests.integration import store_records as records

STAGES = Stages(load().actions)
ADA = SlackUser(team_id="T1", user_id="U1")
RULES = PolicySettings(
    groups={"operators": GroupSettings(users=("U1",))},
    approvers={RiskClass.LOW: ("operators",), RiskClass.MEDIUM: ("operators",)},
)


GENEROUS = Limits(LimitSettings(per_hour=1000, rest_seconds=0, failures=1000), SystemClock())
"""For tests of other things, which change the same cluster many times."""


class Quiet:
    """An engine, a chat and steps that do nothing of their own."""

    async def start(self, phase: Phase, key: str) -> None:
        del phase, key

    def nudge(self, incident: str) -> None:
        del incident

    async def run(self, name: str, work: Callable[[], Awaitable[str]]) -> str:
        del name
        return await work()


class Everybody:
    """A directory that knows one operator."""

    async def look_up(self, user: SlackUser, *, fresh: bool = False) -> Person:
        assert fresh
        return Person(
            user=user,
            key=user.user_id,
            human=True,
            active=True,
            guest=False,
            home_workspace=True,
            groups=frozenset({"operators"}),
            looked_up_at=SystemClock().now(),
        )


class Desk:
    """One cluster, its database, and whoever approves everything."""

    def __init__(
        self, store: SqlStore, readers: Readers, writers: Writers, stages: Stages = STAGES, limits: Limits = GENEROUS
    ) -> None:
        self.stages = stages
        self.store = store
        self.readers = readers
        self.writers = writers
        self.limits = limits

    async def plan(self, stages: Sequence[tuple[str, JsonObject]]) -> Plan:
        plan = await self.stages.plan(self.readers, Draft(title="Repair", why="it is broken", stages=tuple(stages)))
        assert plan.stages, plan.guidance
        return plan

    async def approved(self, plan: Plan) -> Execution:
        """The execution of a plan, approved and queued."""
        proposal = records.proposal().model_copy(
            update={
                "id": ProposalId(new_id("prop")),
                "cluster": self.readers.cluster,
                "state": ProposalState.APPROVED,
                "risk": plan.risk,
                "stages": plan.stages,
                "world": plan.world,
                "button": new_id("btn"),
                "expires_at": SystemClock().now().replace(year=2100),
            }
        )
        execution = queued(proposal, SystemClock())
        async with self.store.begin() as tx:
            await tx.put(records.incident())
            await tx.put(records.diagnosis())
            await tx.put(proposal)
            await tx.put(_yes(proposal))
            await tx.put(execution)
        return execution

    async def run(self, execution: Execution) -> Execution:
        """Run it to its end."""
        quiet = Quiet()
        executor = Executor(
            store=self.store,
            stages=self.stages,
            readers={self.readers.cluster: self.readers},
            writers={self.readers.cluster: self.writers},
            directory=Everybody(),
            rules=RULES,
            limits=self.limits,
            engine=quiet,
            clock=SystemClock(),
            chat=quiet,
        )
        await executor.run(execution.id, quiet)
        found = await self.store.get(Execution, execution.id)
        assert found is not None
        return found

    async def carry_out(self, stages: Sequence[tuple[str, JsonObject]]) -> Execution:
        return await self.run(await self.approved(await self.plan(stages)))

    async def proposal_of(self, execution: Execution) -> Proposal:
        found = await self.store.get(Proposal, execution.proposal_id)
        assert found is not None
        return found

    async def audit(self) -> Sequence[AuditEntry]:
        return await self.store.audit_entries()


def database(folder: Path) -> str:
    return f"sqlite:///{folder / 'natsmedic.db'}"


def _yes(proposal: Proposal) -> Approval:
    return Approval(
        id=ApprovalId(new_id("app")),
        proposal_id=proposal.id,
        proposal_digest=proposal.digest,
        choice=Choice.APPROVE,
        user=ADA,
        person=ADA.user_id,
        groups=("operators",),
        reason="r",
        at=SystemClock().now(),
    )
