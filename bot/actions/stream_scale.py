"""Changes the number of replicas of one stream: one update of its full raw configuration, in which nothing but `num_replicas` and the receipt differs.

Success of the update says nothing (reference/nats.md 1.E): members are waited for until they are current, and what the stream and its consumers were
before is compared. A stream that goes backwards, or a consumer that is gone, ends the stage for good: then the copy from before is all that is left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from bot.action import ELECTION, RECEIPT_KEY, Check, Draft, Receipt
from bot.actions._facts import StreamFacts, look, stream_facts
from bot.actions._scale_facts import (
    OWN_FIELDS,
    ScaleParams,
    consumer_problems,
    desired,
    group_problems,
    hindrances,
    leads,
    moved,
    no_way_down,
    replicas_in,
)
from bot.actions._scale_words import difference, effects, way_back
from bot.actions._stream_copy import (
    StreamCopy,
    changed_fields,
    copy_of,
    edited,
    fields_of,
    lost_messages,
    named,
    vanished,
    went_back,
)
from bot.actions.consumer_delete import with_receipt
from bot.actions.consumer_rebuild import rescue
from bot.errors import NotYet, Refused, Stands, Unreadable
from bot.model import (
    TRENDS,
    Again,
    Endpoint,
    JsonObject,
    OperationId,
    Outcome,
    Preview,
    Record,
    RiskClass,
    Snapshot,
    StreamState,
    Subject,
    Verification,
    World,
    digest,
    part,
)
from bot.ports import Readers, Writers

NEEDS: Final = frozenset({Endpoint.VARZ, Endpoint.JSZ, Endpoint.HEALTHZ, Endpoint.RAFTZ})

PAUSE: Final = 1.0
"""Seconds between two looks at members that lag: one that keeps up has by then what the leader had."""

DOUBT: Final = 3.0
"""Seconds between two looks at something that is lost: a new leader shows old numbers until it has applied its log, which takes less."""

UNDONE: Final = "undone"
"""What the receipt says behind the operation's id once the stage is taken back."""


