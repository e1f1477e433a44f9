"""One consumer as a small change of it looks at it: which one was approved, who leads it, and whether that server knows the request.

What such changes have in common stands here: a consumer that can't be read, or is another one of the same name, means the same to each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from bot.action import Check, Receipt
from bot.actions._facts import ConsumerFacts, cannot_write, consumer_facts, guard, look, settled_world
from bot.actions.consumer_delete import numbers
from bot.errors import Refused
from bot.model import ConsumerKey, Outcome, Record, Snapshot, Verification
from bot.model.groups import config_digest
from bot.model.versions import Version, version, version_number
from bot.ports import Readers


class ConsumerTarget(Record):
    """Which consumer, and of which stream."""

    account: str
    stream: str
    consumer: str
    stream_created: str
    stream_config: str
    """Digest of the stream's configuration."""
    created: str

    @property
    def key(self) -> ConsumerKey:
        return ConsumerKey(self.account, self.stream, self.consumer)


def target_of(facts: ConsumerFacts) -> ConsumerTarget:
    """Return what tells this consumer from another one of the same name."""
    return ConsumerTarget(
        account=facts.key.account,
        stream=facts.key.stream,
        consumer=facts.key.consumer,
        stream_created=facts.stream.state.created,
        stream_config=config_digest(facts.stream.state.config),
        created=facts.state.created,
    )


P = TypeVar("P", bound=ConsumerTarget)

Refusals = Callable[[Snapshot, ConsumerFacts, P], list[str]]
"""Every reason, as a whole sentence, why a change must not be made now."""

Numbers = dict[str, str | int | None]


async def read_target(readers: Readers, params: ConsumerTarget) -> tuple[Snapshot, ConsumerFacts]:
    """Return the consumer as its members agree on it. Raises `Refused` and `Unreadable`."""
    snapshot = await look(readers)
    return snapshot, consumer_facts(snapshot, params.key)


def another(facts: ConsumerFacts, params: ConsumerTarget) -> list[str]:
    """Refuse another consumer of the same name."""
    if facts.state.created == params.created:
        return []
    return [f"Consumer {facts.key} was created {facts.state.created}, not {params.created}: it is another consumer."]


def objections(
    snapshot: Snapshot, facts: ConsumerFacts, params: ConsumerTarget, since: Version, request: str
) -> list[str]:
    """Reasons why no such request is sent now; `since` is the first version that knows it. An older one does not answer at all (reference/nats.md 3.3)."""
    reasons = cannot_write(snapshot, facts.stream) + guard(facts.stream, params.stream_created, params.stream_config)
    reasons += another(facts, params)
    leader = facts.standing.leader or ""
    old = sorted(s.name for s in snapshot.servers if version_number(s.version) < since)
    if old:
        running = ", ".join(f"{name} {version(snapshot, name) or 'an unknown version'}" for name in old)
        reasons.append(f"{request} needs {'.'.join(map(str, since))} on every server that may answer it: {running}.")
    if not facts.standing.quorum:
        reasons.append(f"Consumer {facts.key}, led by {leader}, has no quorum: {facts.standing.counted}.")
    return reasons


def numbers_of(facts: ConsumerFacts) -> Numbers:
    """Return where it stands, for people."""
    return numbers(facts.state)


def seen_settled(facts: ConsumerFacts) -> Check:
    """Return what a change looks at that stays right while the consumer works."""
    return Check(world=settled_world(facts), before=numbers_of(facts))


def agreed(snapshot: Snapshot, facts: ConsumerFacts, params: P, refusals: Refusals[P]) -> P:
    """Return the parameters of a change that nothing speaks against. Raises `Refused` with every reason that does."""
    if reasons := refusals(snapshot, facts, params):
        raise Refused(*reasons)
    return params


async def check_target(
    readers: Readers, params: P, see: Callable[[ConsumerFacts], Check], refusals: Refusals[P]
) -> Check:
    """Return what `see` makes of the consumer, with the refusals."""
    try:
        snapshot, facts = await read_target(readers, params)
    except Refused as refused:
        return Check(world={}, refusals=refused.reasons)
    return see(facts).model_copy(update={"refusals": tuple(refusals(snapshot, facts, params))})


async def receipt_of(readers: Readers, params: ConsumerTarget, tell: Callable[[ConsumerFacts], Receipt]) -> Receipt:
    """Return what `tell` reads in the consumer, where it is the one that was approved."""
    try:
        _, facts = await read_target(readers, params)
    except Refused:
        return Receipt.UNREADABLE
    return Receipt.FOREIGN if another(facts, params) else tell(facts)


async def verify_target(
    readers: Readers,
    params: ConsumerTarget,
    judge: Callable[[ConsumerFacts], tuple[Outcome, str]],
    seen: Callable[[ConsumerFacts], Numbers],
) -> Verification:
    """Return what `judge` says of the consumer, where it is the one that was approved."""
    try:
        _, facts = await read_target(readers, params)
    except Refused as refused:
        return Verification(outcome=Outcome.FAILED, sentence=str(refused))
    if wrong := another(facts, params):
        return Verification(outcome=Outcome.FAILED, sentence=wrong[0], numbers=seen(facts), final=True)
    outcome, sentence = judge(facts)
    return Verification(outcome=outcome, sentence=sentence, numbers=seen(facts))
