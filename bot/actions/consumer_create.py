"""Creates one consumer with `"action":"create"`: a recreated one at its position, or a helper beside it.

The receipt is the operation id in the consumer's metadata. Whether the repair worked is read from every member's own view, never from the answer.
"""

from __future__ import annotations

import difflib
import json
from enum import StrEnum
from typing import Final

from bot.action import ELECTION, RECEIPT_KEY, Check, Receipt
from bot.actions._facts import (
    StreamFacts,
    cannot_write,
    consumer_facts,
    consumer_in,
    filters_of,
    guard,
    limit_reached,
    look,
    rivals,
    stream_facts,
    stream_world,
    untouchable,
    would_break_again,
)
from bot.actions.consumer_delete import numbers, with_receipt
from bot.errors import ApiRefused, OutcomeUnknown, Refused
from bot.model import (
    ConsumerKey,
    ConsumerState,
    JsonObject,
    OperationId,
    Outcome,
    Preview,
    Record,
    RiskClass,
    Snapshot,
    StreamKey,
    StreamState,
    Verification,
    part,
)
from bot.model.groups import consumer_replicas, health_error, raft_group_of, raft_node, without_server_metadata
from bot.ports import Readers, Writers

ALREADY_THERE: Final = frozenset({10148, 10013, 10105})
"""JetStream's codes for a consumer of that name that exists (reference/nats.md 1.E.2)."""


class Purpose(StrEnum):
    """Why a consumer is created."""

    REPLACE = "replace"
    """The consumer itself, again, at its position."""
    HOLDER = "holder"
    """Keeps an interest stream's messages while the consumer is away (reference/nats.md 1.E.1)."""
    PROBE = "probe"
    """Shows that the servers still accept a Raft group, where their limit can't be read."""


class CreateParams(Record):
    """The complete configuration, and the facts that make it right. Sequences are stream sequences."""

    account: str
    stream: str
    consumer: str
    purpose: Purpose
    config: JsonObject
    original: JsonObject = {}
    """The configuration before; the preview's diff is against it."""
    stream_created: str
    stream_config: str
    """Digest of the stream's configuration."""
    beside: str | None = None
    """For a helper: the consumer it helps, whose obstacles are also its own."""
    replaces_created: str | None = None
    """`created` of the consumer that must be gone by the turn of this stage."""
    companion: str | None = None
    """A holder that must be there."""
    start: int | None = None
    """The first sequence it will deliver; None where its original policy says so."""
    at_least: int = 0
    """Messages it must have to deliver."""
    repeated_acked: int = 0
    """At most so many acknowledged messages are delivered again."""
    repeated_unacked: int = 0

    @property
    def key(self) -> ConsumerKey:
        return ConsumerKey(self.account, self.stream, self.consumer)