class StreamScale:
    """One stage of a change of replicas, up or down."""

    kind: str = "stream.scale"
    title: str = "Change of a stream's replicas"
    risk: RiskClass = RiskClass.MEDIUM
    params: type[Record] = ScaleParams
    settle: float = 30.0
    patience: float = 180.0
    """Both stand in the parameters of every stage; these are for none."""
    half_way: float = ELECTION

    async def check(self, readers: Readers, params: ScaleParams) -> Check:
        """Read everything that reference/nats.md 1.E asks for, and take the copy that verification compares with."""
        snapshot = await look(readers, NEEDS, lambda first: _once_more(_reasons(first, params), PAUSE))
        try:
            stream = stream_facts(snapshot, params.key)
            reasons = hindrances(snapshot, stream, params)
            info = await readers.stream_info(params.account, params.stream)
            reasons += leads(stream, info)
        except Refused as refused:
            return Check(world={}, refusals=refused.reasons)
        if wanted := desired(info or {}):
            reasons.append(f"The server itself is changing the members of stream {params.key}: {wanted}.")
        copy = copy_of(snapshot.taken_at.isoformat(), dict(_views(snapshot, params)), stream)
        return Check(
            world=_world(snapshot, stream, params),
            refusals=tuple(dict.fromkeys(reasons)),
            final=bool(moved(stream.state.config, stream.state.created, params)),
            before_image=copy.model_dump(mode="json"),
            before=_numbers(stream),
        )

    async def preview(self, readers: Readers, params: ScaleParams) -> Preview:  # noqa: ARG002 - the contract's parameter
        """Show the one field that changes, what is copied, and what two members mean."""
        return Preview(
            summary=f"Stream {params.stream}: replicas {params.start} → {params.to}",
            diff=difference(params),
            blast_radius=f"Stream {params.key} and its {params.consumers} consumers: no leader for some seconds while the members elect one.",
            effects=effects(params),
            way_back=way_back(params),
        )

    async def apply(self, readers: Readers, writers: Writers, params: ScaleParams, operation: OperationId) -> None:
        """Send the configuration as it is this moment, with the two fields changed. Somebody else's edit since refuses it."""
        info = await readers.stream_info(params.account, params.stream)
        if info is None:
            raise Refused(f"There is no stream {params.key} any more.")
        config = part(info, "config")
        if _mark(config) == operation and replicas_in(config) == params.to:
            return
        if reasons := moved(config, str(info.get("created")), params):
            raise Refused(*reasons)
        await writers.update_stream(params.account, params.stream, _scaled(config, params.to, operation))

    async def receipt(self, readers: Readers, params: ScaleParams, operation: OperationId) -> Receipt:
        """Read the operation id back, from the leader or, while there is none, from any member. Raises `Unreadable`."""
        try:
            info = await readers.stream_info(params.account, params.stream)
            configs = [part(info, "config")] if info is not None else []
        except Unreadable:
            views = _views(await look(readers, NEEDS), params)
            configs = [view.config for view in views.values()]
            if not any(_mark(config) == operation for config in configs):
                raise
        if any(_mark(config) == operation for config in configs):
            return Receipt.APPLIED
        untouched = configs and not changed_fields(params.config, configs[0], OWN_FIELDS)
        return Receipt.NOT_APPLIED if untouched and replicas_in(configs[0]) == params.start else Receipt.FOREIGN

    async def verify(self, readers: Readers, params: ScaleParams, operation: OperationId) -> Verification:
        """Look whether all members are there and current, and whether nothing of the copy is lost. A loss that a second look confirms is final."""
        copy = StreamCopy.model_validate(params.before)

        def again(first: Snapshot) -> Again | None:
            return _once_more(_losses(first, params, copy, 0), DOUBT) or _once_more(_unsettled(first, params), PAUSE)

        snapshot = await look(readers, NEEDS, again)
        lost = _losses(snapshot, params, copy, snapshot.rounds - 1)
        if lost:
            confirmed = snapshot.rounds > 1 and bool(_losses(snapshot, params, copy, 0))
            return Verification(
                outcome=Outcome.FAILED,
                sentence=f"{' '.join(lost)} The copy from {copy.taken_at} stands in this execution: {_held(copy)}.",
                numbers=_seen(snapshot, params),
                final=confirmed,
            )
        if wrong := _unsettled(snapshot, params):
            return Verification(outcome=Outcome.FAILED, sentence=" ".join(wrong), numbers=_seen(snapshot, params))
        stream = stream_facts(snapshot, params.key)
        if reasons := _not_ours(stream, params, operation):
            return Verification(outcome=Outcome.FAILED, sentence=" ".join(reasons), numbers=_numbers(stream))
        info = await readers.stream_info(params.account, params.stream)
        if wanted := desired(info or {}):
            sentence = f"The server is still changing the members of {params.key}: {wanted}."
            return Verification(outcome=Outcome.FAILED, sentence=sentence, numbers=_numbers(stream))
        return Verification(outcome=Outcome.VERIFIED, sentence=_well(stream, copy, params), numbers=_numbers(stream))

    async def rollback(self, readers: Readers, writers: Writers, params: ScaleParams, operation: OperationId) -> str:
        """Bring the former number of replicas back, where no copy that counts can get lost by it, and nobody edits the stream at this moment."""
        snapshot = await look(readers, NEEDS, lambda _: Again(TRENDS, 2, PAUSE))
        copy = StreamCopy.model_validate(params.before)
        undone = OperationId(f"{operation}.{UNDONE}")
        config = _alone(snapshot, params, copy)
        if config is None:
            stream = stream_facts(snapshot, params.key)
            if lost := _losses(snapshot, params, copy, snapshot.rounds - 1):
                raise Refused(f"{' '.join(lost)} Fewer members could mean that what is left of it goes too.")
            config = await _at_rest(readers, snapshot, params)
            if _mark(config) == undone and replicas_in(config) == params.start:
                return _back(snapshot, stream, params)
            if params.to == params.target and not _unsettled(snapshot, params):
                raise Stands(f"Stream {params.key} has its {params.to} replicas, all current, and keeps them.")
            if risks := no_way_down(snapshot, stream, params):
                raise Refused(*risks)
        if (replicas := replicas_in(config)) != params.to:
            raise Refused(
                f"Somebody else has given stream {params.key} {replicas} replicas; this stage set {params.to}."
            )
        await writers.update_stream(params.account, params.stream, _scaled(config, params.start, undone))
        raise NotYet(
            f"Stream {params.key} was told to have {params.start} replicas again, and its members are not ready."
        )

    async def rescue(self, readers: Readers, params: ScaleParams) -> Sequence[tuple[Subject, Draft]]:
        """Say how consumers that this stage lost come back at the positions of the copy."""
        snapshot = await look(readers, NEEDS)
        return rescue(snapshot, params.key, StreamCopy.model_validate(params.before))


