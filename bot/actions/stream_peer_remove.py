"""Replaces a dead member of a stream: the meta leader takes it out of the group and gives its place to a spare server, which copies everything.

Never without a spare: there the server answers 10075 (*peer remap failed*), and before 2.15 the member is gone all the same (reference/nats.md 3.3). So
that answer is no *no*; who belongs to the group afterwards is the receipt. Consumers of the stream move along.
"""

from __future__ import annotations

from typing import Final

from bot.action import ELECTION, Check, Receipt
from bot.actions._elections import Numbers
from bot.actions._facts import StreamFacts, cannot_write, consumer_in, guard, look, stream_facts, stream_world
from bot.actions._peers import PEER_NEEDS, no_spare, signs_of_life, spares
from bot.actions.stream_step_down import stream_numbers
from bot.errors import ApiRefused, OutcomeUnknown, Refused
from bot.model import OperationId, Outcome, Preview, Record, RiskClass, Snapshot, StreamKey, Verification
from bot.model.groups import config_digest
from bot.ports import Readers, Writers

REMAP_FAILED: Final = 10075
"""JetStream's code for a peer that could not be replaced (reference/nats.md 3.4)."""

NOT_A_MEMBER: Final = 10040
"""JetStream's code for a peer that is no member (reference/nats.md 3.4)."""

LEAST_REPLICAS: Final = 3
"""With fewer members the rest has no majority, and so not everything that was acknowledged."""


class PeerParams(Record):
    """Which member goes, and the facts that make it right."""

    account: str
    stream: str
    stream_created: str
    stream_config: str
    """Digest of the stream's configuration."""
    members: tuple[str, ...]
    peer: str
    """The dead member's server name."""
    last_seq: int
    """The leader's last sequence before; one that goes back is a loss."""

    @property
    def key(self) -> StreamKey:
        return StreamKey(self.account, self.stream)


class StreamPeerRemove:
    """Replaces one member."""

    kind: str = "stream.peer_remove"
    title: str = "Replace a dead member"
    risk: RiskClass = RiskClass.MEDIUM
    params: type[Record] = PeerParams
    settle: float = 5.0
    """A new member counts as current for moments before it has begun to copy; five looks a second apart must agree."""
    patience: float = 240.0
    """It copies the whole stream. What takes longer is looked at by a person; the server goes on meanwhile."""
    half_way: float = ELECTION

    async def check(self, readers: Readers, params: PeerParams) -> Check:
        """The member must be dead, the rest whole, a spare there, and nothing may live on the dead server alone."""
        snapshot = await look(readers, PEER_NEEDS)
        try:
            facts = stream_facts(snapshot, params.key)
        except Refused as refused:
            return Check(world={}, refusals=refused.reasons)
        reasons = hindrances(snapshot, facts, params.peer)
        reasons += guard(facts, params.stream_created, params.stream_config)
        if facts.state.last_seq < params.last_seq:
            reasons.append(f"Stream {facts.key} ends at {facts.state.last_seq}, and ended at {params.last_seq}.")
        if not reasons:
            reasons += [
                f"Consumer {facts.key} > {name} does not answer: it may live on {params.peer} alone, and would begin again without its position."
                for name in sorted(await readers.missing(params.account, params.stream))
            ]
        fit, _ = spares(snapshot, facts, params.peer)
        world = stream_world(facts) | {"stream.members": ", ".join(sorted(facts.standing.members))}
        image = {"members": sorted(facts.standing.members), "leader": facts.standing.leader}
        return Check(
            world=world,
            refusals=tuple(reasons),
            before_image=image,
            before=stream_numbers(facts) | {"spare servers": ", ".join(fit)},
        )

    async def preview(self, readers: Readers, params: PeerParams) -> Preview:
        """Say what is copied, and by whom."""
        snapshot = await look(readers, PEER_NEEDS)
        facts = stream_facts(snapshot, params.key)
        fit, _ = spares(snapshot, facts, params.peer)
        size = facts.state.stored.bytes
        after = [*sorted(set(params.members) - {params.peer}), " or ".join(fit) or "nobody"]
        return Preview(
            summary=f"Replace {params.peer} as a member of stream {params.stream}",
            diff=f"- members: {', '.join(params.members)}\n+ members: {', '.join(after)}",
            blast_radius=f"Stream {params.key} and its {len(facts.consumers)} consumers; it serves clients as before meanwhile.",
            effects=(
                f"{' or '.join(fit) or 'Nobody'} copies {facts.state.messages} messages ({size} bytes) from the leader.",
                f"The copy on {params.peer} is thrown away when it comes back.",
            ),
            way_back=f"None: {params.peer} does not become a member again by itself. With two members left, a further loss would stop the stream.",
        )

    async def apply(self, readers: Readers, writers: Writers, params: PeerParams, operation: OperationId) -> None:  # noqa: ARG002
        """Ask the meta leader. *Remap failed* may hide that the member is gone, and *no member* that an earlier request arrived."""
        try:
            await writers.remove_stream_peer(params.account, params.stream, params.peer)
        except ApiRefused as refused:
            if refused.err_code in {REMAP_FAILED, NOT_A_MEMBER}:
                raise OutcomeUnknown(f"{refused}. The member may be gone all the same.") from refused
            raise

    async def receipt(self, readers: Readers, params: PeerParams, operation: OperationId) -> Receipt:  # noqa: ARG002
        """Who belongs to the group is the receipt: a dead server leaves it by nobody's will but this."""
        try:
            facts = stream_facts(await look(readers), params.key)
        except Refused:
            return Receipt.UNREADABLE
        if facts.state.created != params.stream_created:
            return Receipt.FOREIGN
        return Receipt.NOT_APPLIED if params.peer in facts.standing.members else Receipt.APPLIED

    async def verify(self, readers: Readers, params: PeerParams, operation: OperationId) -> Verification:  # noqa: ARG002
        """As many members as configured, all current, without the dead one; nothing went back; the consumers moved along."""
        try:
            facts = stream_facts(await look(readers), params.key)
        except Refused as refused:
            return Verification(outcome=Outcome.FAILED, sentence=str(refused))
        seen: Numbers = stream_numbers(facts)
        if facts.state.last_seq < params.last_seq:
            said = f"Stream {facts.key} ends at {facts.state.last_seq}, and ended at {params.last_seq}: messages are missing."
            return Verification(outcome=Outcome.FAILED, sentence=said, numbers=seen, final=True)
        wrong = [f"{params.peer} is still a member."] if params.peer in facts.standing.members else []
        if not facts.standing.whole:
            here = ", ".join(sorted(facts.standing.members))
            wrong.append(f"{here} of {facts.standing.replicas} members: {facts.standing.counted}.")
        wrong += _consumers_behind(facts, params.peer)
        if wrong:
            return Verification(outcome=Outcome.FAILED, sentence=" ".join(wrong), numbers=seen)
        new = ", ".join(sorted(facts.standing.members - set(params.members)))
        said = f"{new} took the place of {params.peer}; all {facts.standing.replicas} members are current."
        return Verification(outcome=Outcome.VERIFIED, sentence=said, numbers=seen)

    async def rollback(self, readers: Readers, writers: Writers, params: PeerParams, operation: OperationId) -> str:  # noqa: ARG002
        """There is no way back."""
        raise Refused(f"{params.peer} can't be made a member again: the server chooses members itself.")


