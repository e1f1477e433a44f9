"""The oracle sees what is wrong: for each invariant a run that violates it, made by hand, and the same run when it is right."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import cast

import pytest

from bot.adapters.database import SqlStore
from bot.flow.approval import queued
from bot.model import (
    Approval,
    ApprovalId,
    AuditDraft,
    Choice,
    ExecutionState,
    Preview,
    ProposalState,
    RiskClass,
    Stage,
    StageState,
)
from bot.settings import ClusterSettings
from tests.crash.oracle import ENDED_WITHIN, RESUMED_WITHIN, Evidence, judge, possible
from tests.crash.people import ADA
from tests.crash.proxy import Proxy
from tests.crash.scene import Situation
from tests.integration import store_records as records

EXPECTED = [["delete"], ["create"]]
BACK = [["create"]]


class Run:
    """A run that went as it should, until a test spoils it."""

    def __init__(self, store: SqlStore, clock: records.FixedClock) -> None:
        self.store = store
        self.clock = clock
        preview = Preview(summary="set", blast_radius="the test", way_back="none")
        stage = Stage(kind="test.set", params={}, risk=RiskClass.LOW, preview=preview)
        self.proposal = records.proposal().model_copy(
            update={
                "stages": (stage, stage),
                "risk": RiskClass.LOW,
                "state": ProposalState.DONE,
                "expires_at": clock.now() + timedelta(minutes=10),
            }
        )
        made = queued(self.proposal, clock)
        runs = tuple(run.model_copy(update={"state": StageState.VERIFIED, "sent": 1}) for run in made.stages)
        self.execution = made.model_copy(
            update={"state": ExecutionState.DONE, "stages": runs, "ended_at": clock.now(), "sentence": "Done."}
        )
        self.approved = True
        self.announced: Sequence[str] = ("stage.intended", "stage.sending")
        self.effects: Sequence[str] = ("delete", "create")
        self.problem = ""
        self.untouched = ""
        self.restarted = False

    async def judged(self) -> tuple[str, ...]:
        async with self.store.begin() as tx:
            await tx.put(records.incident())
            await tx.put(records.diagnosis())
            await tx.put(self.proposal)
            await tx.put(self.execution)
        if self.approved:
            await self._approve()
        for stage in (0, 1):
            for kind in self.announced:
                await self._write(kind, stage)
        return (await judge(self.store, self._evidence())).violations

    def end(self, state: ExecutionState, proposal: ProposalState, *stages: StageState) -> None:
        runs = tuple(
            run.model_copy(update={"state": one}) for run, one in zip(self.execution.stages, stages, strict=True)
        )
        self.execution = self.execution.model_copy(update={"state": state, "stages": runs})
        self.proposal = self.proposal.model_copy(update={"state": proposal})

    def _evidence(self) -> Evidence:
        async def problem() -> str:
            return self.problem

        async def untouched() -> str:
            return self.untouched

        situation = Situation(
            cluster=cast("ClusterSettings", None),
            door=Proxy(lambda: ()),
            stages=(),
            expected=EXPECTED,
            effects=lambda: self.effects,
            problem=problem,
            untouched=untouched,
            lose=lambda _: None,
            back=BACK,
        )
        evidence = Evidence(situation, self.execution.id, None)
        return replace(evidence, restarted=records.NOW) if self.restarted else evidence

    async def _approve(self) -> None:
        approval = Approval(
            id=ApprovalId("app_1"),
            proposal_id=self.proposal.id,
            proposal_digest=self.proposal.digest,
            choice=Choice.APPROVE,
            user=ADA,
            person=ADA.user_id,
            groups=("operators",),
            reason="r",
            at=self.clock.now(),
        )
        async with self.store.begin() as tx:
            await tx.put(approval)
        await self._write("approval.recorded", 0)

    async def _write(self, kind: str, stage: int) -> None:
        async with self.store.begin() as tx:
            await tx.audit(AuditDraft(kind=kind, actor="bot", subject="prop_1", sentence="x", data={"stage": stage}))


@pytest.fixture
async def run(tmp_path: Path) -> AsyncGenerator[Run]:
    async with _run(tmp_path) as made:
        yield made


@asynccontextmanager
async def _run(folder: Path) -> AsyncGenerator[Run]:
    clock = records.FixedClock()
    async with SqlStore.open(f"sqlite:///{folder / 'n.db'}", clock) as store:
        yield Run(store, clock)


async def test_a_run_that_went_as_it_should_violates_nothing(run: Run):
    assert await run.judged() == ()


@pytest.mark.parametrize(
    "effects", [("delete", "create", "create"), ("delete", "delete"), ("create",), ("delete", "create", "purge")]
)
async def test_what_took_effect_twice_or_in_another_order_violates_i2(run: Run, effects: Sequence[str]):
    run.effects = effects
    assert any(violation.startswith("I2") for violation in await run.judged())


async def test_an_effect_without_an_approval_violates_i3(run: Run):
    run.approved = False
    assert any(violation.startswith("I3") for violation in await run.judged())


async def test_an_approval_that_had_expired_violates_i3(run: Run):
    run.proposal = run.proposal.model_copy(update={"expires_at": run.clock.now()})
    assert any(violation.startswith("I3") for violation in await run.judged())


async def test_done_where_the_target_is_not_right_violates_i4(run: Run):
    run.problem = "the consumer is gone"
    assert await run.judged() == ("I4: it says done, but the consumer is gone",)


async def test_done_where_an_effect_is_missing_violates_i4(run: Run):
    run.effects = ("delete",)
    assert any(violation.startswith("I4: it says done") for violation in await run.judged())


async def test_failed_where_something_was_changed_violates_i4(run: Run):
    run.end(ExecutionState.FAILED, ProposalState.FAILED, StageState.NOT_APPLIED, StageState.SKIPPED)
    assert any(violation.startswith("I4: it says that nothing was changed") for violation in await run.judged())


async def test_failed_where_what_was_done_stays_is_true_only_of_all_of_it(run: Run):
    run.end(ExecutionState.FAILED, ProposalState.FAILED, StageState.VERIFIED, StageState.FAILED)
    assert await run.judged() == ()


async def test_failed_where_a_part_of_what_was_done_stays_violates_i4(run: Run):
    run.end(ExecutionState.FAILED, ProposalState.FAILED, StageState.VERIFIED, StageState.FAILED)
    run.effects = ("delete",)
    assert any("what was done stays" in violation for violation in await run.judged())


async def test_rolled_back_where_something_is_left_violates_i4(run: Run):
    run.end(ExecutionState.ROLLED_BACK, ProposalState.ROLLED_BACK, StageState.ROLLED_BACK, StageState.NOT_APPLIED)
    run.effects = ("delete", "create")
    run.untouched = "the consumer is gone"
    await run._write("stage.undoing", 0)
    assert await run.judged() == ("I4: it says that everything is as before, but the consumer is gone",)


async def test_a_proposal_that_says_another_end_than_its_execution_violates_i4(run: Run):
    run.end(ExecutionState.DONE, ProposalState.FAILED, StageState.VERIFIED, StageState.VERIFIED)
    assert await run.judged() == ("I4: the execution is done, its proposal failed",)


async def test_a_send_that_is_not_on_record_violates_i5(run: Run):
    run.announced = ("stage.intended",)
    assert any(violation.startswith("I5") for violation in await run.judged())


async def test_an_effect_without_an_intent_on_record_violates_i3(run: Run):
    run.announced = ("stage.sending",)
    assert any("no intent is on record" in violation for violation in await run.judged())


async def test_what_has_no_end_violates_i6(run: Run):
    run.end(ExecutionState.APPLYING, ProposalState.APPLYING, StageState.VERIFIED, StageState.APPLIED)
    assert any(violation.startswith("I6") for violation in await run.judged())


@pytest.mark.parametrize(("seconds", "violations"), [(ENDED_WITHIN, 0), (ENDED_WITHIN + 1, 1)])
async def test_an_end_later_than_five_minutes_after_the_restart_violates_i6(run: Run, seconds: float, violations: int):
    run.restarted = True
    run.execution = run.execution.model_copy(update={"ended_at": records.NOW + timedelta(seconds=seconds)})
    assert len(await run.judged()) == violations


@pytest.mark.parametrize(("seconds", "violations"), [(RESUMED_WITHIN, 0), (RESUMED_WITHIN + 1, 1)])
async def test_what_is_taken_up_later_than_a_minute_after_the_restart_violates_i7(
    run: Run, seconds: float, violations: int
):
    run.restarted = True
    await run.clock.sleep(seconds)
    run.proposal = run.proposal.model_copy(update={"expires_at": run.clock.now() + timedelta(minutes=1)})
    run.execution = run.execution.model_copy(update={"ended_at": run.clock.now()})
    assert [violation[:2] for violation in await run.judged()] == ["I7"] * violations


async def test_an_unknown_outcome_that_is_nobodys_violates_i7_and_one_without_the_lock_too(run: Run):
    run.end(ExecutionState.NEEDS_HUMAN, ProposalState.NEEDS_HUMAN, StageState.VERIFIED, StageState.UNKNOWN)
    assert await run.judged() == ("Lock: held by None, although an outcome is unknown",)


async def test_a_row_that_was_changed_violates_i5(run: Run, monkeypatch: pytest.MonkeyPatch):
    real = run.store.audit_entries

    async def altered(*, after: int = 0, limit: int = 1000, incident: str | None = None):
        entries = await real(after=after, limit=limit, incident=incident)
        return [entry.model_copy(update={"sentence": "altered"}) if entry.seq == 2 else entry for entry in entries]

    monkeypatch.setattr(run.store, "audit_entries", altered)
    assert any("I5: audit row 2" in violation for violation in await run.judged())


def test_a_way_back_may_begin_after_every_stage_and_comes_whole():
    assert list(possible(EXPECTED, BACK)) == [("delete", "create"), ("delete", "create")]
    assert list(possible([["a"], ["b"]], [["-a"], ["-b", "-a"]])) == [("a", "-a"), ("a", "b", "-b", "-a"), ("a", "b")]
    spared = list(possible([["a"], ["b"]], [["-a"], ["-b", "-a"]], frozenset({"-b"})))
    assert spared == [("a", "-a"), ("a", "b", "-b", "-a"), ("a", "b", "-a"), ("a", "b")]
