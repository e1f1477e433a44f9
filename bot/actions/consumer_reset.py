"""Lets a consumer start again at an earlier sequence, keeping its name, its configuration and its clients (2.14, ADR-60). Nothing is skipped.

A reset writes no mark of ours, but it begins to count deliveries from 0 again, which nothing else does to a consumer that was created when this one was.
"""

from __future__ import annotations

from typing import Final

from bot.action import ELECTION, Check, Receipt
from bot.actions._consumer_target import (
    ConsumerTarget,
    agreed,
    check_target,
    objections,
    receipt_of,
    target_of,
    verify_target,
)
from bot.actions._facts import ConsumerFacts, consumer_facts, consumer_world, filters_of
from bot.actions.consumer_delete import numbers
from bot.errors import Refused
from bot.model import ConsumerKey, JsonObject, OperationId, Outcome, Preview, Record, RiskClass, Snapshot, Verification
from bot.model.versions import Version
from bot.ports import Readers, Writers

RESET: Final[Version] = (2, 14, 0)
"""First version with CONSUMER.RESET (reference/nats.md 8)."""

RESETTABLE: Final = frozenset({"all", "by_start_sequence", "by_start_time"})
"""Deliver policies that the server resets; others are refused (10204; reference/nats.md 3.3)."""


class ResetParams(ConsumerTarget):
    """Where it starts again, and the position it has now. Sequences are stream sequences but one."""

    seq: int
    """The first sequence that is delivered next."""
    floor: int
    delivered: int
    delivered_count: int
    """Its own count of deliveries: the consumer sequence."""
    ack_pending: int


class ConsumerReset:
    """Resets one consumer."""

    kind: str = "consumer.reset"
    title: str = "Reset consumer"
    risk: RiskClass = RiskClass.MEDIUM
    params: type[Record] = ResetParams
    settle: float = 1.0
    """The members agree on the new position within a heartbeat (recorded on 2.15.1)."""
    patience: float = 30.0
    half_way: float = ELECTION

    async def check(self, readers: Readers, params: ResetParams) -> Check:
        """It must stand where it stood, be of a kind that can be reset, and skip nothing."""

        def see(facts: ConsumerFacts) -> Check:
            image: JsonObject = {"config": facts.config, "position": numbers(facts.state)}
            return Check(world=consumer_world(facts), before_image=image, before=_numbers(facts))

        return await check_target(readers, params, see, refusals)

    async def preview(self, readers: Readers, params: ResetParams) -> Preview:  # noqa: ARG002 - the contract's parameter
        """Say what is delivered again."""
        again = max(params.delivered - params.seq + 1, 0)
        acked = max(again - params.ack_pending, 0)
        return Preview(
            summary=f"Consumer {params.consumer} of stream {params.stream} starts again at sequence {params.seq}",
            diff=f"- delivered: {params.delivered}, ack floor: {params.floor}\n+ delivered: {params.seq - 1}, ack floor: {params.seq - 1}",
            blast_radius=f"Consumer {params.key} only; its configuration and its clients stay.",
            effects=(
                f"At most {again} messages are delivered again (sequences {params.seq} to {params.delivered}); at most {acked} of them were acknowledged.",
                "Acknowledgements that are on their way are not accepted any more. Redelivery counters begin at 0, so max_deliver counts anew.",
            ),
            way_back="None: which messages above the ack floor were acknowledged is forgotten.",
        )

    async def apply(self, readers: Readers, writers: Writers, params: ResetParams, operation: OperationId) -> None:  # noqa: ARG002
        """Ask the consumer's leader; always for a sequence, so that a request which arrives twice means the same."""
        await writers.reset_consumer(params.account, params.stream, params.consumer, params.seq)

    async def receipt(self, readers: Readers, params: ResetParams, operation: OperationId) -> Receipt:  # noqa: ARG002
        """A count of deliveries that went back is the receipt. One that went on proves nothing once clients are at work again."""
        found = {True: Receipt.APPLIED, False: Receipt.NOT_APPLIED, None: Receipt.UNREADABLE}
        return await receipt_of(readers, params, lambda facts: found[was_reset(facts, params)])

    async def verify(self, readers: Readers, params: ResetParams, operation: OperationId) -> Verification:  # noqa: ARG002
        """All members agree on it, and it delivers from the sequence on that was asked for."""

        def judge(facts: ConsumerFacts) -> tuple[Outcome, str]:
            floor, delivered, _, pending = _position(facts)
            done = was_reset(facts, params)
            if done is None:
                said = f"Consumer {facts.key} has delivered up to {delivered} meanwhile; whether it began at {params.seq} can't be told any more."
                return Outcome.CANNOT_TELL, said
            if not done:
                return (
                    Outcome.FAILED,
                    f"Consumer {facts.key} still stands at ack floor {floor}, delivered {delivered}.",
                )
            if not facts.standing.whole:
                return Outcome.FAILED, f"{facts.key}: {facts.standing.counted}."
            said = f"It started again at {params.seq}: delivered {delivered}, ack floor {floor}, {pending} waiting for an ack."
            return Outcome.VERIFIED, said

        return await verify_target(readers, params, judge, _numbers)

    async def rollback(self, readers: Readers, writers: Writers, params: ResetParams, operation: OperationId) -> str:  # noqa: ARG002
        """There is no way back."""
        raise Refused(
            f"The acknowledgements above the former ack floor {params.floor} are forgotten; what was delivered once comes again."
        )


