"""Ends a consumer's pause (2.11): it delivers from where it stood."""

from __future__ import annotations

from datetime import datetime

from bot.action import ELECTION, Check, Receipt
from bot.actions._consumer_target import (
    ConsumerTarget,
    agreed,
    check_target,
    numbers_of,
    objections,
    read_target,
    receipt_of,
    seen_settled,
    target_of,
    verify_target,
)
from bot.actions._facts import ConsumerFacts, consumer_facts, owner_mark
from bot.actions.consumer_pause import PAUSE, paused_until
from bot.errors import Refused
from bot.model import ConsumerKey, OperationId, Outcome, Preview, Record, RiskClass, Snapshot, Verification
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
        return await check_target(readers, params, seen_settled, refusals)

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

        def tell(facts: ConsumerFacts) -> Receipt:
            found = paused_until(facts)
            if not found:
                return Receipt.APPLIED
            return Receipt.NOT_APPLIED if found == params.was else Receipt.FOREIGN

        return await receipt_of(readers, params, tell)

    async def verify(self, readers: Readers, params: ResumeParams, operation: OperationId) -> Verification:  # noqa: ARG002
        """Neither its leader nor its configuration says that it is paused."""

        def judge(facts: ConsumerFacts) -> tuple[Outcome, str]:
            state = facts.state
            if state.paused or paused_until(facts):
                return Outcome.FAILED, f"Consumer {facts.key} is still paused until {paused_until(facts)}."
            said = f"Not paused; {state.num_pending} messages to deliver, {state.num_waiting} requests wait for them."
            return Outcome.VERIFIED, said

        return await verify_target(readers, params, judge, numbers_of)

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


def refusals(snapshot: Snapshot, facts: ConsumerFacts, params: ResumeParams) -> list[str]:
    """Reasons why this pause is not ended now."""
    reasons = objections(snapshot, facts, params, PAUSE, "CONSUMER.PAUSE")
    if (found := paused_until(facts)) != params.was or not found:
        reasons.append(f"It is {f'paused until {found}' if found else 'not paused'}, not paused until {params.was}.")
    if owner := owner_mark(facts.config):
        reasons.append(f"It is owned by a controller ({owner}), which would pause it again: resume it there.")
    return reasons


def compose_resume(snapshot: Snapshot, key: ConsumerKey) -> ResumeParams:
    """Return the end of a consumer's present pause. Raises `Refused` with every reason that speaks against it."""
    facts = consumer_facts(snapshot, key)
    return agreed(snapshot, facts, resume_stage(facts), refusals)


def resume_stage(facts: ConsumerFacts) -> ResumeParams:
    """Return the parameters for ending the present pause."""
    return ResumeParams(**target_of(facts).model_dump(), was=paused_until(facts))


ACTION = ConsumerResume()