def _reasons(snapshot: Snapshot, params: ScaleParams) -> list[str]:
    try:
        return hindrances(snapshot, stream_facts(snapshot, params.key), params)
    except Refused as refused:
        return list(refused.reasons)


def _unsettled(snapshot: Snapshot, params: ScaleParams) -> list[str]:
    """Say what keeps the stage from being verified, the copy aside."""
    try:
        stream = stream_facts(snapshot, params.key)
    except Refused as refused:
        return list(refused.reasons)
    wrong = group_problems(snapshot, stream) + consumer_problems(snapshot, stream)
    if (replicas := replicas_in(stream.state.config)) != params.to:
        wrong.append(f"Stream {params.key} has {replicas} replicas, not {params.to}.")
    return wrong


def _back(snapshot: Snapshot, stream: StreamFacts, params: ScaleParams) -> str:
    """Say that the former replicas are there. Raises `NotYet` while they are not all well."""
    if wrong := [*group_problems(snapshot, stream), *consumer_problems(snapshot, stream)]:
        raise NotYet(*wrong)
    return f"Stream {params.key} has {params.start} replicas again, {stream.standing.leader} leads."


def _alone(snapshot: Snapshot, params: ScaleParams, copy: StreamCopy) -> JsonObject | None:
    """Return the configuration on the only holder where the second member never came, so that neither leads; None in any other case.

    The holder is the first of the group's peers, and a scale-down without a leader keeps the first: seen 8 of 8 times on 2.10.26 and 2.11.2
    (tests/integration/test_stream_scaling.py).
    """
    if (params.start, params.to) != (1, 2) or set(copy.views) != {copy.leader}:
        return None
    views = [(snapshot.streams(n).get(params.key) or {}).get(copy.leader) for n in range(snapshot.rounds)]
    found = [view for view in views if view is not None and view.created == copy.created]
    try:
        quorum = stream_facts(snapshot, params.key).standing.quorum
    except Refused:
        quorum = False
    if quorum or len(found) != snapshot.rounds or any(lost_messages(copy, view) for view in found):
        return None
    if moving := changed_fields(found[0].config, found[-1].config):
        raise NotYet(f"Somebody is editing stream {params.key} at this moment: {', '.join(moving)}.")
    return found[-1].config


async def _at_rest(readers: Readers, snapshot: Snapshot, params: ScaleParams) -> JsonObject:
    """Return the configuration as it is this moment. JetStream has no conditional update, so where it changed within the last look it is not written.

    Raises `NotYet`, `Refused` and `Unreadable`.
    """
    info = await readers.stream_info(params.account, params.stream)
    if info is None or info.get("created") != params.stream_created:
        raise Refused(f"There is no stream {params.key} of {params.stream_created} any more.")
    config = part(info, "config")
    seen = [
        view.config for n in range(snapshot.rounds) for view in (snapshot.streams(n).get(params.key) or {}).values()
    ]
    moving = {field for one in seen for field in changed_fields(one, config)}
    if moving:
        raise NotYet(f"Somebody is editing stream {params.key} at this moment: {', '.join(sorted(moving))}.")
    return config


