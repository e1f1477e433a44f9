"""Phase 4: an approved proposal is applied stage by stage; every stage is checked, sent once, and verified against reality.

The intent of a write (with its audit entry and the fence number) is committed before the write. After a crash an intended stage is *unknown*,
whatever really happened: only its receipt tells (reference/safety.md 3.2, P11-P13). The first stage that fails or stays unknown stops the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import structlog

from bot import crashpoints
from bot.action import Check, Receipt
from bot.crashpoints import Point
from bot.errors import NatsmedicError, NotApplied, NotYet, OutcomeUnknown, Refused, Stands, Unreadable, WriteError
from bot.flow import narration
from bot.flow.approval import supersede_drifted
from bot.flow.ledger import Ledger
from bot.flow.stages import Stages, pace
from bot.flow.voiding import look_for_void
from bot.limits import Limits
from bot.model import (
    Execution,
    ExecutionId,
    ExecutionState,
    Outcome,
    Proposal,
    ProposalState,
    Stage,
    StageRun,
    StageState,
    Verification,
)
from bot.policy import still_valid
from bot.ports import Chat, Clock, Directory, Engine, Phase, Readers, Steps, Store, Writers
from bot.settings import PolicySettings

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0
"""Between two looks at a receipt or at reality."""
UNKNOWN_PATIENCE = 240.0
"""Seconds after which an outcome that is still unknown is a human's: I6 asks for a final state within 5 minutes."""
LATE_ARRIVAL_FACTOR = 2.0
"""A request is believed lost only after this many API time-outs without a receipt (reference/safety.md 3.2)."""
MAX_SENDS = 3
"""How often one stage may be sent where the answer to it was lost; every resend carries the same operation id."""
LOCK_POLL_SECONDS = 1.0
GO = "go"
"""What the first step answers when everything the approval rests on holds."""


