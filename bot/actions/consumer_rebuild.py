"""Composes what brings consumers back that are gone, from the copy that was taken before: each at its position, or guidance with the reasons. Pure.

A server that can't create its Raft directories makes the meta leader delete a stream's consumers in the whole cluster during a scale-up, and nothing but a
copy has their positions (reference/drills.md 3.5).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from bot.action import Draft
from bot.actions._command_line import command
from bot.actions._facts import (
    ConsumerFacts,
    StreamFacts,
    cannot_write,
    rivals,
    stream_facts,
    untouchable,
    would_break_again,
)
from bot.actions._owners import consumer_kept
from bot.actions._stream_copy import ConsumerCopy, StreamCopy, lost_messages, vanished, went_back
from bot.actions.consumer_create import ConsumerCreate, CreateParams
from bot.actions.recreate import create_stage, position
from bot.errors import Refused
from bot.model import ConsumerKey, ConsumerState, JsonObject, Snapshot, StreamKey, Subject
from bot.model.groups import standing
from bot.model.states import Sequences

COMPOSES = (ConsumerCreate.kind,)


@dataclass(frozen=True, slots=True)
class Rebuild:
    """The one stage, and where the consumer starts."""

    stage: tuple[str, JsonObject]
    start: int | None
    cautions: tuple[str, ...]


def rescue(snapshot: Snapshot, key: StreamKey, copy: StreamCopy) -> Sequence[tuple[Subject, Draft]]:
    """Return what brings back what of the copy is lost now, each thing by itself; nothing where all is there, a consumer of that name made anew included."""
    subject = Subject(cluster=snapshot.cluster, account=key.account, stream=key.stream)
    try:
        stream = stream_facts(snapshot, key)
    except Refused as refused:
        return [(subject, _no_leader(key, copy, refused))]
    found: list[tuple[Subject, Draft]] = []
    lost = lost_messages(copy, stream.state)
    if lost:
        found.append((subject, _messages(key, copy, lost)))
    for name in (name for name in vanished(copy, stream) if name not in stream.consumers):
        one = subject.model_copy(update={"consumer": name})
        found.append((one, _consumer(snapshot, stream, ConsumerKey(key.account, key.stream, name), copy, lost)))
    for name, said in went_back(copy, stream).items():
        found.append((subject.model_copy(update={"consumer": name}), _position(name, said, copy.consumers[name])))
    return found


def compose_rebuild(snapshot: Snapshot, stream: StreamFacts, key: ConsumerKey, was: ConsumerCopy) -> Rebuild:
    """Return the stage that creates a consumer again as the copy has it. Raises `Refused` with every reason that speaks against it."""
    facts = _facts(stream, key, was)
    reasons = untouchable(facts) + consumer_kept(snapshot, key)
    reasons += cannot_write(snapshot, stream) + would_break_again(snapshot, facts, 0)
    reasons += rivals(stream, key.consumer, facts.config)
    try:
        place = position(facts)
    except Refused as refused:
        raise Refused(*reasons, *refused.reasons) from refused
    if reasons:
        raise Refused(*reasons)
    kind, raw = create_stage(facts, place, None)
    params = CreateParams.model_validate(raw)
    # What it delivered and what was acknowledged between the copy and its end nobody knows: no more than the stream has got since.
    since = max(0, stream.state.last_seq - was.place.delivered)
    kept = stream.retention == "limits"
    changed = {
        "repeated_acked": params.repeated_acked + (since if kept else 0),
        "at_least": params.at_least if kept else 0,
    }
    cautions = [
        "What was acknowledged after the copy was taken is delivered again, as far as it is still in the stream."
    ]
    if stream.retention == "interest":
        cautions.append(
            "Messages that nobody else is interested in went with the consumer: those can't be brought back."
        )
    if place.policy and facts.config.get("deliver_policy") != place.policy.get("deliver_policy"):
        cautions.append(
            f"Its deliver_policy becomes by_start_sequence (was {facts.config.get('deliver_policy')}). An application that creates or updates it with its old "
            "configuration is then refused (10012, deliver policy can not be updated)."
        )
    return Rebuild((kind, params.model_copy(update=changed).model_dump(mode="json")), place.start, tuple(cautions))


def _facts(stream: StreamFacts, key: ConsumerKey, was: ConsumerCopy) -> ConsumerFacts:
    """The consumer as it was: the leader's own numbers out of the copy, on the stream as it is."""
    place = was.place
    state = ConsumerState(
        name=key.consumer,
        created=was.created,
        raw_config=msgspec.Raw(msgspec.json.encode(was.config)),
        delivered=Sequences(consumer_seq=place.delivered_consumer, stream_seq=place.delivered),
        floor=Sequences(stream_seq=place.floor),
        num_ack_pending=place.ack_pending,
        num_pending=place.pending,
        server=was.leader,
    )
    nobody = standing({}, 1)
    views = {was.leader: state}
    known = StreamFacts(stream.key, stream.state, stream.standing, {**stream.consumers, key.consumer: views})
    return ConsumerFacts(key, state, nobody, known)


