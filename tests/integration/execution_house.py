"""An executor on a real database, and a target that a test owns: it counts what took effect, and loses replies on purpose."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import cast

from bot.action import Check, Receipt
from bot.adapters.database import SqlStore
from bot.errors import Refused, Unreadable
from bot.flow.approval import queued
from bot.flow.execution import Executor
from bot.flow.stages import Stages
from bot.limits import Limits
from bot.model import (
    Approval,
    ApprovalId,
    Choice,
    Execution,
    OperationId,
    Outcome,
    Person,
    Preview,
    Proposal,
    ProposalState,
    Record,
    RiskClass,
    SlackUser,
    Stage,
    Verification,
)
from bot.ports import Phase, Readers, Writers
from bot.settings import GroupSettings, LimitSettings, PolicySettings
from tests.integration import store_records as records

ADA, BO = SlackUser(team_id="T1", user_id="U1"), SlackUser(team_id="T1", user_id="U2")
RULES = PolicySettings(
    groups={"operators": GroupSettings(users=("U1",)), "owners": GroupSettings(users=("U2",))},
    approvers={RiskClass.DESTRUCTIVE: ("operators", "owners")},
)


SHIPPED = LimitSettings()


class Kill(BaseException):
    """Stands for kill -9 inside an action: nothing of the executor runs after it."""


class Params(Record):
    name: str


@dataclass
class Target:
    """The outside world: what is set, how often it changed, and what goes wrong with the next calls."""

    values: dict[str, OperationId] = field(default_factory=dict[str, OperationId])
    effects: list[str] = field(default_factory=list[str])
    faults: dict[str, list[BaseException]] = field(default_factory=dict[str, list[BaseException]])
    """By stage name, raised before the effect; `late` ones after it."""
    late: dict[str, list[BaseException]] = field(default_factory=dict[str, list[BaseException]])
    world: dict[str, str | int | bool | None] = field(default_factory=lambda: {"leader": "n0"})
    refusals: dict[str, str] = field(default_factory=dict[str, str])
    needless: dict[str, str] = field(default_factory=dict[str, str])
    broken: set[str] = field(default_factory=set[str])
    """Stages whose verification fails."""
    receipt_blind: int = 0
    """So many readings of a receipt fail first."""
    foreign: bool = False
    no_way_back: set[str] = field(default_factory=set[str])
    hopeless: set[str] = field(default_factory=set[str])
    """Stages that are refused, or whose verification fails, for good."""
    undoing: dict[str, list[Exception]] = field(default_factory=dict[str, list[Exception]])
    """By stage name, raised by its rollback before it has an effect."""


class SetValue:
    """An action on the target."""

    kind: str = "test.set"
    title: str = "Set"
    risk: RiskClass = RiskClass.DESTRUCTIVE
    params: type[Record] = Params
    settle: float = 2.0
    patience: float = 10.0
    half_way: float = 60.0

    def __init__(self, target: Target) -> None:
        self.target = target

    async def check(self, readers: Readers, params: Params) -> Check:
        del readers
        refusal = self.target.refusals.get(params.name)
        final = params.name in self.target.hopeless
        return Check(
            world=dict(self.target.world),
            refusals=(refusal,) if refusal else (),
            needless=self.target.needless.get(params.name, ""),
            final=final,
            before={"set": len(self.target.values)},
        )

    async def preview(self, readers: Readers, params: Params) -> Preview:
        del readers
        return Preview(summary=f"set {params.name}", blast_radius="the test", way_back="delete it")

    async def apply(self, readers: Readers, writers: Writers, params: Params, operation: OperationId) -> None:
        del readers, writers
        if self.target.faults.get(params.name):
            raise self.target.faults[params.name].pop(0)
        if self.target.values.get(params.name) != operation:
            self.target.values[params.name] = operation
            self.target.effects.append(params.name)
        if self.target.late.get(params.name):
            raise self.target.late[params.name].pop(0)

    async def receipt(self, readers: Readers, params: Params, operation: OperationId) -> Receipt:
        del readers
        if self.target.receipt_blind > 0:
            self.target.receipt_blind -= 1
            raise Unreadable("no leader")
        if self.target.foreign:
            return Receipt.FOREIGN
        return Receipt.APPLIED if self.target.values.get(params.name) == operation else Receipt.NOT_APPLIED

    async def verify(self, readers: Readers, params: Params, operation: OperationId) -> Verification:
        del readers
        good = self.target.values.get(params.name) == operation and params.name not in self.target.broken
        return Verification(
            outcome=Outcome.VERIFIED if good else Outcome.FAILED,
            sentence="looked",
            numbers={"set": len(self.target.values)},
            final=params.name in self.target.hopeless,
        )

    async def rollback(self, readers: Readers, writers: Writers, params: Params, operation: OperationId) -> str:
        del readers, writers, operation
        if params.name in self.target.no_way_back:
            raise Refused(f"{params.name} has no way back.")
        if self.target.undoing.get(params.name):
            raise self.target.undoing[params.name].pop(0)
        self.target.values.pop(params.name, None)
        self.target.effects.append(f"-{params.name}")
        return f"{params.name} is undone."


class Quiet:
    """An engine, a chat and steps that only remember."""

    def __init__(self) -> None:
        self.started: list[tuple[Phase, str]] = []

    async def start(self, phase: Phase, key: str) -> None:
        self.started.append((phase, key))

    def nudge(self, incident: str) -> None:
        del incident

    async def run(self, name: str, work: Callable[[], Awaitable[str]]) -> str:
        del name
        return await work()


class People:
    """A directory in which a test can take groups away."""

    def __init__(self) -> None:
        self.groups = {"U1": frozenset({"operators"}), "U2": frozenset({"owners"})}

    async def look_up(self, user: SlackUser, *, fresh: bool = False) -> Person:
        assert fresh, "right before the first write nobody may come from a cache"
        return Person(
            user=user,
            key=user.user_id,
            human=True,
            active=True,
            guest=False,
            home_workspace=True,
            groups=self.groups[user.user_id],
            looked_up_at=records.NOW,
        )


class NoReaders:
    cluster = "prod"
    api_timeout = 2.0


@dataclass
class House:
    store: SqlStore
    clock: records.FixedClock
    target: Target
    people: People
    quiet: Quiet
    executor: Executor
    proposal: Proposal
    execution: Execution

    async def run(self) -> Execution:
        await self.executor.run(self.execution.id, self.quiet)
        found = await self.store.get(Execution, self.execution.id)
        assert found is not None
        return found

    async def state(self) -> ProposalState:
        found = await self.store.get(Proposal, self.proposal.id)
        assert found is not None
        return found.state


@asynccontextmanager
async def house(folder: Path, *names: str, limits: LimitSettings = SHIPPED) -> AsyncGenerator[House]:
    clock = records.FixedClock()
    target, people, quiet = Target(), People(), Quiet()
    async with SqlStore.open(f"sqlite:///{folder / 'n.db'}", clock) as store:
        preview = Preview(summary="set", blast_radius="the test", way_back="delete it")
        stages = tuple(
            Stage(kind="test.set", params={"name": n}, risk=RiskClass.DESTRUCTIVE, preview=preview) for n in names
        )
        proposal = records.proposal().model_copy(
            update={
                "state": ProposalState.APPROVED,
                "stages": stages,
                "world": {"leader": "n0"},
                "expires_at": clock.now() + timedelta(minutes=10),
            }
        )
        execution = queued(proposal, clock)
        async with store.begin() as tx:
            await tx.put(records.incident())
            await tx.put(records.diagnosis())
            await tx.put(proposal)
            for user, group in ((ADA, "operators"), (BO, "owners")):
                await tx.put(
                    Approval(
                        id=ApprovalId(f"app_{user.user_id}"),
                        proposal_id=proposal.id,
                        proposal_digest=proposal.digest,
                        choice=Choice.APPROVE,
                        user=user,
                        person=user.user_id,
                        groups=(group,),
                        reason="r",
                        at=clock.now(),
                    )
                )
            await tx.put(execution)
        executor = Executor(
            store=store,
            stages=Stages({"test.set": SetValue(target)}),
            readers={"prod": cast("Readers", NoReaders())},
            writers={"prod": cast("Writers", object())},
            directory=people,
            rules=RULES,
            limits=Limits(limits, clock),
            engine=quiet,
            clock=clock,
            chat=quiet,
        )
        yield House(store, clock, target, people, quiet, executor, proposal, execution)
