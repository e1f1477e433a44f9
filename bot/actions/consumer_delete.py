"""Deletes one consumer: the one that was approved, recognised by `created`, or a helper consumer of natsmedic, recognised by its mark.

The delete carries no receipt of its own; the consumer's absence is the receipt, and `created` tells whether somebody else was faster.
"""

from __future__ import annotations

from bot.action import ELECTION, RECEIPT_KEY, Check, Receipt
from bot.actions._facts import (
    ConsumerFacts,
    StreamFacts,
    cannot_write,
    consumer_facts,
    consumer_in,
    consumer_world,
    guard,
    look,
    stream_facts,
    stream_world,
    untouchable,
    would_break_again,
)
from bot.actions._owners import consumer_kept
from bot.errors import Refused
from bot.model import (
    ConsumerKey,
    ConsumerState,
    Endpoint,
    JsonObject,
    OperationId,
    Outcome,
    Preview,
    Record,
    RiskClass,
    Snapshot,
    StreamKey,
    Verification,
    part,
)
from bot.model.groups import latest
from bot.ports import Readers, Writers

MARK_KEY = "natsmedic.helper"
"""Metadata key of a helper consumer (holder or probe); its value ties it to one proposal's facts."""


class Companion(Record):
    """A consumer that must be there for a stage to be safe: the holder while the original is away, the new one before the holder goes."""

    name: str
    mark: str | None = None
    """The value of its `MARK_KEY`, where it is a helper."""
    other_than: str | None = None
    """The `created` it must not have: that of the consumer which was replaced."""
    at_least: int = 0
    """Messages it must still have to deliver."""


class DeleteParams(Record):
    """What is deleted, and the facts that make it right. Sequences are stream sequences."""

    account: str
    stream: str
    consumer: str
    stream_created: str
    stream_config: str
    """Digest of the stream's configuration."""
    created: str | None = None
    """`created` of the consumer; None for a helper."""
    mark: str | None = None
    """Mark of a helper; None for the consumer itself."""
    floor: int = 0
    delivered: int = 0
    ack_pending: int = 0
    restore: JsonObject | None = None
    """Configuration that brings the consumer back at its position; None for a helper."""
    companion: Companion | None = None

    @property
    def key(self) -> ConsumerKey:
        return ConsumerKey(self.account, self.stream, self.consumer)