def reset_stage(facts: ConsumerFacts, seq: int | None = None) -> ResetParams:
    """Return the parameters for a reset to a sequence, right behind the ack floor where none is given."""
    floor, delivered, count, pending = _position(facts)
    return ResetParams(
        **target_of(facts).model_dump(),
        seq=floor + 1 if seq is None else seq,
        floor=floor,
        delivered=delivered,
        delivered_count=count,
        ack_pending=pending,
    )


def refusals(snapshot: Snapshot, facts: ConsumerFacts, params: ResetParams) -> list[str]:
    """Reasons why it is not reset now."""
    reasons = objections(snapshot, facts, params, RESET, "CONSUMER.RESET") + _unfit(facts, params)
    seen = _position(facts)
    if seen != (params.floor, params.delivered, params.delivered_count, params.ack_pending):
        reasons.append(
            f"Consumer {facts.key} has moved: ack floor {seen[0]} (was {params.floor}), delivered {seen[1]} (was {params.delivered}), "
            f"waiting for an ack {seen[3]} (was {params.ack_pending})."
        )
    return reasons


def compose_reset(snapshot: Snapshot, key: ConsumerKey, seq: int | None = None) -> ResetParams:
    """Return the reset of a consumer to a sequence, right behind the ack floor where none is given. Raises `Refused` with every reason against it."""
    facts = consumer_facts(snapshot, key)
    return agreed(snapshot, facts, reset_stage(facts, seq), refusals)


def was_reset(facts: ConsumerFacts, before: ResetParams) -> bool | None:
    """Tell whether it was reset since. None where it has delivered so much meanwhile that nothing tells any more."""
    floor, delivered, count, pending = _position(facts)
    if count < before.delivered_count or delivered < before.delivered or floor < before.floor:
        return True
    if (floor, delivered, count, pending) == (
        before.floor,
        before.delivered,
        before.delivered_count,
        before.ack_pending,
    ):
        return False
    # Each message that is delivered for the first time is at least one delivery, where no message is missing or filtered out.
    gapless = facts.stream.state.stored.num_deleted == 0 and filters_of(facts.config) == (">",)
    return True if gapless and count < before.delivered_count + delivered - before.delivered else None


def _unfit(facts: ConsumerFacts, params: ResetParams) -> list[str]:
    config = facts.config
    policy = str(config.get("deliver_policy") or "all")
    reasons: list[str] = []
    if policy not in RESETTABLE:
        reasons.append(f"Its deliver_policy is {policy}, which can't be reset (10204).")
    if config.get("direct") or config.get("sourcing") or config.get("ack_policy") in {"none", "flow_control"}:
        reasons.append("It keeps no acknowledgements, or feeds a mirror or a sourcing stream, which owns it.")
    if facts.key.stream.startswith("$MQTT_"):
        reasons.append("It belongs to an MQTT session, whose client counts its messages.")
    if params.seq < 1:
        reasons.append(f"Sequence {params.seq} is no message.")
    start = config.get("opt_start_seq")
    if policy == "by_start_sequence" and isinstance(start, int) and params.seq < start:
        reasons.append(
            f"It starts at sequence {start} by its configuration, so it can't be reset to {params.seq} (10204)."
        )
    if params.seq > params.floor + 1:
        reasons.append(
            f"Messages {params.floor + 1} to {params.seq - 1} may never have been processed, and would not be delivered."
        )
    if params.delivered_count == 0:
        reasons.append("It has delivered nothing since it was created or reset, so there is nothing to begin again.")
    return reasons


def _position(facts: ConsumerFacts) -> tuple[int, int, int, int]:
    state = facts.state
    return state.floor_stream_seq, state.delivered_stream_seq, state.delivered_consumer_seq, state.num_ack_pending


def _numbers(facts: ConsumerFacts) -> dict[str, str | int | None]:
    return numbers(facts.state) | {"deliveries": facts.state.delivered_consumer_seq}


ACTION = ConsumerReset()
