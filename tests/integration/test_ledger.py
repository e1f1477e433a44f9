"""What an execution leaves in the database: each change of state with its one audit row, and no change where the lock or a limit is against it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from bot import crashpoints
from bot.action import Check
from bot.crashpoints import Point
from bot.errors import BadInput, Refused
from bot.flow.ledger import Ledger
from bot.limits import Limits, Ruling, Stop
from bot.model import Execution, ExecutionId, ExecutionState, Incident, Proposal, ProposalState, StageRun, StageState
from bot.ports import Transaction
from tests.integration import execution_house
from tests.integration.store_records import NOW

ENDED = {StageState.VERIFIED, StageState.NOT_APPLIED, StageState.FAILED, StageState.ROLLED_BACK}
CHECK = Check(world={"leader": "n0"}, before={"set": 0}, before_image={"config": {"name": "a"}})
STOLEN = "Another execution holds this cluster's lock, so nothing was sent."


class Rulings:
    """Limits that a test sets, and what they were asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.ruling = Ruling()

    async def start(self, tx: Transaction, proposal: Proposal) -> Ruling:
        assert tx is not None
        self.asked.append(("start", proposal.id))
        return self.ruling

    async def stage(self, tx: Transaction, cluster: str, kind: str) -> Ruling:
        assert tx is not None
        self.asked.append(("stage", cluster, kind))
        return self.ruling


@dataclass
class House:
    inner: execution_house.House
    ledger: Ledger
    limits: Rulings
    nudged: list[str]

    @property
    def id(self) -> ExecutionId:
        return self.inner.execution.id

    def nudge(self, incident: str) -> None:
        self.nudged.append(incident)

    async def put(self, *made: Execution | Proposal) -> None:
        async with self.inner.store.begin() as tx:
            for record in made:
                await tx.put(record)

    async def now(self) -> Execution:
        return await self.ledger.load(self.id)

    async def states(self) -> tuple[ExecutionState, ProposalState]:
        return (await self.now()).state, await self.inner.state()

    async def rows(self) -> list[tuple[str, str, dict[str, Any]]]:
        found = await self.inner.store.audit_entries()
        assert {(row.actor, row.incident_id, row.subject) for row in found} <= {("bot", "inc_1", "prop_1")}
        return [(row.kind, row.sentence, row.data) for row in found]

    async def revision(self) -> int:
        found = await self.inner.store.get(Incident, "inc_1")
        assert found is not None
        return found.revision

    async def began(self) -> Execution:
        """With the lock, and on its way."""
        assert await self.ledger.take_lock(await self.now())
        await self.ledger.applying(self.id)
        return await self.now()

    async def holder(self) -> str | None:
        return (await self.inner.store.fence("prod"))[0]

    async def stolen(self) -> None:
        async with self.inner.store.begin() as tx:
            await tx.release_lock("prod", self.id)
            await tx.take_lock("prod", "exec_other")


@asynccontextmanager
async def house(folder: Path) -> AsyncGenerator[House]:
    limits = Rulings()
    async with execution_house.house(folder, "a", "b") as inner:
        made = House(inner, cast("Any", None), limits, [])
        chat = cast("Any", made)
        made.ledger = Ledger(store=inner.store, limits=cast("Limits", limits), clock=inner.clock, chat=chat)
        yield made