class ConsumerCreate:
    """Creates one consumer."""

    kind: str = "consumer.create"
    title: str = "Create consumer"
    risk: RiskClass = RiskClass.MEDIUM
    params: type[Record] = CreateParams
    settle: float = 3.0
    """A ghost leader shows within 1 s of the create (drills.md 3.3, recorded views); three looks a second apart must agree."""
    patience: float = 60.0
    """New groups are current within 6 to 10 s under load (drills.md 3.1)."""
    half_way: float = ELECTION

    async def check(self, readers: Readers, params: CreateParams) -> Check:
        """Read stream, meta group and limits. At proposal time the old consumer is still there, which refuses this stage's turn only."""
        snapshot = await look(readers)
        try:
            stream = stream_facts(snapshot, StreamKey(params.account, params.stream))
            reasons = cannot_write(snapshot, stream) + guard(stream, params.stream_created, params.stream_config)
            reasons += self._occupied(stream, params)
            if params.beside is not None:
                facts = consumer_facts(snapshot, ConsumerKey(params.account, params.stream, params.beside))
                reasons += untouchable(facts) + would_break_again(snapshot, facts, 1)
            else:
                reasons += self._no_room(snapshot, stream, params)
        except Refused as refused:
            return Check(world={}, refusals=refused.reasons)
        return Check(
            world=stream_world(stream), refusals=tuple(reasons), before={"stream messages": stream.state.messages}
        )

    def _occupied(self, stream: StreamFacts, params: CreateParams) -> list[str]:
        views = stream.consumers.get(params.consumer) or {}
        if params.companion is not None and not stream.consumers.get(params.companion):
            return [f"Holder {params.companion} is not there, so messages may be gone."]
        created = sorted({view.created for view in views.values()})
        if not created:
            return rivals(stream, params.consumer, params.config)
        if params.replaces_created in created:
            return [f"Consumer {params.key} has not been deleted."]
        return [f"Consumer {params.key} exists already, created {', '.join(created)} by somebody else."]

    def _no_room(self, snapshot: Snapshot, stream: StreamFacts, params: CreateParams) -> list[str]:
        if consumer_replicas(params.config, stream.standing.replicas) == 1:
            return []
        return [reason for server in sorted(stream.standing.members) for reason in limit_reached(snapshot, server, 1)]

    async def preview(self, readers: Readers, params: CreateParams) -> Preview:  # noqa: ARG002 - the contract's parameter
        """Show the difference in configuration and what will be delivered again."""
        if params.purpose is not Purpose.REPLACE:
            return _helper_preview(params)
        return Preview(
            summary=f"Create consumer {params.consumer} of stream {params.stream} again"
            + (f" at sequence {params.start}" if params.start is not None else " with its own start policy"),
            diff=_diff(params),
            blast_radius=f"Consumer {params.key} only.",
            effects=_effects(params),
            way_back="None: deleting it again would lose the position again. The recorded copy of the old consumer stays in this proposal.",
        )

    async def apply(self, readers: Readers, writers: Writers, params: CreateParams, operation: OperationId) -> None:
        """Create with the receipt. A consumer that exists already and carries our receipt is ours: applied before."""
        try:
            await writers.create_consumer(params.account, params.stream, with_receipt(params.config, operation))
        except ApiRefused as refused:
            if (
                refused.err_code not in ALREADY_THERE
                or await self.receipt(readers, params, operation) is not Receipt.APPLIED
            ):
                raise

    async def receipt(self, readers: Readers, params: CreateParams, operation: OperationId) -> Receipt:
        """Read the operation id back from the metadata. Raises `Unreadable`."""
        info = await readers.consumer_info(params.account, params.stream, params.consumer)
        if info is None:
            return Receipt.NOT_APPLIED
        if part(part(info, "config"), "metadata").get(RECEIPT_KEY) == operation:
            return Receipt.APPLIED
        return Receipt.FOREIGN if info.get("created") != params.replaces_created else Receipt.NOT_APPLIED

    async def verify(self, readers: Readers, params: CreateParams, operation: OperationId) -> Verification:
        """Look whether all members agree on one leader, are current, and hold what was asked for, at the position asked for."""
        snapshot = await look(readers)
        try:
            facts = consumer_facts(snapshot, params.key)
        except Refused as refused:
            known = len(snapshot.consumers(snapshot.rounds - 1).get(params.key) or ())
            seen: dict[str, str | int | None] = {"servers that know it": known}
            return Verification(outcome=Outcome.FAILED, sentence=str(refused), numbers=seen)
        views = facts.stream.consumers[params.consumer]
        # The leader's own copy of the stream, out of the same answer: what another server says may be older or newer.
        near = snapshot.streams(snapshot.rounds - 1)[facts.stream.key].get(facts.state.server, facts.stream.state)
        wrong = _group_problems(snapshot, params.key, facts.stream)
        wrong += config_differences(with_receipt(params.config, operation), facts.config)
        wrong += _position_problems(params, facts.state, near, facts.stream.retention)
        seen = numbers(facts.state) | {
            "members": len(facts.standing.members),
            "stream messages": facts.stream.state.messages,
        }
        if wrong:
            return Verification(outcome=Outcome.FAILED, sentence=" ".join(wrong), numbers=seen)
        sentence = (
            f"{len(views)} of {len(facts.standing.members)} members name {facts.standing.leader} as leader and are current; "
            f"{facts.state.num_pending} messages still to deliver, {facts.state.num_ack_pending} waiting for an ack."
        )
        if added := server_defaults(params.config, facts.config):
            sentence += f" The server added {', '.join(added)}."
        return Verification(outcome=Outcome.VERIFIED, sentence=sentence, numbers=seen)

    async def rollback(self, readers: Readers, writers: Writers, params: CreateParams, operation: OperationId) -> str:
        """Delete a helper again, while the consumer it helps is there. Raises `Refused` otherwise."""
        if params.beside is None:
            raise Refused(f"Consumer {params.key} stays: deleting it would lose its position again.")
        if await self.receipt(readers, params, operation) is not Receipt.APPLIED:
            raise Refused(f"{params.key} does not carry this operation's receipt, so it is not ours to delete.")
        if await readers.consumer_info(params.account, params.stream, params.beside) is None:
            raise Refused(
                f"Consumer {params.beside} is not there; {params.consumer} keeps its messages and must stay until it is."
            )
        try:
            await writers.delete_consumer(params.account, params.stream, params.consumer)
        except OutcomeUnknown:
            # A ghost that leads the helper may never answer (seen on 2.10.26); whether it is gone can be read.
            if await readers.consumer_info(params.account, params.stream, params.consumer) is not None:
                raise
        return f"Helper consumer {params.consumer} is deleted again."