def _consumer(
    snapshot: Snapshot, stream: StreamFacts, key: ConsumerKey, copy: StreamCopy, lost: Sequence[str]
) -> Draft:
    was = copy.consumers[key.consumer]
    title = f"Create consumer {key.consumer} again from its copy"
    why = f"It is gone since a change of stream {key.stream}. The copy of {copy.taken_at} says: {_told(was)}."
    try:
        if lost:
            raise Refused(f"Its stream has lost messages, and a position in it means nothing yet. {' '.join(lost)}")
        rebuild = compose_rebuild(snapshot, stream, key, was)
    except Refused as refused:
        reasons = tuple(f"Not offered yet: {reason}" for reason in refused.reasons)
        return Draft(title=f"{title}: not now", why=why, guidance=(*reasons, *_by_hand(key, was)))
    at = f"at sequence {rebuild.start}" if rebuild.start is not None else "with its own start policy"
    return Draft(title=title, why=f"{why} It starts {at}.", stages=(rebuild.stage,), cautions=rebuild.cautions)


def _by_hand(key: ConsumerKey, was: ConsumerCopy) -> tuple[str, ...]:
    start = was.place.floor + 1
    return (
        "A server that could not write has often lost the stream as well: mend its disk, restart it alone, and diagnose again.",
        f"Its configuration, for {command('nats', 'consumer', 'add', of=[key.stream], options=[f'--config={key.consumer}.json'])}: {json.dumps(was.config, sort_keys=True)}",
        f"On a stream with limits retention it goes on with deliver_policy by_start_sequence and opt_start_seq {start}; on a work queue with deliver_policy all.",
    )


def _messages(key: StreamKey, copy: StreamCopy, lost: Sequence[str]) -> Draft:
    return Draft(
        title=f"Look for the messages of stream {key.stream}",
        why=f"{' '.join(lost)} The copy of {copy.taken_at} has the numbers of every member.",
        guidance=(
            "Restart and stop nothing: a copy outside of its group is deleted about 30 s after its server's start. STREAM_GROUPS says where one is.",
            f"See what each server holds: {command('nats', 'server', 'request', 'jetstream', f'--account={key.account}', '--streams')}",
            "Without such a copy only a backup has them.",
        ),
    )


def _no_leader(key: StreamKey, copy: StreamCopy, refused: Refused) -> Draft:
    return Draft(
        title=f"Bring a leader of stream {key.stream} back",
        why=f"{refused} Before the change {copy.leader} led it, with {copy.numbers.messages} messages up to {copy.numbers.last_seq}.",
        guidance=(
            "Start the servers that held it; change neither its replicas nor its peers before it has a leader.",
            f"Then diagnose again: the copy of {copy.taken_at} is compared with what is there.",
        ),
    )


def _position(name: str, said: str, was: ConsumerCopy) -> Draft:
    return Draft(
        title=f"Look at the position of consumer {name}",
        why=f"{said}. The copy says: {_told(was)}.",
        guidance=(
            "It delivers again what it delivered before; applications that can't bear that must stop now.",
            f"From 2.14 on CONSUMER.RESET sets it to sequence {was.place.floor + 1}; before, its owner deletes it and creates it again there.",
        ),
    )


def _told(was: ConsumerCopy) -> str:
    place = was.place
    return (
        f"ack floor {place.floor}, delivered {place.delivered}, {place.ack_pending} waiting for an ack, by {was.leader}"
    )