class Executor:
    """Applies approved proposals. The only holder of Writers."""

    def __init__(
        self,
        *,
        store: Store,
        stages: Stages,
        readers: Mapping[str, Readers],
        writers: Mapping[str, Writers],
        directory: Directory,
        rules: PolicySettings,
        limits: Limits,
        engine: Engine,
        clock: Clock,
        chat: Chat,
    ) -> None:
        self._store = store
        self._stages = stages
        self._readers = readers
        self._writers = writers
        self._directory = directory
        self._rules = rules
        self._engine = engine
        self._clock = clock
        self._ledger = Ledger(store=store, limits=limits, clock=clock, chat=chat)

    async def run(self, key: str, steps: Steps) -> None:
        """Run execution `key` to an end. Safe to start again after a crash at any point."""
        execution_id = ExecutionId(key)
        with narration.of_execution(await self._ledger.load(execution_id)):
            await self._run(execution_id, steps)

    async def _run(self, execution_id: ExecutionId, steps: Steps) -> None:
        began = await steps.run("begin", partial(self._begin, execution_id))
        execution = await self._ledger.load(execution_id)
        if began == ProposalState.SUPERSEDED:
            await self._engine.start(Phase.DIAGNOSIS, f"{execution.incident_id}/drift of {execution.proposal_id}")
        if began != GO:
            return
        for index in range(len(execution.stages)):
            ended = await steps.run(f"stage {index}", partial(self._stage, execution_id, index))
            crashpoints.reached(Point.P14)
            if ended != StageState.VERIFIED:
                break
        await steps.run("end", partial(self._end, execution_id))
        execution = await self._ledger.load(execution_id)
        await self._engine.start(Phase.DIAGNOSIS, f"{execution.incident_id}/after {execution_id}")

    # --- before the first write -------------------------------------------------------------------------------------------------

    async def _begin(self, execution_id: ExecutionId) -> str:
        """Take the lock and look again at everything the approval rested on: people, expiry, world."""
        execution = await self._ledger.load(execution_id)
        if execution.state.terminal:
            return execution.state
        if execution.state is not ExecutionState.QUEUED:
            return GO
        proposal = await self._ledger.proposal(execution)
        if proposal.state.terminal:
            # An earlier run ended it and was interrupted before it refused the execution: what moved may be back, but the proposal is void.
            await self._ledger.refuse(execution_id, proposal.state, proposal.state_reason)
            return proposal.state
        crashpoints.reached(Point.P09)
        refusal = await self._take_lock(execution, proposal)
        crashpoints.reached(Point.P10)
        refusal = (
            refusal or await self._limits(proposal) or await self._authority(proposal) or await self._world(proposal)
        )
        if refusal is None:
            await self._ledger.applying(execution_id)
            return GO
        await self._ledger.refuse(execution_id, *refusal)
        return refusal[0]

    async def _take_lock(self, execution: Execution, proposal: Proposal) -> tuple[ProposalState, str] | None:
        if execution.cluster not in self._writers:
            return ProposalState.FAILED, f"natsmedic holds no writing credential for cluster {execution.cluster}."
        while not await self._ledger.take_lock(execution):
            if self._clock.now() >= proposal.expires_at:
                return (
                    ProposalState.EXPIRED,
                    "Another change of this cluster was still running when the approval expired.",
                )
            await self._clock.sleep(LOCK_POLL_SECONDS)
        return None

    async def _limits(self, proposal: Proposal) -> tuple[ProposalState, str] | None:
        ruling = await self._ledger.may_start(proposal)
        return None if ruling.allowed else (ProposalState.WITHDRAWN, ruling.sentence)

    async def _authority(self, proposal: Proposal) -> tuple[ProposalState, str] | None:
        await look_for_void(self._store, proposal, self._rules)
        approvals = await self._store.approvals(proposal.id)
        people = [await self._directory.look_up(a.user, fresh=True) for a in approvals]
        decision = still_valid(proposal, approvals, people, self._rules, self._clock.now())
        return (
            None
            if decision.allowed
            else (ProposalState.WITHDRAWN, f"The approval no longer holds: {decision.sentence}")
        )

    async def _world(self, proposal: Proposal, *, supersede: bool = True) -> tuple[ProposalState, str] | None:
        """Compare the world with the proposal's; what was sent already is no longer superseded by a difference."""
        try:
            drift = await self._stages.drift(self._readers[proposal.cluster], proposal)
        except Unreadable as error:
            return (
                ProposalState.WITHDRAWN,
                f"The world could not be read right before the first write, so nothing was written: {error}",
            )
        if not drift:
            return None
        if supersede:
            await supersede_drifted(self._store, proposal, drift)
        return ProposalState.SUPERSEDED, "The world has moved: " + " ".join(drift)

    # --- one stage --------------------------------------------------------------------------------------------------------------

    async def _stage(self, execution_id: ExecutionId, index: int) -> str:
        """Bring stage `index` to an end and return its state. Where it stands is read from the store, never remembered."""
        execution = await self._ledger.load(execution_id)
        run = execution.stages[index]
        if run.state is StageState.WAITING:
            run = await self._intend(execution, index)
        elif run.state in {StageState.INTENDED, StageState.UNKNOWN}:
            run = await self._resolve(execution, index, "natsmedic was interrupted after it meant to send this change.")
        if run.state is StageState.APPLIED:
            run = await self._verify(execution, index)
        return run.state

    async def _intend(self, execution: Execution, index: int) -> StageRun:
        proposal = await self._ledger.proposal(execution)
        check = await self._facts(execution, index, proposal.stages[index])
        if isinstance(check, str):
            return await self._ledger.stage(execution.id, index, StageState.NOT_APPLIED, check)
        if check.needless:
            sentence = f"Not sent: {check.needless}"
            return await self._ledger.stage(execution.id, index, StageState.VERIFIED, sentence, after=check.before)
        try:
            await self._ledger.intend(execution, index, check)
        except Refused as error:
            return await self._ledger.stage(execution.id, index, StageState.NOT_APPLIED, str(error))
        crashpoints.reached(Point.P11)
        return await self._send(execution, index)

    async def _facts(self, execution: Execution, index: int, stage: Stage) -> Check | str:
        """Return the check right before a stage, or why it must not be sent.

        Half-way through a proposal a refusal is waited out for a while, and people are told: an election passes, and stopping there leaves half a change.
        """
        started = self._clock.now()
        patience = self._stages.action(stage.kind, stage.params)[0].half_way if index else 0.0
        told = False
        while True:
            hopeless = False
            try:
                check = await self._stages.check(self._readers[execution.cluster], stage)
            except Unreadable as error:
                problem = f"The facts right before this stage could not be read, so it was not sent: {error}"
            else:
                if not check.refusals:
                    return check
                problem, hopeless = " ".join(check.refusals), check.final
            if hopeless or (self._clock.now() - started).total_seconds() >= patience:
                return problem
            if not told:
                await self._ledger.stage(execution.id, index, StageState.WAITING, f"Waits: {problem}")
                told = True
            await self._clock.sleep(POLL_SECONDS)

    async def _send(self, execution: Execution, index: int) -> StageRun:
        """Send the one change of a stage whose intent is committed."""
        proposal = await self._ledger.proposal(execution)
        stage = proposal.stages[index]
        action, params = self._stages.action(stage.kind, stage.params)
        operation = execution.stages[index].operation_id
        try:
            await self._ledger.sending(execution, index, stage.kind)
            await action.apply(self._readers[execution.cluster], self._writers[execution.cluster], params, operation)
        except (NotApplied, Refused, Unreadable) as error:
            return await self._not_applied(execution, index, error)
        except OutcomeUnknown as error:
            return await self._resolve(execution, index, str(error))
        crashpoints.reached(Point.P13)
        return await self._ledger.stage(execution.id, index, StageState.APPLIED, "Applied.")

    async def _not_applied(self, execution: Execution, index: int, error: NatsmedicError) -> StageRun:
        """A definite no, of the target or of the action before it sent anything. Half-way through a proposal a passing no is tried again for as long as a
        refusal is waited out, because stopping there leaves half a change.
        """
        run = (await self._ledger.load(execution.id)).stages[index]
        stage = (await self._ledger.proposal(execution)).stages[index]
        since = self._clock.now() - (run.intended_at or self._clock.now())
        patience = self._stages.action(stage.kind, stage.params)[0].half_way
        if index > 0 and error.retry_helps and since.total_seconds() < patience:
            await self._clock.sleep(POLL_SECONDS)
            return await self._send(execution, index)
        return await self._ledger.stage(execution.id, index, StageState.NOT_APPLIED, str(error))

    async def _resolve(self, execution: Execution, index: int, why: str) -> StageRun:
        """Read the receipt until it says what happened; the target stays locked meanwhile."""
        run = await self._ledger.stage(
            execution.id, index, StageState.UNKNOWN, f"Outcome unknown, reading the receipt. {why}"
        )
        proposal = await self._ledger.proposal(execution)
        readers = self._readers[execution.cluster]
        action, params = self._stages.begun(proposal.stages[index], run)
        started = self._clock.now()
        while (waited := (self._clock.now() - started).total_seconds()) < UNKNOWN_PATIENCE:
            try:
                receipt = await action.receipt(readers, params, run.operation_id)
            except Unreadable:
                receipt = Receipt.UNREADABLE
            if receipt is Receipt.APPLIED:
                return await self._ledger.stage(
                    execution.id, index, StageState.APPLIED, "Applied: the receipt was found."
                )
            if receipt is Receipt.FOREIGN:
                break
            if receipt is Receipt.NOT_APPLIED and waited >= LATE_ARRIVAL_FACTOR * readers.api_timeout:
                return await self._lost(execution, index, proposal)
            await self._clock.sleep(POLL_SECONDS)
        sentence = "Its outcome is still unknown and something else may have changed the object: a person must look before anything else."
        return await self._ledger.stage(execution.id, index, StageState.UNKNOWN, sentence)

    async def _lost(self, execution: Execution, index: int, proposal: Proposal) -> StageRun:
        """No receipt long after the time-out: resend under the same operation id where approval and world still hold.

        Where they do not, what was sent may arrive all the same, however late (reference/safety.md 3.2): only of what was never sent can it be said that
        nothing was changed. The rest is a human's, and the lock stays.
        """
        run = (await self._ledger.load(execution.id)).stages[index]
        why = await self._not_again(execution, run, proposal)
        if why is None:
            return await self._send(execution, index)
        if run.sent == 0:
            return await self._ledger.stage(execution.id, index, StageState.NOT_APPLIED, f"Not sent. {why}")
        sentence = f"Sent without a receipt, and not sent again: {why} It may still arrive: a person must look before anything else."
        return await self._ledger.stage(execution.id, index, StageState.UNKNOWN, sentence)

    async def _not_again(self, execution: Execution, run: StageRun, proposal: Proposal) -> str | None:
        """Say why a stage must not be sent (again), None where it may."""
        if proposal.state.terminal:
            # An earlier run voided it, and was interrupted before it wrote what became of the stage.
            return proposal.state_reason
        if run.sent >= MAX_SENDS:
            return f"{run.sent} times are enough."
        if run.index > 0:
            check = await self._facts(execution, run.index, proposal.stages[run.index])
            return check if isinstance(check, str) else None
        refusal = await self._authority(proposal) or await self._world(proposal, supersede=run.sent == 0)
        return refusal[1] if refusal else None

    async def _verify(self, execution: Execution, index: int) -> StageRun:
        """Poll reality until the stage's condition has held for its settle time, or does not hold when its patience is over."""
        proposal = await self._ledger.proposal(execution)
        run = (await self._ledger.load(execution.id)).stages[index]
        action, params = self._stages.begun(proposal.stages[index], run)
        settle, patience = pace(action, params)
        operation = run.operation_id
        if index == len(execution.stages) - 1:
            await self._ledger.verifying(execution.id)
        started = self._clock.now()
        good_since = None
        seen = Verification(outcome=Outcome.CANNOT_TELL, sentence="Nothing could be read yet.")
        while True:
            try:
                seen = await action.verify(self._readers[execution.cluster], params, operation)
            except Unreadable as error:
                seen = Verification(outcome=Outcome.CANNOT_TELL, sentence=f"Reality could not be read: {error}")
            crashpoints.reached(Point.P15)
            now = self._clock.now()
            good_since = (good_since or now) if seen.outcome is Outcome.VERIFIED else None
            if good_since is not None and (now - good_since).total_seconds() >= settle:
                return await self._ledger.stage(
                    execution.id, index, StageState.VERIFIED, seen.sentence, after=seen.numbers
                )
            hopeless = seen.final and seen.outcome is Outcome.FAILED
            if hopeless or (good_since is None and (now - started).total_seconds() >= patience):
                state = StageState.UNKNOWN if seen.outcome is Outcome.CANNOT_TELL else StageState.FAILED
                return await self._ledger.stage(execution.id, index, state, seen.sentence, after=seen.numbers)
            await self._clock.sleep(POLL_SECONDS)

    # --- after the last write ---------------------------------------------------------------------------------------------------

    async def _end(self, execution_id: ExecutionId) -> str:
        """Close the execution: done, rolled back, or a human's. The lock stays while an outcome is unknown."""
        execution = await self._ledger.load(execution_id)
        if execution.state.terminal:
            return execution.state
        stopped = _stopped(execution)
        if stopped is None:
            last = execution.stages[-1]
            return await self._ledger.end(execution_id, ExecutionState.DONE, ProposalState.DONE, last.sentence)
        if stopped.state is StageState.UNKNOWN:
            sentence = (
                f"Stage {stopped.index + 1}: {stopped.sentence} The cluster stays locked until a person has looked: "
                f"natsmedic unlock {execution.cluster} --reason …"
            )
            return await self._ledger.end(execution_id, ExecutionState.NEEDS_HUMAN, ProposalState.NEEDS_HUMAN, sentence)
        return await self._roll_back(execution, stopped)

    async def _roll_back(self, execution: Execution, stopped: StageRun) -> str:
        """Undo what was applied, last first. The first thing that cannot be undone stops it: a human must look. What is to stay ends it too."""
        proposal = await self._ledger.proposal(execution)
        # A stage that needed nothing is verified and was never sent.
        applied = [r for r in execution.stages if r.sent and r.state in {StageState.VERIFIED, StageState.FAILED}]
        what = f"Stage {stopped.index + 1} of {len(execution.stages)} did not succeed: {stopped.sentence}"
        for run in reversed(applied):
            await self._ledger.undoing(execution.id, run.index)
            try:
                sentence = await self._undo(execution, proposal.stages[run.index], run)
            except Stands as stays:
                return await self._kept(execution, f"{what} {stays}", undone=run is not applied[-1])
            except OutcomeUnknown as error:
                await self._ledger.stage(execution.id, run.index, StageState.UNKNOWN, f"Perhaps undone. {error}")
                return await self._end(execution.id)
            except (Refused, WriteError, Unreadable) as error:
                whole = f"{what} Rolling back stage {run.index + 1} stopped: {error} A person must look."
                return await self._ledger.end(
                    execution.id, ExecutionState.NEEDS_HUMAN, ProposalState.NEEDS_HUMAN, whole
                )
            told = sentence if run.state is StageState.VERIFIED else f"{run.sentence} Undone: {sentence}"
            await self._ledger.stage(execution.id, run.index, StageState.ROLLED_BACK, told)
            crashpoints.reached(Point.P14)
        if not applied and stopped.state is not StageState.ROLLED_BACK:
            return await self._ledger.end(
                execution.id, ExecutionState.FAILED, ProposalState.FAILED, f"{what} Nothing was changed."
            )
        return await self._ledger.end(
            execution.id, ExecutionState.ROLLED_BACK, ProposalState.ROLLED_BACK, f"{what} Everything was undone."
        )

    async def _kept(self, execution: Execution, sentence: str, *, undone: bool) -> str:
        """Close an execution of which earlier stages stay: they are whole, and only what came after them failed."""
        if undone:
            whole = f"{sentence} What came after it was undone."
            return await self._ledger.end(execution.id, ExecutionState.ROLLED_BACK, ProposalState.ROLLED_BACK, whole)
        return await self._ledger.end(execution.id, ExecutionState.FAILED, ProposalState.FAILED, sentence)

    async def _undo(self, execution: Execution, stage: Stage, run: StageRun) -> str:
        """Undo one stage; what only has to wait is waited for."""
        action, params = self._stages.begun(stage, run)
        started = self._clock.now()
        while True:
            await self._ledger.insist(execution, stage.kind)
            try:
                return await action.rollback(
                    self._readers[execution.cluster], self._writers[execution.cluster], params, run.operation_id
                )
            except (NotYet, NotApplied, Unreadable, OutcomeUnknown) as error:
                lost = isinstance(error, OutcomeUnknown)
                hopeless = not (error.retry_helps or lost)
                if hopeless or (self._clock.now() - started).total_seconds() >= action.half_way:
                    raise
            # A way back whose answer was lost looks again at what is left to do, once it can't arrive any more.
            late = LATE_ARRIVAL_FACTOR * self._readers[execution.cluster].api_timeout if lost else 0.0
            await self._clock.sleep(max(POLL_SECONDS, late))


def _stopped(execution: Execution) -> StageRun | None:
    """Return the stage that did not succeed, None where all did; interrupted on the way back, it may be undone by now: then it is the last one that is."""
    failed = [r for r in execution.stages if r.state in {StageState.UNKNOWN, StageState.NOT_APPLIED, StageState.FAILED}]
    undone = [r for r in execution.stages if r.state is StageState.ROLLED_BACK]
    return next(iter([*failed, *reversed(undone)]), None)