def config_differences(sent: JsonObject, got: JsonObject) -> list[str]:
    """Name every field that was sent and reads back otherwise."""
    wanted, found = without_server_metadata(sent), without_server_metadata(got)
    changed = [k for k in wanted if wanted[k] != found.get(k) and (wanted[k] or found.get(k))]
    return [f"{k} is {found.get(k)!r}, {wanted[k]!r} was sent." for k in sorted(changed)]


def server_defaults(sent: JsonObject, got: JsonObject) -> list[str]:
    """Name every field that says something and was not sent: the server's own defaults."""
    return sorted(k for k in without_server_metadata(got) if k not in sent and k != "metadata" and got[k])


def _group_problems(snapshot: Snapshot, key: ConsumerKey, stream: StreamFacts) -> list[str]:
    found = consumer_in(stream, key.consumer)
    if found is None:
        return [f"No server reports {key}."]
    reported = stream.consumers[key.consumer]
    problems: list[str] = []
    if not found.whole:
        problems.append(f"{key.consumer}: {found.counted}.")
    if others := sorted(set(reported) - found.voters):
        problems.append(f"{', '.join(others)} does not name {found.leader} as leader.")
    if absent := sorted(found.members - set(reported)):
        problems.append(f"{', '.join(absent)} does not report it.")
    group = raft_group_of(reported)
    for server in sorted(found.members):
        if found.replicas > 1 and raft_node(snapshot, server, key.account, group) is False:
            problems.append(f"{server} has no Raft node for it.")
        if error := health_error(snapshot, server, key):
            problems.append(f"{server} reports: {error}.")
    return problems


def _position_problems(params: CreateParams, state: ConsumerState, near: StreamState, retention: str) -> list[str]:
    """While nothing is delivered, count what is waiting; afterwards nothing before the start may have been delivered as new."""
    start = params.start or 0
    if state.delivered_consumer_seq > 0:
        behind = state.delivered_stream_seq < start - 1
        return [f"It has delivered up to {state.delivered_stream_seq}, before its start {start}."] if behind else []
    gapless = near.messages == near.last_seq - near.first_seq + 1
    if retention == "limits" and not (gapless and near.first_seq <= max(start, 1)):
        return []  # Limits of the stream may have removed what was counted; the start in the configuration is the proof.
    expected = params.at_least
    if retention == "limits" and params.start is not None and filters_of(params.config) == (">",):
        expected = max(expected, near.last_seq - start + 1)
    if state.num_pending < expected:
        return [f"It has {state.num_pending} messages to deliver, at least {expected} were expected."]
    return []


def _effects(params: CreateParams) -> tuple[str, ...]:
    told = [f"At least {params.at_least} messages are waiting for it."]
    if params.repeated_acked:
        told.append(
            f"At most {params.repeated_acked} messages that were acknowledged above the ack floor are delivered again."
        )
    else:
        told.append("No acknowledged message is delivered again.")
    if params.repeated_unacked:
        told.append(
            f"{params.repeated_unacked} messages that wait for an acknowledgement are delivered again, as they were due anyway."
        )
    return tuple(told)


def _helper_preview(params: CreateParams) -> Preview:
    reason = {
        Purpose.HOLDER: f"It keeps the stream's messages from sequence {params.start or 1} on while {params.beside} is away; nobody reads it.",
        Purpose.PROBE: "It shows that every member still accepts a Raft group before anything is deleted; nobody reads it.",
        Purpose.REPLACE: "",
    }[params.purpose]
    return Preview(
        summary=f"Create helper consumer {params.consumer} of stream {params.stream}",
        diff=_diff(params),
        blast_radius=f"Stream {params.stream} gets one more consumer for a minute.",
        effects=(reason,),
        way_back="It is deleted again, at the latest by a later stage.",
    )


def _diff(params: CreateParams) -> str:
    before, after = (
        json.dumps(without_server_metadata(c), indent=2, sort_keys=True).splitlines()
        for c in (params.original, params.config)
    )
    lines = difflib.unified_diff(before if params.original else [], after, "before", "after", lineterm="")
    return "\n".join(lines)


ACTION = ConsumerCreate()
