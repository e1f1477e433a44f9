"""Execution against a real database and a target that a test owns: it counts what took effect, and loses replies on purpose."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from bot.errors import BadInput, NoResponders, NotApplied, OutcomeUnknown, Refused, StoreLost, WriteDenied
from bot.flow.ledger import Ledger
from bot.flow.unlock import unlock
from bot.model import (
    Execution,
    ExecutionId,
    ExecutionState,
    OperationId,
    ProposalState,
    StageRun,
    StageState,
    Verification,
)
from bot.ports import Phase, Readers
from tests.integration.execution_house import House, Kill, NoReaders, Params, SetValue, house


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


async def is_refused_for_drift(h: House) -> None:
    ended = await h.run()
    assert (ended.state, await h.state(), h.target.effects) == (
        ExecutionState.REFUSED,
        ProposalState.SUPERSEDED,
        [],
    )
    assert "leader was n0, now n2" in ended.sentence
    assert (Phase.DIAGNOSIS, f"{ended.incident_id}/drift of {h.proposal.id}") in h.quiet.started


async def test_the_world_is_read_again_right_before_the_first_write(tmp_path: Path) -> None:
    async with house(tmp_path, "a") as h:
        h.target.world["leader"] = "n2"
        await is_refused_for_drift(h)


async def interrupted(*_: object) -> None:
    raise StoreLost("the connection broke")


async def runs_until_it_cannot_write(
    h: House, patch: pytest.MonkeyPatch, name: str, fails: Callable[..., object]
) -> None:
    with patch.context() as patched:
        patched.setattr(Ledger, name, fails)
        with pytest.raises(StoreLost):
            await h.run()


async def test_a_proposal_that_drift_has_voided_stays_void_though_the_world_moves_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house(tmp_path, "a") as h:
        h.target.world["leader"] = "n2"
        await runs_until_it_cannot_write(h, monkeypatch, "refuse", interrupted)
        assert await h.state() is ProposalState.SUPERSEDED
        h.target.world["leader"] = "n0"
        await is_refused_for_drift(h)


async def test_a_change_that_drift_has_voided_before_it_was_sent_is_not_sent_though_the_world_moves_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Ledger.stage

    async def not_that(self: Ledger, execution: ExecutionId, index: int, state: StageState, sentence: str) -> StageRun:
        if state is StageState.NOT_APPLIED:
            raise StoreLost("the connection broke")
        return await real(self, execution, index, state, sentence)

    async with house(tmp_path, "a") as h:
        await runs_until_it_cannot_write(h, monkeypatch, "sending", interrupted)
        h.target.world["leader"] = "n2"
        await runs_until_it_cannot_write(h, monkeypatch, "stage", not_that)
        assert await h.state() is ProposalState.SUPERSEDED
        h.target.world["leader"] = "n0"
        ended = await h.run()
        assert (ended.stages[0].state, ended.stages[0].sent, h.target.effects) == (StageState.NOT_APPLIED, 0, [])
        assert (ended.state, await h.state()) == (ExecutionState.FAILED, ProposalState.SUPERSEDED)


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
