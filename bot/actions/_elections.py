"""Leaders that move: who may lead next, whether an election was held since, and how the group stands after it. The same for every Raft group.

A step-down leaves no mark of ours, so reality is the receipt: another leader, or a higher Raft term where the same one was elected again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from bot.action import ELECTION, Check, Receipt
from bot.actions._facts import ConsumerFacts, StreamFacts, look
from bot.errors import Refused
from bot.model import Group, OperationId, Outcome, Preview, Record, RiskClass, Snapshot, Verification, World
from bot.model.groups import META_GROUP, Standing, meta_standing, raft_group_of, raft_term, system_account
from bot.model.versions import Version, version, version_number
from bot.ports import Readers, Writers

PREFERRED: Final[Version] = (2, 11, 0)
"""First version whose step-down takes a preferred successor; 2.10 refuses the request (10003, 10005; reference/nats.md 3.3)."""

MOST_LAG: Final = 200
"""Operations that a follower may be behind at one look: what `nats server check jetstream` allows (reference/nats.md 2.2). A busy group's followers are
always some behind, and no follower without every committed operation is elected.
"""

Numbers = dict[str, str | int | None]


@dataclass(frozen=True, slots=True)
class Led:
    """A Raft group and its leader, as the majority of its members names it."""

    name: str
    standing: Standing
    lag: Mapping[str, int]
    """Operations by follower, in the leader's view."""
    term: int
    """Its highest Raft term; every election raises it. 0 where RAFTZ does not show it."""

    @property
    def leader(self) -> str:
        return self.standing.leader or ""

    @property
    def successors(self) -> frozenset[str]:
        """Followers that are current and have what the leader has."""
        found = self.standing
        return frozenset(
            name for name in found.members - {found.leader} - set(found.lagging) if self.lag.get(name, 0) <= MOST_LAG
        )

    @property
    def agreed(self) -> bool:
        """True where every member names this leader and is current."""
        return self.standing.whole and self.standing.voters >= self.standing.members


class Succession(Record):
    """Who steps down, and whom for."""

    leader: str
    members: tuple[str, ...]
    term: int = 0
    """The group's Raft term before. 0 where RAFTZ could not be read."""
    preferred: str = ""
    """Who shall lead next; empty where any member may."""


def stream_led(snapshot: Snapshot, stream: StreamFacts) -> Led:
    """Return a stream's group."""
    term = raft_term(snapshot, stream.standing.members, stream.key.account, stream.state.raft_group)
    return Led(f"stream {stream.key}", stream.standing, _lag(stream.state.group), term)


def consumer_led(snapshot: Snapshot, facts: ConsumerFacts) -> Led:
    """Return a consumer's group."""
    group = raft_group_of(facts.stream.consumers[facts.key.consumer])
    term = raft_term(snapshot, facts.standing.members, facts.key.account, group)
    return Led(f"consumer {facts.key}", facts.standing, _lag(facts.state.group), term)


def meta_led(snapshot: Snapshot) -> Led:
    """Return the meta group. Raises `Refused` where its members do not agree on a leader."""
    found = meta_standing(snapshot)
    if found.leader is None:
        raise Refused(f"The meta group has {found.problem}.")
    term = raft_term(snapshot, found.members, system_account(snapshot), META_GROUP)
    return Led("the meta group", found, {}, term)


def hindrances(led: Led) -> list[str]:
    """Reasons why the leader must not step down now."""
    found = led.standing
    if found.replicas == 1:
        return ["It has one replica: nobody else can lead."]
    followers = found.members - {found.leader} - set(found.lagging)
    if len(followers) < found.majority:
        return [f"Without its leader the group has no quorum of current members: {found.counted}."]
    behind = [f"{name} is {count} operations behind" for name, count in sorted(led.lag.items()) if count > MOST_LAG]
    return [f"{', '.join(behind)}; more than {MOST_LAG} is too much for a new leader."] if behind else []


def can_prefer(snapshot: Snapshot, leader: str) -> bool:
    """Tell whether this leader takes a preferred successor; it is the one who is asked."""
    return version_number(version(snapshot, leader)) >= PREFERRED


def not_preferable(snapshot: Snapshot, led: Led, preferred: str) -> list[str]:
    """Reasons why this member can't be the preferred successor; none where nobody is preferred."""
    if not preferred:
        return []
    if not can_prefer(snapshot, led.leader):
        running = version(snapshot, led.leader) or "an unknown version"
        return [f"{led.leader} runs {running}: nobody can be preferred before {'.'.join(map(str, PREFERRED))}."]
    if preferred == led.leader:
        return [f"{preferred} leads already."]
    if preferred not in led.standing.members:
        return [f"{preferred} is no member of {led.name}."]
    return [] if preferred in led.successors else [f"{preferred} is not current in {led.name}, so it can't lead."]


def elected(led: Led, leader: str, term: int) -> bool | None:
    """Tell whether an election was held since; None where the same leader leads and the terms are not known."""
    if led.leader != leader:
        return True
    if term == 0 or led.term == 0:
        return None
    return led.term > term


def election_receipt(led: Led, leader: str, term: int) -> Receipt:
    """Read an election as the receipt of a step-down."""
    match elected(led, leader, term):
        case True:
            return Receipt.APPLIED
        case False:
            return Receipt.NOT_APPLIED
        case None:
            return Receipt.UNREADABLE


