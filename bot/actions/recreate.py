"""Composes delete + recreate of one consumer into small stages, or refuses with the reasons. Pure.

The position is what the leader named by a majority of the members reports in its own view (reference/drills.md 3.4): a single CONSUMER.INFO may come
from a server without a Raft node and say 0. What is lost and what must be kept per retention policy: reference/nats.md 1.E.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from bot.actions._facts import (
    ConsumerFacts,
    cannot_write,
    consumer_facts,
    irreplaceable,
    marked,
    rivals,
    would_break_again,
)
from bot.actions._owners import consumer_kept
from bot.actions.consumer_create import ConsumerCreate, CreateParams, Purpose
from bot.actions.consumer_delete import MARK_KEY, Companion, ConsumerDelete, DeleteParams
from bot.errors import Refused
from bot.model import ConsumerKey, JsonObject, Snapshot, digest
from bot.model.groups import config_digest, ha_assets, raft_group_of, raft_node

COMPOSES = (ConsumerCreate.kind, ConsumerDelete.kind)

HOLDER_SUFFIX = "-hold"
PROBE_SUFFIX = "-probe"

PROBE_LIFETIME_NS = 600_000_000_000
"""A probe that is left behind goes by itself after 10 minutes."""

_START_FIELDS = ("deliver_policy", "opt_start_seq", "opt_start_time")
_PULLED_OR_PUSHED = ("deliver_subject", "deliver_group", "flow_control", "idle_heartbeat", "rate_limit_bps")


class _StreamParams(TypedDict):
    account: str
    stream: str
    stream_created: str
    stream_config: str


Stages = tuple[tuple[str, JsonObject], ...]


@dataclass(frozen=True, slots=True)
class Position:
    """Where a recreated consumer starts, and what it delivers again."""

    policy: JsonObject
    """Replaces `deliver_policy`, `opt_start_seq` and `opt_start_time`; empty where the original policy is kept."""
    start: int | None
    repeated_acked: int
    """At most so many; exact for a consumer without a filter on a stream without gaps (reference/nats.md 0, fact 4)."""
    repeated_unacked: int


@dataclass(frozen=True, slots=True)
class Recreation:
    """The stages, and what people must know before they approve them."""

    facts: ConsumerFacts
    position: Position
    stages: Stages
    cautions: tuple[str, ...]


def read_consumer(snapshot: Snapshot, key: ConsumerKey) -> ConsumerFacts:
    """Return the consumer as the leader named by its members reports it. Raises `Refused` where they do not agree."""
    return consumer_facts(snapshot, key)


def compose(snapshot: Snapshot, key: ConsumerKey, *, by_owner: bool = False) -> Recreation:
    """Return the stages that delete and recreate a consumer at its position. Raises `Refused` with every reason that speaks against it.

    `by_owner` asks what its owner would have to do: that somebody else keeps it speaks against nothing then.
    """
    facts = consumer_facts(snapshot, key)
    helpers = 1 if facts.stream.retention == "interest" else 0
    reasons = [] if by_owner else marked(facts.config) + consumer_kept(snapshot, key)
    reasons += irreplaceable(facts) + cannot_write(snapshot, facts.stream) + would_break_again(snapshot, facts, helpers)
    reasons += rivals(facts.stream, key.consumer, facts.config)
    try:
        place = position(facts)
    except Refused as refused:
        raise Refused(*reasons, *refused.reasons) from refused
    if reasons:
        raise Refused(*reasons)
    return Recreation(facts, place, _stages(facts, place, probe=_needs_probe(snapshot, facts)), _cautions(facts, place))


def position(facts: ConsumerFacts) -> Position:
    """Return where the consumer must start again. Raises `Refused` where its position can't be expressed."""
    state, config = facts.state, facts.config
    policy = str(config.get("deliver_policy") or "all")
    if facts.stream.retention == "workqueue":
        # Only unprocessed messages are in a work queue, and it accepts nothing else (err 10101).
        return Position({"deliver_policy": "all"}, None, 0, state.num_ack_pending)
    if policy == "last_per_subject":
        raise Refused(
            "Its deliver_policy is last_per_subject: which messages it still has to deliver can't be written as a start sequence."
        )
    if config.get("ack_policy") == "none":
        return _from(facts, state.delivered_stream_seq, policy, 0)
    if state.floor_stream_seq == 0 and state.delivered_consumer_seq == 0:
        return _from(facts, state.delivered_stream_seq, policy, 0)
    if state.floor_stream_seq == 0:
        if policy not in {"all", "by_start_sequence", "by_start_time"}:
            raise Refused(
                f"Nothing is acknowledged yet and its deliver_policy is {policy}: where it started is not recorded."
            )
        return Position({}, None, _repeated(facts, _int(config.get("opt_start_seq")) - 1), state.num_ack_pending)
    return _from(facts, state.floor_stream_seq, policy, _repeated(facts, state.floor_stream_seq))