async def test_every_change_is_one_row_that_says_what_changed_under_which_fence(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        before = await h.revision()
        begun = await h.began()
        one, two = begun.stages
        await h.ledger.intend(begun, 0, CHECK)
        await h.ledger.sending(begun, 0, "test.set")
        await h.ledger.stage(h.id, 0, StageState.APPLIED, "Applied.")
        await h.ledger.stage(h.id, 0, StageState.VERIFIED, "It holds.", after={"set": 1})
        await h.ledger.verifying(h.id)
        await h.ledger.undoing(h.id, 1)
        assert await h.ledger.end(h.id, ExecutionState.DONE, ProposalState.DONE, "All is well.") == "done"

        def of(state: str) -> dict[str, Any]:
            return {"execution": h.id, "state": state, "fence": 1}

        first = {"execution": h.id, "stage": 0, "operation": one.operation_id}
        second = {"execution": h.id, "stage": 1, "operation": two.operation_id, "sent": 0, "after": {}}
        intended = {"before": {"config": {"name": "a"}}, "world": {"leader": "n0"}}
        assert await h.rows() == [
            ("execution.started", "Approvals, expiry and world were checked again; it starts.", of("applying")),
            ("stage.intended", "Stage 1 of 2: Sending.", first | {"sent": 0, "after": {}} | intended),
            ("stage.sending", "Stage 1 of 2: Sending.", first | {"sent": 1, "after": {}}),
            ("stage.applied", "Stage 1 of 2: Applied.", first | {"sent": 1, "after": {}}),
            ("stage.verified", "Stage 1 of 2: It holds.", first | {"sent": 1, "after": {"set": 1}}),
            ("execution.verifying", "The last stage is applied; reality is read.", of("verifying")),
            ("stage.undoing", "Stage 2 of 2: ", second),
            ("execution.done", "All is well.", of("done")),
        ]
        assert await h.revision() - before == 8
        assert h.nudged == ["inc_1"] * 6, "a send and an undoing are followed by what came of them"


async def test_the_states_of_execution_and_proposal_go_together(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        assert await h.states() == (ExecutionState.QUEUED, ProposalState.APPROVED)
        begun = await h.began()
        assert await h.states() == (ExecutionState.APPLYING, ProposalState.APPLYING)
        await h.ledger.intend(begun, 0, CHECK)
        await h.ledger.stage(h.id, 0, StageState.UNKNOWN, "No answer.")
        assert await h.states() == (ExecutionState.UNKNOWN, ProposalState.UNKNOWN)
        await h.ledger.stage(h.id, 0, StageState.APPLIED, "Found.")
        assert await h.states() == (ExecutionState.APPLYING, ProposalState.APPLYING)
        await h.ledger.verifying(h.id)
        assert await h.states() == (ExecutionState.VERIFYING, ProposalState.VERIFYING)
        await h.ledger.end(h.id, ExecutionState.FAILED, ProposalState.FAILED, "It does not hold.")
        assert await h.states() == (ExecutionState.FAILED, ProposalState.FAILED)
        found = await h.ledger.proposal(await h.now())
        assert found.state_reason == (await h.now()).sentence == "It does not hold."


async def test_an_intent_keeps_what_was_there_and_when(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        begun = await h.began()
        h.inner.clock.time += timedelta(seconds=7)
        await h.ledger.intend(begun, 1, CHECK)
        one, two = (await h.now()).stages
        assert one == begun.stages[0]
        assert two == begun.stages[1].model_copy(
            update={
                "state": StageState.INTENDED,
                "intended_at": NOW + timedelta(seconds=7),
                "before": {"set": 0},
                "before_image": {"config": {"name": "a"}},
                "sentence": "Sending.",
            }
        )


async def test_when_a_stage_was_applied_and_when_it_ended_is_kept(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        begun = await h.began()
        h.inner.clock.time += timedelta(seconds=7)
        later = NOW + timedelta(seconds=7)
        for state in set(StageState) - {StageState.SKIPPED}:
            await h.put(begun)
            changed = await h.ledger.stage(h.id, 0, state, "So it is.")
            assert changed == begun.stages[0].model_copy(
                update={
                    "state": state,
                    "sentence": "So it is.",
                    "applied_at": later if state is StageState.APPLIED else None,
                    "ended_at": later if state in ENDED else None,
                }
            )
            assert (await h.now()).stages == (changed, begun.stages[1])


async def test_numbers_are_kept_until_there_are_newer_ones(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.began()
        given = ({"set": 1}, None, {"set": 2}, {})
        kept = [await h.ledger.stage(h.id, 0, StageState.APPLIED, "So it is.", after=numbers) for numbers in given]
        assert [run.after for run in kept] == [{"set": 1}, {"set": 1}, {"set": 2}, {}]


async def test_an_execution_is_unknown_for_as_long_as_a_stage_is(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        for state in ExecutionState:
            await h.put(h.inner.execution.model_copy(update={"state": state}))
            await h.ledger.stage(h.id, 0, StageState.APPLIED, "So it is.")
            known = ExecutionState.APPLYING if state is ExecutionState.UNKNOWN else state
            assert (await h.now()).state is known
            await h.ledger.stage(h.id, 0, StageState.UNKNOWN, "No answer.")
            assert (await h.now()).state is (state if state.terminal else ExecutionState.UNKNOWN)


async def test_a_proposal_that_is_final_stays_what_it_is(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        begun = await h.began()
        for state in (state for state in ProposalState if state.terminal):
            final = h.inner.proposal.model_copy(update={"state": state, "state_reason": "It is over."})
            await h.put(final, begun)
            await h.ledger.intend(begun, 0, CHECK)
            await h.ledger.stage(h.id, 0, StageState.UNKNOWN, "No answer.")
            await h.ledger.end(h.id, ExecutionState.NEEDS_HUMAN, ProposalState.NEEDS_HUMAN, "Nobody knows.")
            assert await h.ledger.proposal(begun) == final
            assert (await h.now()).state is ExecutionState.NEEDS_HUMAN


async def test_an_end_skips_what_still_waits_and_gives_the_lock_back(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.began()
        await h.ledger.stage(h.id, 0, StageState.FAILED, "No.")
        h.inner.clock.time += timedelta(seconds=7)
        passed: list[Point] = []
        crashpoints.listen(passed.append)
        try:
            await h.ledger.end(h.id, ExecutionState.FAILED, ProposalState.FAILED, "It failed.")
        finally:
            crashpoints.listen(None)
        ended = await h.now()
        assert [run.state for run in ended.stages] == [StageState.FAILED, StageState.SKIPPED]
        assert (ended.ended_at, ended.sentence) == (NOW + timedelta(seconds=7), "It failed.")
        assert (await h.holder(), passed) == (None, [Point.P16])


async def test_before_its_end_an_execution_has_none_and_skips_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        passed: list[Point] = []
        crashpoints.listen(passed.append)
        try:
            begun = await h.began()
            await h.ledger.verifying(h.id)
        finally:
            crashpoints.listen(None)
        assert (begun.ended_at, [run.state for run in begun.stages]) == (None, [StageState.WAITING] * 2)
        assert (await h.holder(), passed) == (h.id, [])


async def test_while_an_outcome_is_unknown_the_lock_stays(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.began()
        await h.ledger.stage(h.id, 0, StageState.UNKNOWN, "No answer.")
        await h.ledger.end(h.id, ExecutionState.NEEDS_HUMAN, ProposalState.NEEDS_HUMAN, "Nobody knows.")
        assert await h.holder() == h.id


async def test_a_refusal_before_the_first_write_is_told_and_gives_the_lock_back(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        assert await h.ledger.take_lock(await h.now())
        await h.ledger.refuse(h.id, ProposalState.WITHDRAWN, "Not any more.")
        assert await h.states() == (ExecutionState.REFUSED, ProposalState.WITHDRAWN)
        assert await h.rows() == [
            ("execution.refused", "Not any more.", {"execution": h.id, "state": "refused", "fence": 1})
        ]
        assert await h.holder() is None


async def test_a_lock_is_taken_once_and_its_number_kept(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        async with h.inner.store.begin() as tx:
            await tx.take_lock("prod", "exec_other")
        assert await h.ledger.take_lock(await h.now()) is False
        assert (await h.now()).fence == 0
        async with h.inner.store.begin() as tx:
            await tx.release_lock("prod", "exec_other")
        stale = await h.now()
        await h.ledger.stage(h.id, 0, StageState.WAITING, "Waits.")
        assert await h.ledger.take_lock(stale) is True
        now = await h.now()
        assert (now.fence, now.stages[0].sentence) == (2, "Waits."), "what was written meanwhile is not undone"


async def test_without_the_lock_nothing_is_meant_to_be_sent_or_undone(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        begun = await h.began()
        rows = await h.rows()
        await h.stolen()
        with pytest.raises(Refused) as refused:
            await h.ledger.intend(begun, 0, CHECK)
        assert str(refused.value) == STOLEN
        with pytest.raises(Refused, match=STOLEN):
            await h.ledger.sending(begun, 0, "test.set")
        with pytest.raises(Refused, match=STOLEN):
            await h.ledger.insist(begun, "test.set")
        assert (await h.rows(), await h.now()) == (rows, begun)


async def test_a_limit_stops_what_is_about_to_be_sent_or_undone_and_says_why(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        begun = await h.began()
        assert (await h.ledger.may_start(h.inner.proposal)).allowed
        rows = await h.rows()
        h.limits.ruling = Ruling(stop=Stop.FROZEN, sentence="Everything is frozen.")
        assert not (await h.ledger.may_start(h.inner.proposal)).allowed
        with pytest.raises(Refused, match=r"^Everything is frozen\.$"):
            await h.ledger.intend(begun, 0, CHECK)
        with pytest.raises(Refused, match=r"^Everything is frozen\.$"):
            await h.ledger.intend(begun, 1, CHECK)
        with pytest.raises(Refused, match=r"^Everything is frozen\.$"):
            await h.ledger.sending(begun, 0, "test.set")
        with pytest.raises(Refused, match=r"^Everything is frozen\.$"):
            await h.ledger.insist(begun, "test.undo")
        assert (await h.rows(), await h.now()) == (rows, begun)


async def test_only_the_first_stage_asks_what_a_start_asks(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        begun = await h.began()
        await h.ledger.may_start(h.inner.proposal)
        await h.ledger.intend(begun, 0, CHECK)
        await h.ledger.intend(begun, 1, CHECK)
        await h.ledger.sending(begun, 1, "test.send")
        await h.ledger.insist(begun, "test.undo")
        assert h.limits.asked == [
            ("start", "prop_1"),
            ("start", "prop_1"),
            ("stage", "prod", "test.set"),
            ("stage", "prod", "test.send"),
            ("stage", "prod", "test.undo"),
        ]


async def test_a_send_is_counted_however_often_it_is_tried(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        begun = await h.began()
        await h.ledger.intend(begun, 0, CHECK)
        for _ in range(3):
            await h.ledger.sending(begun, 0, "test.set")
        assert [run.sent for run in (await h.now()).stages] == [3, 0]


async def test_what_is_not_in_the_database_is_named(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        gone = h.inner.execution.model_copy(update={"id": ExecutionId("exec_9"), "proposal_id": "prop_9"})
        with pytest.raises(BadInput, match=r"^Execution exec_9 is not in the database\.$"):
            await h.ledger.load(gone.id)
        with pytest.raises(BadInput, match=r"^Proposal prop_9 is not in the database\.$"):
            await h.ledger.proposal(gone)
        with pytest.raises(BadInput, match=r"^Execution exec_9 is not in the database\.$"):
            await h.ledger.applying(gone.id)


def test_what_waits_at_the_end_is_the_only_thing_that_is_skipped() -> None:
    from bot.flow.ledger import _skipped

    for state in StageState:
        run = StageRun(index=0, state=state, operation_id=cast("Any", "op"))
        assert _skipped(run).state is (StageState.SKIPPED if state is StageState.WAITING else state)