def judge(led: Led, asked: Succession, seen: Numbers) -> Verification:
    """Judge a group after a step-down: an election was held, the preferred member leads, all members name it and are current."""
    if elected(led, asked.leader, asked.term) is not True:
        return Verification(outcome=Outcome.FAILED, sentence=f"{asked.leader} still leads.", numbers=seen)
    if asked.preferred and led.leader != asked.preferred:
        said = f"{led.leader} leads {led.name}, not {asked.preferred}."
        return Verification(outcome=Outcome.FAILED, sentence=said, numbers=seen)
    if not led.agreed:
        others = ", ".join(sorted(led.standing.members - led.standing.voters))
        doubt = f"; {others} names another leader or none" if others else ""
        said = f"{led.name}: {led.standing.counted}{doubt}."
        return Verification(outcome=Outcome.FAILED, sentence=said, numbers=seen)
    said = f"{led.leader} leads, all members are current."
    return Verification(outcome=Outcome.VERIFIED, sentence=said, numbers=seen)


P = TypeVar("P", bound=Succession)


@dataclass(frozen=True, slots=True)
class Found:
    """A group as it was looked for."""

    led: Led
    world: World
    reasons: tuple[str, ...] = ()
    """What speaks against a change, beside the group itself."""
    numbers: Numbers = field(default_factory=dict[str, str | int | None])
    foreign: str = ""
    """Why this is another thing of the same name; empty where it is the one that was approved."""
    lost: str = ""
    """What the new leader lacks; empty where nothing is missing."""


@dataclass(frozen=True, slots=True)
class Kind:
    """What is told of groups of one kind."""

    action: str
    title: str
    stall: str
    """What waits during an election."""
    effect: str


class StepDown(Generic[P]):
    """Moves the leader of one kind of group: `find` reads it out of a snapshot (raises `Refused`), `ask` sends the one request, `name` says what moves."""

    settle: float = 3.0
    patience: float = 30.0
    """An election takes 4 to 9 s (reference/nats.md 1.0)."""
    half_way: float = ELECTION
    risk: RiskClass = RiskClass.LOW

    def __init__(
        self,
        kind: Kind,
        params: type[P],
        find: Callable[[Snapshot, P], Found],
        ask: Callable[[Writers, P], Awaitable[None]],
        name: Callable[[P], str],
    ) -> None:
        self.kind = kind.action
        self.title = kind.title
        self.params: type[Record] = params
        self._kind = kind
        self._find = find
        self._ask = ask
        self._name = name

    async def check(self, readers: Readers, params: P) -> Check:
        """The group must keep quorum without its leader, and the followers must have everything."""
        snapshot = await look(readers)
        try:
            found = self._find(snapshot, params)
        except Refused as refused:
            return Check(world={}, refusals=refused.reasons)
        reasons = [*found.reasons, *hindrances(found.led), *not_preferable(snapshot, found.led, params.preferred)]
        reasons += [found.foreign] if found.foreign else []
        if found.led.leader != params.leader:
            reasons.append(f"{found.led.leader} leads {found.led.name}, not {params.leader}.")
        return Check(world=found.world, refusals=tuple(reasons), before=found.numbers)

    async def preview(self, readers: Readers, params: P) -> Preview:  # noqa: ARG002 - the contract's parameter
        """Say what moves."""
        name = self._name(params)
        followers = ", ".join(one for one in params.members if one != params.leader)
        to = f"for {params.preferred}" if params.preferred else f"and one of {followers} leads next"
        return Preview(
            summary=f"{params.leader} steps down as leader of {name}, {to}",
            blast_radius=f"{name[0].upper()}{name[1:]}: {self._kind.stall} for some seconds, until the members have elected a leader.",
            effects=(self._kind.effect,),
            way_back="A further step-down; nothing is lost either way.",
        )

    async def apply(self, readers: Readers, writers: Writers, params: P, operation: OperationId) -> None:  # noqa: ARG002
        """Ask the leader."""
        await self._ask(writers, params)

    async def receipt(self, readers: Readers, params: P, operation: OperationId) -> Receipt:  # noqa: ARG002
        """An election since is the receipt."""
        snapshot = await look(readers)
        try:
            found = self._find(snapshot, params)
        except Refused:
            return Receipt.UNREADABLE
        return Receipt.FOREIGN if found.foreign else election_receipt(found.led, params.leader, params.term)

    async def verify(self, readers: Readers, params: P, operation: OperationId) -> Verification:  # noqa: ARG002
        """After an election all members name one leader and are current."""
        snapshot = await look(readers)
        try:
            found = self._find(snapshot, params)
        except Refused as refused:
            return Verification(outcome=Outcome.FAILED, sentence=str(refused))
        if found.lost or found.foreign:
            said = found.lost or found.foreign
            return Verification(outcome=Outcome.FAILED, sentence=said, numbers=found.numbers, final=bool(found.lost))
        return judge(found.led, params, found.numbers)

    async def rollback(self, readers: Readers, writers: Writers, params: P, operation: OperationId) -> str:  # noqa: ARG002
        """There is nothing to undo."""
        raise Refused("A step-down changes no state; any member may lead.")


def _lag(group: Group | None) -> dict[str, int]:
    return {peer.name: peer.lag for peer in group.peers} if group else {}