def _from(facts: ConsumerFacts, last: int, policy: str, repeated: int) -> Position:
    """Start right behind `last`. Before anything is delivered the servers report the sequence before the start as delivered (recorded)."""
    untouched = facts.state.delivered_consumer_seq == 0
    if untouched and policy in {"all", "by_start_sequence"}:
        return Position({}, None, 0, facts.state.num_ack_pending)
    if last == 0 and policy in {"last", "by_start_time"}:
        if policy == "by_start_time":
            return Position({}, None, 0, facts.state.num_ack_pending)
        raise Refused(
            f"It has delivered nothing yet and its deliver_policy is {policy}: where it starts is not recorded."
        )
    start = last + 1
    return Position(
        {"deliver_policy": "by_start_sequence", "opt_start_seq": start}, start, repeated, facts.state.num_ack_pending
    )


def _repeated(facts: ConsumerFacts, last: int) -> int:
    """Acknowledged messages above `last` that are delivered again: `(delivered - floor) - num_ack_pending` at most."""
    alone = len(facts.stream.consumers) == 1
    if facts.stream.retention == "interest" and alone:
        return 0  # What the only interested consumer acknowledged has left the stream.
    base = max(last, facts.stream.state.first_seq - 1)
    return max(0, facts.state.delivered_stream_seq - base - facts.state.num_ack_pending)


def _stages(facts: ConsumerFacts, place: Position, *, probe: bool) -> Stages:
    """Limits and work queue: delete, create. Interest: a holder around them. A probe first where a limit can't be read."""
    interest = facts.stream.retention == "interest"
    mark = digest(
        [
            facts.stream.state.created,
            facts.state.created,
            facts.state.floor_stream_seq,
            facts.state.delivered_stream_seq,
        ]
    )[:26]
    holder = f"{facts.key.consumer}{HOLDER_SUFFIX}" if interest else None
    before: list[tuple[str, JsonObject]] = []
    after: list[tuple[str, JsonObject]] = []
    if holder:
        before.append(_helper(facts, place, holder, Purpose.HOLDER, mark))
        back = Companion(name=facts.key.consumer, other_than=facts.state.created)
        after.append(_helper_gone(facts, holder, mark, back))
    elif probe:
        name = f"{facts.key.consumer}{PROBE_SUFFIX}"
        before += [_helper(facts, place, name, Purpose.PROBE, mark), _helper_gone(facts, name, mark, None)]
    return (*before, _delete(facts, place, holder, mark), create_stage(facts, place, holder), *after)


def _delete(facts: ConsumerFacts, place: Position, holder: str | None, mark: str) -> tuple[str, JsonObject]:
    state = facts.state
    params = DeleteParams(
        **_stream(facts),
        consumer=facts.key.consumer,
        created=state.created,
        floor=state.floor_stream_seq,
        delivered=state.delivered_stream_seq,
        ack_pending=state.num_ack_pending,
        restore=_config(facts, place),
        companion=Companion(name=holder, mark=mark, at_least=_waiting(facts)) if holder else None,
    )
    return ConsumerDelete.kind, params.model_dump(mode="json")


def create_stage(facts: ConsumerFacts, place: Position, holder: str | None) -> tuple[str, JsonObject]:
    """Return the stage that creates a consumer that is gone by then."""
    params = CreateParams(
        **_stream(facts),
        consumer=facts.key.consumer,
        purpose=Purpose.REPLACE,
        config=_config(facts, place),
        original=facts.config,
        replaces_created=facts.state.created,
        companion=holder,
        start=place.start,
        at_least=_waiting(facts),
        repeated_acked=place.repeated_acked,
        repeated_unacked=place.repeated_unacked,
    )
    return ConsumerCreate.kind, params.model_dump(mode="json")


