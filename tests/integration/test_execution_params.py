"""What flow makes of a stage's parameters: times of their own, the before-image, and what a failed stage may have lost."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from bot.action import Check, Comparing, Draft, Paced
from bot.errors import Stands, Unreadable
from bot.flow.aftermath import rescues
from bot.flow.stages import Stages
from bot.model import (
    Execution,
    ExecutionState,
    OperationId,
    Outcome,
    Record,
    StageState,
    Subject,
    Verification,
)
from bot.ports import Readers, Writers
from tests.integration.execution_house import House, Params, SetValue, Target, house


class OwnParams(Paced, Comparing, Params):
    settle: float = 30.0
    patience: float = 100.0


class OwnTimes(SetValue):
    """Takes a before-image, and finds gone what the test takes away."""

    params: type[Record] = OwnParams

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self.seen: list[object] = []
        self.bad_from: float | None = None
        self.stays: set[str] = set()
        self.unreadable = False

    async def check(self, readers: Readers, params: Params) -> Check:
        checked = await super().check(readers, params)
        return checked.model_copy(update={"before_image": {"copy of": params.name}})

    async def verify(self, readers: Readers, params: Params, operation: OperationId) -> Verification:
        self.seen.append(cast("OwnParams", params).before)
        if self.bad_from is not None and len(self.seen) > self.bad_from:
            return Verification(outcome=Outcome.FAILED, sentence="bad again")
        return await super().verify(readers, params, operation)

    async def rollback(self, readers: Readers, writers: Writers, params: Params, operation: OperationId) -> str:
        if params.name in self.stays:
            raise Stands(f"{params.name} is whole and stays.")
        return await super().rollback(readers, writers, params, operation)

    async def rescue(self, readers: Readers, params: OwnParams) -> Sequence[tuple[Subject, Draft]]:
        del readers
        if self.unreadable:
            raise Unreadable("no leader")
        lost = Subject(cluster="prod", consumer=params.name)
        return [(lost, Draft(title=f"Bring {params.name} back", why=str(params.before)))]


@asynccontextmanager
async def own(folder: Path, *names: str, **further: object) -> AsyncGenerator[tuple[House, OwnTimes]]:
    async with house(folder, *names) as h:
        action = OwnTimes(h.target)
        h.executor._stages = Stages({"test.set": action})
        stages = tuple(s.model_copy(update={"params": s.params | further}) for s in h.proposal.stages)
        # Approvals are bound to the digest, so this has to stand before the first look at it.
        async with h.store.begin() as tx:
            changed = h.proposal.model_copy(update={"stages": stages})
            await tx.put(changed)
            for approval in await tx.approvals(changed.id):
                await tx.put(approval.model_copy(update={"proposal_digest": changed.digest}))
        yield h, action


@pytest.mark.parametrize(("settle", "looks"), [(0.0, 1), (1.0, 2), (30.0, 31)])
async def test_a_stage_holds_for_the_time_that_was_approved_with_it(tmp_path: Path, settle: float, looks: int) -> None:
    async with own(tmp_path, "a", settle=settle) as (h, action):
        assert (await h.run()).state is ExecutionState.DONE
        assert len(action.seen) == looks


@pytest.mark.parametrize(("patience", "looks"), [(5.0, 6), (20.0, 21)])
async def test_a_stage_fails_after_the_patience_that_was_approved_with_it(
    tmp_path: Path, patience: float, looks: int
) -> None:
    async with own(tmp_path, "a", patience=patience, settle=1.0) as (h, action):
        h.target.broken = {"a"}
        assert (await h.run()).stages[0].state is StageState.ROLLED_BACK
        assert len(action.seen) == looks


async def test_what_holds_when_patience_ends_may_hold_on_until_it_has_settled(tmp_path: Path) -> None:
    async with own(tmp_path, "a", patience=10.0, settle=30.0) as (h, _):
        assert (await h.run()).state is ExecutionState.DONE


async def test_what_breaks_after_patience_has_ended_has_failed(tmp_path: Path) -> None:
    async with own(tmp_path, "a", patience=10.0, settle=30.0) as (h, action):
        action.bad_from = 20
        ended = await h.run()
        assert (ended.state, len(action.seen)) == (ExecutionState.ROLLED_BACK, 21)
        assert "bad again" in ended.sentence


async def test_the_committed_before_image_is_what_a_verification_compares_with(tmp_path: Path) -> None:
    async with own(tmp_path, "a", "b", settle=0.0, before={"copy of": "a forger's"}) as (h, action):
        await h.run()
        assert action.seen == [{"copy of": "a"}, {"copy of": "b"}]


async def test_what_is_whole_in_itself_stays_when_a_later_stage_fails(tmp_path: Path) -> None:
    async with own(tmp_path, "a", "b", settle=0.0, patience=1.0) as (h, action):
        action.stays, h.target.broken = {"a"}, {"b"}
        ended = await h.run()
        assert ended.state is ExecutionState.ROLLED_BACK
        assert [run.state for run in ended.stages] == [StageState.VERIFIED, StageState.ROLLED_BACK]
        assert h.target.effects == ["a", "b", "-b"]
        assert ended.sentence.endswith("a is whole and stays. What came after it was undone.")


async def test_what_stays_after_a_stage_that_was_never_sent_is_told_as_failed(tmp_path: Path) -> None:
    async with own(tmp_path, "a", "b", settle=0.0) as (h, action):
        action.stays, h.target.refusals, h.target.hopeless = {"a"}, {"b": "It was edited."}, {"b"}
        ended = await h.run()
        assert ended.state is ExecutionState.FAILED
        assert ended.sentence == "Stage 2 of 2 did not succeed: It was edited. a is whole and stays."


async def lost(h: House, action: OwnTimes) -> list[tuple[str, str]]:
    found = await rescues(h.store, Stages({"test.set": action}), cast("Readers", object()), h.proposal.incident_id)
    return [(p.draft.title, p.draft.why) for p in found]


async def test_a_failed_stage_is_asked_what_it_lost_and_gets_its_copy(tmp_path: Path) -> None:
    async with own(tmp_path, "a", settle=0.0, patience=1.0) as (h, action):
        assert await lost(h, action) == []
        h.target.broken, h.target.no_way_back = {"a"}, {"a"}
        ended = await h.run()
        assert (ended.state, ended.stages[0].state) == (ExecutionState.NEEDS_HUMAN, StageState.FAILED)
        assert await lost(h, action) == [("Bring a back", "{'copy of': 'a'}")]
        action.unreadable = True
        ((title, why),) = await lost(h, action)
        assert "stage 1" in title
        assert "no leader" in why


async def test_a_verified_stage_is_not_asked_what_it_lost(tmp_path: Path) -> None:
    async with own(tmp_path, "a", settle=0.0) as (h, action):
        ended: Execution = await h.run()
        assert ended.state is ExecutionState.DONE
        assert await lost(h, action) == []
