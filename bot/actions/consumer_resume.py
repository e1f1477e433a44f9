"""Ends a consumer's pause (2.11): it delivers from where it stood."""

from __future__ import annotations

from datetime import datetime

from bot.action import ELECTION, Check, Receipt
from bot.actions._consumer_target import ConsumerTarget, another, objections, read_target, target_of
from bot.actions._facts import ConsumerFacts, owner_mark, settled_world
from bot.actions.consumer_delete import numbers
from bot.actions.consumer_pause import PAUSE, paused_until
from bot.errors import Refused
from bot.model import OperationId, Outcome, Preview, Record, RiskClass, Verification
from bot.ports import Readers, Writers


class ResumeParams(ConsumerTarget):
    """Which consumer, and which pause of it."""

    was: str
    """`pause_until` as the server shows it, to the nanosecond: another moment is another pause."""


class ConsumerResume:
    """Ends one pause."""

    kind: str = "consumer.resume"
    title: str = "Resume consumer"
    risk: RiskClass = RiskClass.MEDIUM
    params: type[Record] = ResumeParams
    settle: float = 1.0
    """The meta leader's change reaches the members within a heartbeat."""
    patience: float = 30.0
    half_way: float = ELECTION

    async def check(self, readers: Readers, params: ResumeParams) -> Check:
        """It is still this pause."""
        try:
            snapshot, facts = await read_target(readers, params)
        except Refused as refused:
            return Check(world={}, refusals=refused.reasons)
        reasons = objections(snapshot, facts, params, PAUSE, "CONSUMER.PAUSE")
        if (found := paused_until(facts)) != params.was:
            reasons.append(
                f"It is {f'paused until {found}' if found else 'not paused'}, not paused until {params.was}."
            )
        if owner := owner_mark(facts.config):
            reasons.append(f"It is owned by a controller ({owner}), which would pause it again: resume it there.")
        return Check(world=settled_world(facts), refusals=tuple(reasons), before=numbers(facts.state))

    async def preview(self, readers: Readers, params: ResumeParams) -> Preview:  # noqa: ARG002 - the contract's parameter
        """Say what begins."""
        return Preview(
            summary=f"Resume consumer {params.consumer} of stream {params.stream}",
            diff=f'- "pause_until": "{params.was}"',
            blast_radius=f"Consumer {params.key}: what waits is delivered to its clients at once.",
            effects=("Somebody paused it on purpose: ask before.",),
            way_back="It is paused again until the same moment, where that is still ahead.",
        )

    async def apply(self, readers: Readers, writers: Writers, params: ResumeParams, operation: OperationId) -> None:  # noqa: ARG002
        """Ask the meta leader."""
        await writers.pause_consumer(params.account, params.stream, params.consumer)

    async def receipt(self, readers: Readers, params: ResumeParams, operation: OperationId) -> Receipt:  # noqa: ARG002
        """That the pause is gone is the receipt; another one is somebody else's."""
        try:
            _, facts = await read_target(readers, params)
        except Refused:
            return Receipt.UNREADABLE
        if another(facts, params):
            return Receipt.FOREIGN
        found = paused_until(facts)
        if not found:
            return Receipt.APPLIED
        return Receipt.NOT_APPLIED if found == params.was else Receipt.FOREIGN

    async def verify(self, readers: Readers, params: ResumeParams, operation: OperationId) -> Verification:  # noqa: ARG002
        """Neither its leader nor its configuration says that it is paused."""
        try:
            _, facts = await read_target(readers, params)
        except Refused as refused:
            return Verification(outcome=Outcome.FAILED, sentence=str(refused))
        seen = numbers(facts.state)
        if wrong := another(facts, params):
            return Verification(outcome=Outcome.FAILED, sentence=wrong[0], numbers=seen, final=True)
        if facts.state.paused or paused_until(facts):
            said = f"Consumer {facts.key} is still paused until {paused_until(facts)}."
            return Verification(outcome=Outcome.FAILED, sentence=said, numbers=seen)
        said = f"Not paused; {facts.state.num_pending} messages to deliver, {facts.state.num_waiting} requests wait for them."
        return Verification(outcome=Outcome.VERIFIED, sentence=said, numbers=seen)

    async def rollback(self, readers: Readers, writers: Writers, params: ResumeParams, operation: OperationId) -> str:
        """Pause it again until the same moment. Raises `Refused` where that is over, or somebody else has paused it."""
        seen = await self.receipt(readers, params, operation)
        if seen is Receipt.NOT_APPLIED:
            return f"Consumer {params.key} is paused as before."
        if seen is not Receipt.APPLIED:
            raise Refused(f"Consumer {params.key} is paused by somebody else, or can't be read.")
        snapshot, _ = await read_target(readers, params)
        if datetime.fromisoformat(params.was) <= snapshot.taken_at:
            raise Refused(f"The pause would be over: it lasted until {params.was}.")
        await writers.pause_consumer(params.account, params.stream, params.consumer, params.was)
        return f"Consumer {params.key} is paused again until {params.was}."


def resume_stage(facts: ConsumerFacts) -> ResumeParams:
    """Return the parameters for ending the present pause."""
    return ResumeParams(**target_of(facts).model_dump(), was=paused_until(facts))


ACTION = ConsumerResume()