def hindrances(snapshot: Snapshot, facts: StreamFacts, peer: str) -> list[str]:
    """Reasons why this member must not be replaced now."""
    found = facts.standing
    if peer not in found.members:
        return [f"{peer} is no member of stream {facts.key}."]
    if found.replicas < LEAST_REPLICAS:
        return [f"Stream {facts.key} has {found.replicas} replicas: {peer} may hold what nobody else does."]
    reasons = cannot_write(snapshot, facts) + signs_of_life(snapshot, peer, found, f"stream {facts.key}")
    if others := sorted(set(found.lagging) - {peer}):
        reasons.append(f"{', '.join(others)} is not current in stream {facts.key} either: {found.counted}.")
    if len(found.members) != found.replicas:
        reasons.append(
            f"Stream {facts.key} has {len(found.members)} members and shall have {found.replicas}: it is being changed."
        )
    return reasons + no_spare(snapshot, facts, peer)


def peer_remove_stage(facts: StreamFacts, peer: str) -> PeerParams:
    """Return the parameters for replacing this member."""
    return PeerParams(
        account=facts.key.account,
        stream=facts.key.stream,
        stream_created=facts.state.created,
        stream_config=config_digest(facts.state.config),
        members=tuple(sorted(facts.standing.members)),
        peer=peer,
        last_seq=facts.state.last_seq,
    )


def _consumers_behind(facts: StreamFacts, peer: str) -> list[str]:
    wrong: list[str] = []
    for name in sorted(facts.consumers):
        found = consumer_in(facts, name)
        if found is None or found.replicas == 1:
            continue
        if found.leader is None:
            wrong.append(f"Consumer {name} has {found.problem}.")
        elif peer in found.members or not found.whole:
            wrong.append(f"Consumer {name}: {', '.join(sorted(found.members))}, {found.counted}.")
    return wrong


ACTION = StreamPeerRemove()
