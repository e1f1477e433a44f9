"""One consumer as a small change of it looks at it: which one was approved, who leads it, and whether that server knows the request."""

from __future__ import annotations

from bot.actions._facts import ConsumerFacts, cannot_write, consumer_facts, guard, look
from bot.model import ConsumerKey, Record, Snapshot
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
