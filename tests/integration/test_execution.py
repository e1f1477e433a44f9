"""Execution against a real database and a target that a test owns: it counts what took effect, and loses replies on purpose."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest

from bot.action import Check, Receipt
from bot.adapters.database import SqlStore
from bot.errors import BadInput, NoResponders, NotApplied, OutcomeUnknown, Refused, Unreadable, WriteDenied
from bot.flow.approval import queued
from bot.flow.execution import Executor
from bot.flow.stages import Stages
from bot.flow.unlock import unlock
from bot.model import (
    Approval,
    ApprovalId,
    Choice,
    Execution,
    ExecutionState,
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
    StageState,
    Verification,
)
from bot.ports import Phase, Readers, Writers
from bot.settings import GroupSettings, PolicySettings
from tests.integration import store_records as records

ADA, BO = SlackUser(team_id="T1", user_id="U1"), SlackUser(team_id="T1", user_id="U2")
RULES = PolicySettings(
    groups={"operators": GroupSettings(users=("U1",)), "owners": GroupSettings(users=("U2",))},
    approvers={RiskClass.DESTRUCTIVE: ("operators", "owners")},
)


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
        return Check(world=dict(self.target.world), refusals=(refusal,) if refusal else (), final=final)

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
async def house(folder: Path, *names: str) -> AsyncGenerator[House]:
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
            engine=quiet,
            clock=clock,
            chat=quiet,
        )
        yield House(store, clock, target, people, quiet, executor, proposal, execution)


async def test_two_stages_are_applied_and_verified_in_order(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b") as h:
        ended = await h.run()
        assert (ended.state, await h.state(), h.target.effects) == (ExecutionState.DONE, ProposalState.DONE, ["a", "b"])
        assert await h.store.fence("prod") == (None, 1)
        assert [r.state for r in ended.stages] == [StageState.VERIFIED] * 2
        assert (Phase.DIAGNOSIS, f"{ended.incident_id}/after {ended.id}") in h.quiet.started


async def test_a_second_run_of_a_finished_execution_changes_nothing(tmp_path: Path) -> None:
    async with house(tmp_path, "a") as h:
        await h.run()
        rows = len(await h.store.audit_entries())
        await h.run()
        assert h.target.effects == ["a"]
        assert len(await h.store.audit_entries()) == rows


async def test_a_lost_reply_is_resolved_by_the_receipt_and_nothing_is_sent_again(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b") as h:
        h.target.late["a"] = [OutcomeUnknown("no answer")]
        h.target.receipt_blind = 3
        ended = await h.run()
        assert (ended.state, h.target.effects) == (ExecutionState.DONE, ["a", "b"])
        assert ended.stages[0].sent == 1


async def test_while_an_outcome_is_unknown_execution_and_proposal_say_so(tmp_path: Path) -> None:
    async with house(tmp_path, "a") as h:
        h.target.late["a"] = [OutcomeUnknown("no answer")]
        h.target.receipt_blind = 2
        real = h.clock.sleep
        seen: list[tuple[ExecutionState, ProposalState]] = []

        async def look(seconds: float) -> None:
            found = await h.store.get(Execution, h.execution.id)
            assert found is not None
            seen.append((found.state, await h.state()))
            await real(seconds)

        h.clock.sleep = look
        ended = await h.run()
        assert seen[:2] == [(ExecutionState.UNKNOWN, ProposalState.UNKNOWN)] * 2
        assert ended.state is ExecutionState.DONE


async def test_a_lost_request_is_sent_again_only_after_twice_the_time_out_under_the_same_operation(
    tmp_path: Path,
) -> None:
    async with house(tmp_path, "a") as h:
        h.target.faults["a"] = [OutcomeUnknown("no answer")]
        before = h.clock.now()
        ended = await h.run()
        assert (ended.state, h.target.effects, ended.stages[0].sent) == (ExecutionState.DONE, ["a"], 2)
        assert h.clock.now() - before >= timedelta(seconds=2 * NoReaders.api_timeout)
        assert h.target.values["a"] == ended.stages[0].operation_id


async def test_a_lost_request_is_not_sent_again_when_the_world_has_moved(tmp_path: Path) -> None:
    async with house(tmp_path, "a") as h:
        h.target.faults["a"] = [OutcomeUnknown("no answer")]
        real = h.clock.sleep

        async def moves(seconds: float) -> None:
            h.target.world["leader"] = "n2"
            await real(seconds)

        h.clock.sleep = moves
        ended = await h.run()
        assert h.target.effects == []
        assert "leader was n0, now n2" in ended.sentence
        assert "may still arrive" in ended.sentence
        assert (ended.state, await h.state()) == (ExecutionState.NEEDS_HUMAN, ProposalState.NEEDS_HUMAN)
        assert (await h.store.fence("prod"))[0] == ended.id


async def test_an_object_that_somebody_else_changed_is_a_humans_and_stays_locked(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b") as h:
        h.target.late["a"] = [OutcomeUnknown("no answer")]
        h.target.foreign = True
        ended = await h.run()
        assert (ended.state, await h.state()) == (ExecutionState.NEEDS_HUMAN, ProposalState.NEEDS_HUMAN)
        assert h.target.effects == ["a"]
        assert (await h.store.fence("prod"))[0] == ended.id
        with pytest.raises(BadInput, match="reason"):
            await unlock(h.store, "prod", "ada", " ")
        await unlock(h.store, "prod", "ada", "looked: the other tool's change is right")
        assert (await h.store.fence("prod"))[0] is None
        assert (await h.store.audit_entries())[-1].actor == "ada"


async def test_a_running_execution_keeps_its_lock_whoever_asks(tmp_path: Path) -> None:
    async with house(tmp_path, "a") as h:
        async with h.store.begin() as tx:
            await tx.take_lock("prod", h.execution.id)
        with pytest.raises(Refused, match="still runs"):
            await unlock(h.store, "prod", "ada", "impatient")


async def test_an_outcome_nobody_can_read_is_a_humans_within_five_minutes(tmp_path: Path) -> None:
    async with house(tmp_path, "a") as h:
        h.target.late["a"] = [OutcomeUnknown("no answer")]
        h.target.receipt_blind = 10_000
        before = h.clock.now()
        ended = await h.run()
        assert ended.state is ExecutionState.NEEDS_HUMAN
        assert h.clock.now() - before <= timedelta(minutes=5)


async def test_a_denied_write_is_not_applied_and_the_rest_never_starts(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b") as h:
        h.target.faults["a"] = [WriteDenied("may not")]
        ended = await h.run()
        assert (ended.state, await h.state(), h.target.effects) == (ExecutionState.FAILED, ProposalState.FAILED, [])
        assert "may not" in ended.sentence
        assert ended.stages[1].state is StageState.SKIPPED
        assert (await h.store.fence("prod"))[0] is None


async def test_a_refused_second_stage_rolls_the_first_one_back(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b") as h:
        h.target.faults["b"] = [NotApplied("insufficient resources")]
        ended = await h.run()
        assert (ended.state, h.target.effects) == (ExecutionState.ROLLED_BACK, ["a", "-a"])


async def test_a_passing_refusal_half_way_is_tried_again(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b") as h:
        h.target.faults["b"] = [NoResponders("not now"), NoResponders("not now")]
        ended = await h.run()
        assert (ended.state, h.target.effects) == (ExecutionState.DONE, ["a", "b"])


async def test_a_refusal_between_two_stages_is_waited_out(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b") as h:
        h.target.refusals = {"b": "no leader yet"}
        real = h.clock.sleep
        naps = 0

        async def passes(seconds: float) -> None:
            nonlocal naps
            naps += 1
            if naps > 20:
                h.target.refusals.clear()
            await real(seconds)

        h.clock.sleep = passes
        ended = await h.run()
        assert (ended.state, h.target.effects) == (ExecutionState.DONE, ["a", "b"])


async def test_a_refusal_between_two_stages_that_stays_rolls_back(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b") as h:
        h.target.refusals = {"b": "somebody else created it"}
        ended = await h.run()
        assert (ended.state, h.target.effects) == (ExecutionState.ROLLED_BACK, ["a", "-a"])
        assert "somebody else created it" in ended.sentence


async def test_a_rollback_that_cannot_be_done_stops_and_keeps_what_came_before_it(tmp_path: Path) -> None:
    async with house(tmp_path, "hold", "delete", "create") as h:
        h.target.faults["create"] = [NotApplied("insufficient resources")]
        h.target.no_way_back = {"delete"}
        ended = await h.run()
        assert ended.state is ExecutionState.NEEDS_HUMAN
        assert "hold" in h.target.values, "the holder must stay while the consumer is away"
        assert "delete has no way back" in ended.sentence


async def test_a_stage_that_reality_does_not_confirm_is_failed_never_done(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b") as h:
        h.target.broken = {"a"}
        ended = await h.run()
        assert ended.state is ExecutionState.ROLLED_BACK
        assert h.target.effects == ["a", "-a"], "the second stage never starts"


async def test_the_world_is_read_again_right_before_the_first_write(tmp_path: Path) -> None:
    async with house(tmp_path, "a") as h:
        h.target.world["leader"] = "n2"
        ended = await h.run()
        assert (ended.state, await h.state(), h.target.effects) == (
            ExecutionState.REFUSED,
            ProposalState.SUPERSEDED,
            [],
        )
        assert "leader was n0, now n2" in ended.sentence
        assert (Phase.DIAGNOSIS, f"{ended.incident_id}/drift of {h.proposal.id}") in h.quiet.started


async def test_an_approver_who_lost_the_group_since_the_click_stops_it(tmp_path: Path) -> None:
    async with house(tmp_path, "a") as h:
        h.people.groups["U2"] = frozenset()
        ended = await h.run()
        assert (ended.state, await h.state(), h.target.effects) == (ExecutionState.REFUSED, ProposalState.WITHDRAWN, [])


async def test_an_approval_that_expired_before_the_first_write_stops_it(tmp_path: Path) -> None:
    async with house(tmp_path, "a") as h:
        h.clock.time += timedelta(minutes=10)
        ended = await h.run()
        assert (ended.state, h.target.effects) == (ExecutionState.REFUSED, [])


async def test_while_another_execution_holds_the_cluster_it_waits_and_then_expires(tmp_path: Path) -> None:
    async with house(tmp_path, "a") as h:
        async with h.store.begin() as tx:
            assert await tx.take_lock("prod", "exec_other") == 1
        ended = await h.run()
        assert (ended.state, h.target.effects) == (ExecutionState.REFUSED, [])
        assert (await h.store.fence("prod"))[0] == "exec_other"


@pytest.mark.parametrize("late", [False, True])
async def test_a_kill_while_sending_is_resolved_by_the_receipt_after_the_restart(tmp_path: Path, late: bool) -> None:
    async with house(tmp_path, "a", "b") as h:
        (h.target.late if late else h.target.faults)["a"] = [Kill()]
        with pytest.raises(Kill):
            await h.run()
        interrupted = await h.store.get(Execution, h.execution.id)
        assert interrupted is not None
        assert interrupted.stages[0].state is StageState.INTENDED
        ended = await h.run()
        assert (ended.state, h.target.effects) == (ExecutionState.DONE, ["a", "b"])
        assert ended.stages[0].sent == (1 if late else 2)


async def test_a_lock_that_was_taken_over_while_it_slept_stops_the_next_send(tmp_path: Path) -> None:
    async with house(tmp_path, "a", "b") as h:
        action_verify = SetValue.verify

        async def steal(self: SetValue, readers: Readers, params: Params, operation: OperationId) -> Verification:
            async with h.store.begin() as tx:
                await tx.release_lock("prod", h.execution.id)
                await tx.take_lock("prod", "exec_other")
            SetValue.verify = action_verify
            return await action_verify(self, readers, params, operation)

        SetValue.verify = steal
        ended = await h.run()
        assert h.target.effects == ["a"], "neither the second stage nor a rollback is sent without the lock"
        assert ended.state is ExecutionState.NEEDS_HUMAN