def _helper(facts: ConsumerFacts, place: Position, name: str, purpose: Purpose, mark: str) -> tuple[str, JsonObject]:
    filters = {k: facts.config[k] for k in ("filter_subject", "filter_subjects") if facts.config.get(k)}
    own = {k: facts.config[k] for k in ("num_replicas", "mem_storage") if facts.config.get(k)}
    start = {k: facts.config[k] for k in _START_FIELDS if facts.config.get(k)} if not place.policy else place.policy
    config: JsonObject = {
        "name": name,
        "durable_name": name,
        "description": f"natsmedic: {purpose.value} for {facts.key.consumer}",
        "ack_policy": "explicit",
        "metadata": {MARK_KEY: mark},
    }
    config |= own | filters
    config |= start if purpose is Purpose.HOLDER else {"deliver_policy": "new", "inactive_threshold": PROBE_LIFETIME_NS}
    holds = purpose is Purpose.HOLDER
    params = CreateParams(
        **_stream(facts),
        consumer=name,
        purpose=purpose,
        config=config,
        beside=facts.key.consumer,
        start=place.start if holds else None,
        at_least=_waiting(facts) if holds else 0,
    )
    return ConsumerCreate.kind, params.model_dump(mode="json")


def _helper_gone(facts: ConsumerFacts, name: str, mark: str, companion: Companion | None) -> tuple[str, JsonObject]:
    params = DeleteParams(**_stream(facts), consumer=name, mark=mark, companion=companion)
    return ConsumerDelete.kind, params.model_dump(mode="json")


def _stream(facts: ConsumerFacts) -> _StreamParams:
    state = facts.stream.state
    return {
        "account": facts.key.account,
        "stream": facts.key.stream,
        "stream_created": state.created,
        "stream_config": config_digest(state.config),
    }


def _config(facts: ConsumerFacts, place: Position) -> JsonObject:
    """Every field as it was read, unknown ones too; only the start differs."""
    if not place.policy:
        return facts.config
    return {k: v for k, v in facts.config.items() if k not in _START_FIELDS} | place.policy


def _waiting(facts: ConsumerFacts) -> int:
    """Messages that must still be delivered: those never delivered and those without an acknowledgement."""
    return facts.state.num_pending + facts.state.num_ack_pending


def _needs_probe(snapshot: Snapshot, facts: ConsumerFacts) -> bool:
    """A member lacks the Raft node and does not report its limit on them (2.10): only trying tells whether it takes another one.
    A work queue takes no second consumer of the same subjects, so there it can't be tried.
    """
    if facts.stream.retention != "limits" or facts.standing.replicas == 1:
        return False
    group = raft_group_of(facts.stream.consumers[facts.key.consumer])
    return any(
        ha_assets(snapshot, server).limit is None and raft_node(snapshot, server, facts.key.account, group) is not True
        for server in facts.stream.standing.members
    )


def _cautions(facts: ConsumerFacts, place: Position) -> tuple[str, ...]:
    told = [
        "Stop or pause applications that create this consumer by themselves: one that is faster than the next stage makes it be refused."
    ]
    if place.policy and facts.config.get("deliver_policy") != place.policy.get("deliver_policy"):
        told.append(
            f"Its deliver_policy becomes by_start_sequence (was {facts.config.get('deliver_policy')}). An application that creates or updates it "
            "with its old configuration is then refused (10012, deliver policy can not be updated). From 2.14 on the alternative is to create it with "
            f'the old configuration and then CONSUMER.RESET {{"seq": {place.start}}}.'
        )
    if facts.stream.retention == "workqueue":
        told.append(
            "While it is away, another consumer of the same subjects could be created and would block it (10099, 10100)."
        )
    if facts.config.get("deliver_subject"):
        told.append("It pushes: its subscribers keep their subscription and get messages again once it is back.")
    if facts.config.get("ack_policy") == "none":
        told.append("It does not acknowledge: what was delivered and not processed is not delivered again.")
    return tuple(told)


def _int(value: object) -> int:
    return value if isinstance(value, int) else 0
