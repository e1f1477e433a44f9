"""Asks a consumer's leader to step down: the members elect one again, the position stays. Seconds of stall, no message lost or repeated."""

from __future__ import annotations

from bot.action import ELECTION, Check, Receipt
from bot.actions._facts import (
    ConsumerFacts,
    cannot_write,
    consumer_facts,
    consumer_world,
    guard,
    look,
    stream_world,
)
from bot.actions.consumer_delete import numbers
from bot.errors import Refused
from bot.model import ConsumerKey, OperationId, Outcome, Preview, Record, RiskClass, Snapshot, Verification, World
from bot.model.groups import config_digest, raft_group_of, raft_term
from bot.ports import Readers, Writers


class StepDownParams(Record):
    """Whose leader steps down, and the facts that make it right."""

    account: str
    stream: str
    consumer: str
    stream_created: str
    stream_config: str
    """Digest of the stream's configuration."""
    created: str
    leader: str
    members: tuple[str, ...]
    term: int = 0
    """The group's Raft term before; every election raises it. 0 where RAFTZ could not be read."""

    @property
    def key(self) -> ConsumerKey:
        return ConsumerKey(self.account, self.stream, self.consumer)


class ConsumerStepDown:
    """Moves a consumer's leader."""

    kind: str = "consumer.step_down"
    title: str = "Consumer leader step-down"
    risk: RiskClass = RiskClass.LOW
    params: type[Record] = StepDownParams
    settle: float = 3.0
    patience: float = 30.0
    """An election takes 4 to 9 s (reference/nats.md 1.0)."""
    half_way: float = ELECTION

    async def check(self, readers: Readers, params: StepDownParams) -> Check:
        """The group must keep quorum without its leader, and the followers must have everything."""
        snapshot = await look(readers)
        try:
            facts = consumer_facts(snapshot, params.key)
        except Refused as refused:
            return Check(world={}, refusals=refused.reasons)
        reasons = (
            cannot_write(snapshot, facts.stream)
            + guard(facts.stream, params.stream_created, params.stream_config)
            + hindrances(facts)
        )
        if facts.state.created != params.created:
            reasons.append(
                f"Consumer {facts.key} was created {facts.state.created}, not {params.created}: it is another consumer."
            )
        return Check(world=_world(facts), refusals=tuple(reasons), before=numbers(facts.state))

    async def preview(self, readers: Readers, params: StepDownParams) -> Preview:  # noqa: ARG002 - the contract's parameter
        """Say what moves."""
        return Preview(
            summary=f"{params.leader} steps down as leader of consumer {params.consumer}",
            blast_radius=f"Consumer {params.key}: no delivery for some seconds, until the members have elected a leader.",
            effects=("The position stays. Messages on their way may be delivered once more.",),
            way_back="A further step-down; nothing is lost either way.",
        )

    async def apply(self, readers: Readers, writers: Writers, params: StepDownParams, operation: OperationId) -> None:  # noqa: ARG002
        """Ask the leader."""
        await writers.step_down_consumer(params.account, params.stream, params.consumer)

    async def receipt(self, readers: Readers, params: StepDownParams, operation: OperationId) -> Receipt:  # noqa: ARG002
        """An election since is the receipt: another leader, or a higher term where the same one was elected again."""
        snapshot = await look(readers)
        try:
            facts = consumer_facts(snapshot, params.key)
        except Refused:
            return Receipt.UNREADABLE
        if facts.state.created != params.created:
            return Receipt.FOREIGN
        return Receipt.APPLIED if _elected(snapshot, facts, params) else Receipt.NOT_APPLIED

    async def verify(self, readers: Readers, params: StepDownParams, operation: OperationId) -> Verification:  # noqa: ARG002
        """After an election all members name one leader and are current."""
        snapshot = await look(readers)
        try:
            facts = consumer_facts(snapshot, params.key)
        except Refused as refused:
            return Verification(outcome=Outcome.FAILED, sentence=str(refused))
        seen = numbers(facts.state)
        agreed = len(facts.standing.voters) == len(facts.standing.members)
        if not _elected(snapshot, facts, params):
            return Verification(outcome=Outcome.FAILED, sentence=f"{params.leader} still leads.", numbers=seen)
        if not facts.standing.whole or not agreed:
            return Verification(
                outcome=Outcome.FAILED, sentence=f"{facts.key}: {facts.standing.counted}.", numbers=seen
            )
        return Verification(
            outcome=Outcome.VERIFIED, sentence=f"{facts.standing.leader} leads, all members are current.", numbers=seen
        )

    async def rollback(self, readers: Readers, writers: Writers, params: StepDownParams, operation: OperationId) -> str:  # noqa: ARG002
        """There is nothing to undo."""
        raise Refused("A step-down changes no state; any member may lead.")


def hindrances(facts: ConsumerFacts) -> list[str]:
    """Reasons why the leader must not step down now."""
    found = facts.standing
    followers = found.members - {found.leader} - set(found.lagging)
    if found.replicas == 1:
        return ["It has one replica: nobody else can lead."]
    if len(followers) < found.majority:
        return [f"Without its leader the group has no quorum of current members: {found.counted}."]
    behind = [p.name for p in (facts.state.group.peers if facts.state.group else ()) if p.lag]
    return [f"{', '.join(behind)} has not yet everything the leader has."] if behind else []


def step_down_stage(snapshot: Snapshot, facts: ConsumerFacts) -> StepDownParams:
    """Return the parameters for stepping down the consumer's present leader."""
    return StepDownParams(
        account=facts.key.account,
        stream=facts.key.stream,
        consumer=facts.key.consumer,
        stream_created=facts.stream.state.created,
        stream_config=config_digest(facts.stream.state.config),
        created=facts.state.created,
        leader=facts.standing.leader or "",
        members=tuple(sorted(facts.standing.members)),
        term=_term(snapshot, facts),
    )


def _term(snapshot: Snapshot, facts: ConsumerFacts) -> int:
    group = raft_group_of(facts.stream.consumers[facts.key.consumer])
    return raft_term(snapshot, facts.standing.members, facts.key.account, group)


def _elected(snapshot: Snapshot, facts: ConsumerFacts, params: StepDownParams) -> bool:
    return facts.standing.leader != params.leader or 0 < params.term < _term(snapshot, facts)


def _world(facts: ConsumerFacts) -> World:
    """The group's facts; a position that moves does not make a step-down wrong."""
    moving = {"consumer.ack_floor", "consumer.delivered", "consumer.ack_pending", "stream.first_unprocessed_seq"}
    return stream_world(facts.stream) | {k: v for k, v in consumer_world(facts).items() if k not in moving}


ACTION = ConsumerStepDown()
