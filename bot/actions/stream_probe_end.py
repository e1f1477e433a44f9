"""Takes the trial stream of `stream.probe_peers` away, before the change that it was made for."""

from __future__ import annotations

from bot.action import ELECTION, Check, Receipt
from bot.actions._facts import look
from bot.actions._peer_trial import TrialEndParams, mark_of
from bot.errors import Refused
from bot.model import TRIAL_STREAM, OperationId, Outcome, Preview, Record, RiskClass, Verification, part
from bot.ports import Readers, Writers


class ProbeEnd:
    """Deletes the trial stream, recognised by its mark."""

    kind: str = "stream.probe_end"
    title: str = "Take the trial stream away"
    risk: RiskClass = RiskClass.LOW
    params: type[Record] = TrialEndParams
    settle: float = 0.0
    patience: float = 12.0
    """A server that is away for a moment drops the stream when it is back."""
    half_way: float = ELECTION

    async def check(self, readers: Readers, params: TrialEndParams) -> Check:
        """It must be the very trial of this proposal."""
        match await self._found(readers, params):
            case Receipt.APPLIED:
                return Check(world={}, needless="the trial stream is gone.")
            case Receipt.FOREIGN:
                return Check(world={}, refusals=(f"Stream {params.key} is not this trial.",), final=True)
            case _:
                return Check(world={})

    async def preview(self, readers: Readers, params: TrialEndParams) -> Preview:  # noqa: ARG002 - the contract's parameter
        """Say what goes."""
        return Preview(
            summary=f"Delete the trial stream {TRIAL_STREAM}",
            diff=f"-stream {params.key}",
            blast_radius="The trial stream only.",
            effects=("Nothing was published to it.",),
            way_back="Nothing needs to come back.",
        )

    async def apply(self, readers: Readers, writers: Writers, params: TrialEndParams, operation: OperationId) -> None:  # noqa: ARG002
        """Delete it, where it is there and is this trial."""
        match await self._found(readers, params):
            case Receipt.APPLIED:
                return
            case Receipt.FOREIGN:
                raise Refused(f"Stream {params.key} is not this trial.")
            case _:
                await writers.delete_trial(params.account)

    async def receipt(self, readers: Readers, params: TrialEndParams, operation: OperationId) -> Receipt:  # noqa: ARG002
        """Its absence is the receipt. Raises `Unreadable`."""
        return await self._found(readers, params)

    async def verify(self, readers: Readers, params: TrialEndParams, operation: OperationId) -> Verification:  # noqa: ARG002
        """No server may report it any more."""
        snapshot = await look(readers)
        if left := sorted(snapshot.streams(snapshot.rounds - 1).get(params.key) or {}):
            return Verification(outcome=Outcome.FAILED, sentence=f"The trial stream is still on {', '.join(left)}.")
        return Verification(outcome=Outcome.VERIFIED, sentence="No server has the trial stream any more.")

    async def rollback(self, readers: Readers, writers: Writers, params: TrialEndParams, operation: OperationId) -> str:  # noqa: ARG002
        """Nothing is undone: it was only a trial."""
        return f"Stream {params.key} was only a trial and stays away."

    async def _found(self, readers: Readers, params: TrialEndParams) -> Receipt:
        info = await readers.stream_info(params.account, TRIAL_STREAM)
        if info is None:
            return Receipt.APPLIED
        return Receipt.NOT_APPLIED if mark_of(part(info, "config")) == params.mark else Receipt.FOREIGN


ACTION = ProbeEnd()
