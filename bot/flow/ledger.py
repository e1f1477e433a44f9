"""The written record of an execution: every change of state with its audit entry in one transaction, lock and fence among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bot import crashpoints
from bot.action import Check
from bot.crashpoints import Point
from bot.errors import BadInput, Refused
from bot.limits import Limits, Ruling
from bot.model import (
    AuditDraft,
    Execution,
    ExecutionId,
    ExecutionState,
    JsonObject,
    Proposal,
    ProposalState,
    StageRun,
    StageState,
)
from bot.ports import Chat, Clock, Store, Transaction

Numbers = Mapping[str, str | int | None]

_ENDED = {StageState.VERIFIED, StageState.NOT_APPLIED, StageState.FAILED, StageState.ROLLED_BACK}


class Ledger:
    """Writes executions and the proposals they belong to; nothing else does."""

    def __init__(self, *, store: Store, limits: Limits, clock: Clock, chat: Chat) -> None:
        self._store = store
        self._limits = limits
        self._clock = clock
        self._chat = chat

    async def load(self, execution_id: ExecutionId) -> Execution:
        """Return the execution as last committed."""
        execution = await self._store.get(Execution, execution_id)
        if execution is None:
            raise BadInput(f"Execution {execution_id} is not in the database.")
        return execution

    async def proposal(self, execution: Execution) -> Proposal:
        """Return the proposal that an execution runs."""
        proposal = await self._store.get(Proposal, execution.proposal_id)
        if proposal is None:
            raise BadInput(f"Proposal {execution.proposal_id} is not in the database.")
        return proposal

    async def take_lock(self, execution: Execution) -> bool:
        """Take the cluster's lock and write its fence number into the execution; False while another execution holds it."""
        async with self._store.begin() as tx:
            fence = await tx.take_lock(execution.cluster, execution.id)
            if fence is None:
                return False
            current = await tx.get(Execution, execution.id) or execution
            await tx.put(current.model_copy(update={"fence": fence}))
        return True

    async def may_start(self, proposal: Proposal) -> Ruling:
        """Ask the limits before anything is read or meant to be sent."""
        return await self._limits.start(self._store, proposal)

    async def insist(self, execution: Execution, kind: str) -> None:
        """Re-read fence and freezes right before a change is undone. Raises `Refused` as `sending` does."""
        async with self._store.begin() as tx:
            current = await self._locked(tx, execution.id)
            await self._insist(tx, current, await self._limits.stage(tx, current.cluster, kind))

    async def applying(self, execution_id: ExecutionId) -> None:
        """Everything the approval rests on holds: the first write may come."""
        await self._change(
            execution_id,
            "execution.started",
            "Approvals, expiry and world were checked again; it starts.",
            state=ExecutionState.APPLYING,
            proposal_state=ProposalState.APPLYING,
        )

    async def verifying(self, execution_id: ExecutionId) -> None:
        """The last stage is applied; now reality decides."""
        await self._change(
            execution_id,
            "execution.verifying",
            "The last stage is applied; reality is read.",
            state=ExecutionState.VERIFYING,
            proposal_state=ProposalState.VERIFYING,
        )

    async def refuse(self, execution_id: ExecutionId, proposal_state: ProposalState, sentence: str) -> None:
        """Stop before the first write and give the lock back."""
        await self._change(
            execution_id,
            "execution.refused",
            sentence,
            state=ExecutionState.REFUSED,
            proposal_state=proposal_state,
            release=True,
        )

    async def end(
        self, execution_id: ExecutionId, state: ExecutionState, proposal_state: ProposalState, sentence: str
    ) -> str:
        """Write the end; the lock is released unless an outcome is still unknown."""
        execution = await self.load(execution_id)
        unknown = any(r.state is StageState.UNKNOWN for r in execution.stages)
        await self._change(
            execution_id,
            f"execution.{state}",
            sentence,
            state=state,
            proposal_state=proposal_state,
            release=not unknown,
        )
        return state

    async def intend(self, execution: Execution, index: int, check: Check) -> None:
        """Commit the intent to send stage `index`, under the fence. Raises `Refused` where the lock is no longer ours or a limit stops it."""
        proposal = await self.proposal(execution)

        def change(run: StageRun) -> StageRun:
            return run.model_copy(
                update={
                    "state": StageState.INTENDED,
                    "intended_at": self._clock.now(),
                    "before": check.before,
                    "before_image": check.before_image,
                    "sentence": "Sending.",
                }
            )

        async with self._store.begin() as tx:
            current = await self._locked(tx, execution.id)
            if index == 0:
                ruling = await self._limits.start(tx, proposal)
            else:
                ruling = await self._limits.stage(tx, proposal.cluster, proposal.stages[index].kind)
            await self._insist(tx, current, ruling)
            await self._put_stage(
                tx, current, index, change, "stage.intended", data={"before": check.before_image, "world": check.world}
            )
        self._chat.nudge(execution.incident_id)

    async def sending(self, execution: Execution, index: int, kind: str) -> None:
        """Re-read fence and freezes right before a send, and count it, so that a crash cannot forget it. Raises `Refused` where it must not be sent."""
        async with self._store.begin() as tx:
            current = await self._locked(tx, execution.id)
            await self._insist(tx, current, await self._limits.stage(tx, current.cluster, kind))
            await self._put_stage(
                tx, current, index, lambda r: r.model_copy(update={"sent": r.sent + 1}), "stage.sending"
            )

    async def undoing(self, execution_id: ExecutionId, index: int) -> None:
        """Commit the intent to take a stage back, before anything is sent; again after a crash, as often as it is tried."""
        async with self._store.begin() as tx:
            current = await self._locked(tx, execution_id)
            await self._put_stage(tx, current, index, lambda run: run, "stage.undoing")

    async def stage(
        self, execution_id: ExecutionId, index: int, state: StageState, sentence: str, *, after: Numbers | None = None
    ) -> StageRun:
        """Write what became of a stage and return it."""
        now = self._clock.now()

        def change(run: StageRun) -> StageRun:
            update: dict[str, object] = {"state": state, "sentence": sentence}
            if after is not None:
                update["after"] = dict(after)
            if state is StageState.APPLIED:
                update["applied_at"] = now
            if state in _ENDED:
                update["ended_at"] = now
            return run.model_copy(update=update)

        async with self._store.begin() as tx:
            current = await self._locked(tx, execution_id)
            changed = await self._put_stage(tx, current, index, change, f"stage.{state}")
        self._chat.nudge(current.incident_id)
        return changed

    async def _put_stage(
        self,
        tx: Transaction,
        execution: Execution,
        index: int,
        change: Callable[[StageRun], StageRun],
        kind: str,
        data: JsonObject | None = None,
    ) -> StageRun:
        changed = change(execution.stages[index])
        stages = tuple(changed if r.index == index else r for r in execution.stages)
        state = _state_with(execution.state, changed.state)
        await tx.put(execution.model_copy(update={"stages": stages, "state": state}))
        if state is not execution.state:
            proposal = await tx.get(Proposal, execution.proposal_id)
            if proposal is not None and not proposal.state.terminal:
                await tx.put(proposal.model_copy(update={"state": ProposalState(state.value)}))
        await tx.touch(execution.incident_id)
        body: JsonObject = {
            "execution": execution.id,
            "stage": index,
            "operation": changed.operation_id,
            "sent": changed.sent,
        }
        await tx.audit(
            AuditDraft(
                kind=kind,
                actor="bot",
                incident_id=execution.incident_id,
                subject=execution.proposal_id,
                sentence=f"Stage {index + 1} of {len(stages)}: {changed.sentence}",
                data=body | {"after": changed.after} | (data or {}),
            )
        )
        return changed

    async def _change(
        self,
        execution_id: ExecutionId,
        kind: str,
        sentence: str,
        *,
        state: ExecutionState,
        proposal_state: ProposalState,
        release: bool = False,
    ) -> None:
        async with self._store.begin() as tx:
            execution = await self._locked(tx, execution_id)
            update: dict[str, object] = {"state": state, "sentence": sentence}
            if state.terminal:
                update["ended_at"] = self._clock.now()
                update["stages"] = tuple(_skipped(run) for run in execution.stages)
            await tx.put(execution.model_copy(update=update))
            proposal = await tx.get(Proposal, execution.proposal_id)
            if proposal is not None and not proposal.state.terminal:
                await tx.put(proposal.model_copy(update={"state": proposal_state, "state_reason": sentence}))
            if release:
                await tx.release_lock(execution.cluster, execution.id)
            await tx.touch(execution.incident_id)
            await tx.audit(
                AuditDraft(
                    kind=kind,
                    actor="bot",
                    incident_id=execution.incident_id,
                    subject=execution.proposal_id,
                    sentence=sentence,
                    data={"execution": execution_id, "state": state, "fence": execution.fence},
                )
            )
        if state.terminal:
            crashpoints.reached(Point.P16)
        self._chat.nudge(execution.incident_id)

    async def _insist(self, tx: Transaction, execution: Execution, ruling: Ruling) -> None:
        if await tx.take_lock(execution.cluster, execution.id) != execution.fence:
            raise Refused("Another execution holds this cluster's lock, so nothing was sent.")
        if not ruling.allowed:
            raise Refused(ruling.sentence)

    async def _locked(self, tx: Transaction, execution_id: ExecutionId) -> Execution:
        execution = await tx.get(Execution, execution_id)
        if execution is None:
            raise BadInput(f"Execution {execution_id} is not in the database.")
        return execution


def _state_with(state: ExecutionState, stage: StageState) -> ExecutionState:
    """Return the execution's state once a stage has that state: unknown for as long as a stage is, and no longer."""
    if stage is StageState.UNKNOWN and not state.terminal:
        return ExecutionState.UNKNOWN
    return ExecutionState.APPLYING if state is ExecutionState.UNKNOWN else state


def _skipped(run: StageRun) -> StageRun:
    """A stage that still waits when everything has ended will never run, and must not look as if it would."""
    return run.model_copy(update={"state": StageState.SKIPPED}) if run.state is StageState.WAITING else run