class ConsumerDelete:
    """Deletes one consumer."""

    kind: str = "consumer.delete"
    title: str = "Delete consumer"
    risk: RiskClass = RiskClass.DESTRUCTIVE
    params: type[Record] = DeleteParams
    settle: float = 1.0
    """The servers drop a deleted consumer within milliseconds of the meta leader's answer."""
    patience: float = 30.0
    half_way: float = ELECTION

    async def check(self, readers: Readers, params: DeleteParams) -> Check:
        """Read the consumer as its members agree on it."""
        snapshot = await look(readers)
        try:
            if params.mark is not None:
                return self._check_helper(snapshot, params)
            return self._check_original(snapshot, params, consumer_facts(snapshot, params.key))
        except Refused as refused:
            return Check(world={}, refusals=refused.reasons)

    def _check_original(self, snapshot: Snapshot, params: DeleteParams, facts: ConsumerFacts) -> Check:
        reasons = cannot_write(snapshot, facts.stream) + guard(
            facts.stream, params.stream_created, params.stream_config
        )
        reasons += untouchable(facts) + consumer_kept(snapshot, params.key) + would_break_again(snapshot, facts, 0)
        if facts.state.created != params.created:
            reasons.append(
                f"Consumer {facts.key} was created {facts.state.created}, not {params.created}: it is another consumer."
            )
        seen = (facts.state.floor_stream_seq, facts.state.delivered_stream_seq, facts.state.num_ack_pending)
        if seen != (params.floor, params.delivered, params.ack_pending):
            reasons.append(
                f"Consumer {facts.key} has moved: ack floor {seen[0]} (was {params.floor}), delivered {seen[1]} (was {params.delivered}), "
                f"waiting for an ack {seen[2]} (was {params.ack_pending})."
            )
        reasons += _companion_missing(facts.stream, params.companion)
        return Check(
            world=consumer_world(facts),
            refusals=tuple(reasons),
            before_image={"config": facts.config, "position": numbers(facts.state)},
            before=numbers(facts.state) | {"stream messages": facts.stream.state.messages},
        )

    def _check_helper(self, snapshot: Snapshot, params: DeleteParams) -> Check:
        stream = stream_facts(snapshot, StreamKey(params.account, params.stream))
        reasons = cannot_write(snapshot, stream) + _companion_missing(stream, params.companion)
        views = stream.consumers.get(params.consumer) or {}
        if not views:
            reasons.append(f"Helper consumer {params.consumer} is not there.")
        reasons += [
            f"{params.consumer} on {name} is not natsmedic's."
            for name, v in views.items()
            if mark_of(v.config) != params.mark
        ]
        return Check(
            world=stream_world(stream), refusals=tuple(reasons), before={"stream messages": stream.state.messages}
        )

    async def preview(self, readers: Readers, params: DeleteParams) -> Preview:  # noqa: ARG002 - the contract's parameter
        """Say what goes and what stays."""
        if params.mark is not None:
            return Preview(
                summary=f"Delete natsmedic's helper consumer {params.consumer} of stream {params.stream}",
                blast_radius="Nobody uses it; it delivers nothing.",
                way_back="None is needed.",
            )
        effects = [
            'Clients that wait on it get "Consumer Deleted" (409) and must wait until the next stage has run.',
            f"Its position is kept here: ack floor {params.floor}, delivered {params.delivered}, waiting for an ack {params.ack_pending}.",
            "Its redelivery counters start again, so max_deliver counts from 0.",
        ]
        if params.companion:
            effects.append(f"{params.companion.name} keeps the stream's messages meanwhile.")
        return Preview(
            summary=f"Delete consumer {params.consumer} of stream {params.stream}",
            blast_radius=f"Consumer {params.key} only; no message of the stream is removed.",
            effects=tuple(effects),
            way_back="The next stage creates it again from the recorded copy; should that not happen, the same copy is put back by hand or rollback.",
        )

    async def apply(self, readers: Readers, writers: Writers, params: DeleteParams, operation: OperationId) -> None:  # noqa: ARG002
        """Delete; the check just before has seen the right one."""
        await writers.delete_consumer(params.account, params.stream, params.consumer)

    async def receipt(self, readers: Readers, params: DeleteParams, operation: OperationId) -> Receipt:  # noqa: ARG002
        """Absent is applied; present with the recorded `created` (or mark) is not applied; present otherwise is somebody else's."""
        info = await readers.consumer_info(params.account, params.stream, params.consumer)
        if info is None:
            return Receipt.APPLIED
        if params.mark is not None:
            return Receipt.NOT_APPLIED if mark_of(info.get("config") or {}) == params.mark else Receipt.FOREIGN
        return Receipt.NOT_APPLIED if info.get("created") == params.created else Receipt.FOREIGN

    async def verify(self, readers: Readers, params: DeleteParams, operation: OperationId) -> Verification:  # noqa: ARG002
        """Look whether every member has dropped it, and whether what must be kept is kept."""
        snapshot = await look(readers)
        try:
            stream = stream_facts(snapshot, StreamKey(params.account, params.stream))
        except Refused as refused:
            return Verification(outcome=Outcome.CANNOT_TELL, sentence=str(refused))
        silent = sorted(s for s in stream.standing.members if latest(snapshot, s, Endpoint.JSZ) is None)
        seen: dict[str, str | int | None] = {"stream messages": stream.state.messages}
        if len(stream.standing.members) - len(silent) < stream.standing.majority:
            return Verification(
                outcome=Outcome.CANNOT_TELL, sentence=f"{', '.join(silent)} did not answer.", numbers=seen
            )
        if left := stream.consumers.get(params.consumer):
            return Verification(
                outcome=Outcome.FAILED, sentence=f"Still there on {', '.join(sorted(left))}.", numbers=seen
            )
        if missing := _companion_missing(stream, params.companion):
            return Verification(outcome=Outcome.FAILED, sentence=" ".join(missing), numbers=seen)
        return Verification(outcome=Outcome.VERIFIED, sentence="No server reports the consumer any more.", numbers=seen)

    async def rollback(self, readers: Readers, writers: Writers, params: DeleteParams, operation: OperationId) -> str:
        """Create it again at the recorded position. Raises `Refused` for a helper; `ApiRefused` where one exists meanwhile."""
        if params.restore is None:
            raise Refused(f"{params.consumer} was only a helper; nothing needs to come back.")
        info = await readers.consumer_info(params.account, params.stream, params.consumer)
        if part(part(info or {}, "config"), "metadata").get(RECEIPT_KEY) == operation:
            return f"Consumer {params.key} is back at the recorded position: the receipt was found."
        await writers.create_consumer(params.account, params.stream, with_receipt(params.restore, operation))
        return f"Consumer {params.key} is back at the recorded position."


def mark_of(config: JsonObject) -> str | None:
    """Return the mark of a helper consumer, None where it is none."""
    value = part(config, "metadata").get(MARK_KEY)
    return str(value) if value is not None else None


def with_receipt(config: JsonObject, operation: OperationId) -> JsonObject:
    """Return the configuration with the operation id in its metadata."""
    metadata: JsonObject = config.get("metadata") or {}
    return config | {"metadata": metadata | {RECEIPT_KEY: operation}}


def numbers(state: ConsumerState) -> dict[str, str | int | None]:
    """The numbers people compare before and after."""
    return {
        "leader": state.group.leader if state.group else state.server,
        "ack floor": state.floor_stream_seq,
        "delivered": state.delivered_stream_seq,
        "waiting for an ack": state.num_ack_pending,
        "still to deliver": state.num_pending,
    }


def _companion_missing(stream: StreamFacts, companion: Companion | None) -> list[str]:
    if companion is None:
        return []
    found = consumer_in(stream, companion.name)
    if found is None or found.leader is None:
        return [f"Consumer {companion.name} must be there first, and it is not."]
    state = stream.consumers[companion.name][found.leader]
    if companion.mark is not None and mark_of(state.config) != companion.mark:
        return [f"Consumer {companion.name} is not natsmedic's holder."]
    if companion.other_than is not None and state.created == companion.other_than:
        return [f"Consumer {companion.name} is still the old one."]
    waiting = state.num_pending + state.num_ack_pending
    if waiting < companion.at_least and state.delivered_consumer_seq == 0:
        return [
            f"Consumer {companion.name} has {waiting} messages to deliver, {companion.at_least} were expected: some are gone."
        ]
    return []


ACTION = ConsumerDelete()