def _losses(snapshot: Snapshot, params: ScaleParams, copy: StreamCopy, at: int) -> list[str]:
    """Say what of the copy is lost, as the stream's leader shows it in round `at`; nothing where there is no leader to ask."""
    try:
        stream = stream_facts(snapshot, params.key, at)
    except Refused:
        return []
    told = [f"Stream {params.key}: {said}" for said in lost_messages(copy, stream.state)]
    if gone := vanished(copy, stream):
        told.append(f"{len(gone)} of {len(copy.consumers)} consumers of stream {params.key} are gone: {named(gone)}.")
    if back := went_back(copy, stream):
        told.append(f"{named(list(back.values()))}.")
    return told


def _not_ours(stream: StreamFacts, params: ScaleParams, operation: OperationId) -> list[str]:
    """Say that somebody else has set the replicas since, or sent a configuration that never had our receipt."""
    config = stream.state.config
    if _mark(config) == operation and replicas_in(config) == params.to:
        return []
    fields = changed_fields(params.config, config, OWN_FIELDS)
    also = f", and {', '.join(fields)}" if fields else ""
    receipt = "with" if _mark(config) == operation else "without"
    asks = f"it asks for {replicas_in(config)} replicas, {receipt} the receipt of this change{also}"
    return [f"Somebody else has replaced the configuration of stream {params.key} since: {asks}."]


def _well(stream: StreamFacts, copy: StreamCopy, params: ScaleParams) -> str:
    stored = stream.state.stored
    sentence = (
        f"{stream.standing.leader} leads stream {params.key}, {len(stream.standing.members)} of {params.to} members are current; {stored.messages} messages "
        f"up to {stored.last_seq} (before: {copy.numbers.messages} up to {copy.numbers.last_seq}), {len(copy.consumers)} consumers at or beyond their positions."
    )
    if fields := changed_fields(params.config, stream.state.config, OWN_FIELDS):
        sentence += f" Somebody else has meanwhile changed {', '.join(fields)}; it is left as it is."
    if others := edited(copy, stream):
        sentence += f" Somebody else has meanwhile changed consumers: {named(others)}."
    return sentence


def _held(copy: StreamCopy) -> str:
    return (
        f"{len(copy.consumers)} consumers with configuration and position, and the numbers of {len(copy.views)} members"
    )


def _scaled(config: JsonObject, replicas: int, operation: OperationId) -> JsonObject:
    """Return the configuration in which only the replicas and the receipt differ."""
    return with_receipt(config, operation) | {"num_replicas": replicas}


def _mark(config: JsonObject) -> str:
    return str(part(config, "metadata").get(RECEIPT_KEY) or "")


def _views(snapshot: Snapshot, params: ScaleParams) -> Mapping[str, StreamState]:
    return snapshot.streams(snapshot.rounds - 1).get(params.key) or {}


def _once_more(reasons: Sequence[str], interval: float) -> Again | None:
    return Again(TRENDS, 2, interval) if reasons else None


def _world(snapshot: Snapshot, stream: StreamFacts, params: ScaleParams) -> World:
    """Facts whose drift voids an approval, named by stream: a proposal may change several."""
    name = f"stream {params.key}"
    own = {key: value for key, value in fields_of(stream.state.config).items() if key not in OWN_FIELDS}
    return {
        f"{name}.created": stream.state.created,
        f"{name}.config": digest(own),
        f"{name}.replicas": replicas_in(stream.state.config),
        f"{name}.members": ", ".join(sorted(stream.standing.members)),
        "servers": ", ".join(sorted(f"{server.name} {server.version}" for server in snapshot.servers)),
    }


def _numbers(stream: StreamFacts) -> dict[str, str | int | None]:
    stored = stream.state.stored
    return {
        "replicas": replicas_in(stream.state.config),
        "leader": stream.standing.leader,
        "members current": stream.standing.current,
        "messages": stored.messages,
        "first sequence": stored.first_seq,
        "last sequence": stored.last_seq,
        "consumers": len(stream.consumers),
    }


def _seen(snapshot: Snapshot, params: ScaleParams) -> dict[str, str | int | None]:
    try:
        return _numbers(stream_facts(snapshot, params.key))
    except Refused:
        return {"leader": None, "servers that report it": len(_views(snapshot, params))}


ACTION = StreamScale()
