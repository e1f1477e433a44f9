"""The copy of a stream's numbers and of its consumers that is stored before a change, and what of it reality no longer shows. Pure.

A stream group that began a new history looks healthy on every server, and consumers that a sick server made disappear are simply not there: only numbers
from before tell (reference/drills.md 3.2, 3.2b and 3.5). So the copy holds every member's own view, and whose view counts.
"""

from __future__ import annotations

from typing import Final

from bot.actions._facts import StreamFacts, consumer_in
from bot.model import ConsumerState, Json, JsonObject, Record, StreamState
from bot.model.groups import without_server_metadata

MOST_NAMED: Final = 5
"""Consumers that one sentence names; the copy has them all."""


class StreamNumbers(Record):
    """What one server holds of a stream."""

    messages: int
    bytes: int
    first_seq: int
    last_seq: int
    first_ts: str

    @classmethod
    def of(cls, state: StreamState) -> StreamNumbers:
        """Return the numbers of one server's view."""
        stored = state.stored
        return cls(
            messages=stored.messages,
            bytes=stored.bytes,
            first_seq=stored.first_seq,
            last_seq=stored.last_seq,
            first_ts=stored.first_ts,
        )


class Place(Record):
    """Where one server says that a consumer stands; stream sequences, where nothing else is said."""

    floor: int
    delivered: int
    delivered_consumer: int
    """Consumer sequence; 0 before anything is delivered."""
    ack_pending: int
    pending: int

    @classmethod
    def of(cls, state: ConsumerState) -> Place:
        """Return the numbers of one server's view."""
        return cls(
            floor=state.floor_stream_seq,
            delivered=state.delivered_stream_seq,
            delivered_consumer=state.delivered_consumer_seq,
            ack_pending=state.num_ack_pending,
            pending=state.num_pending,
        )


class ConsumerCopy(Record):
    """One consumer, whole. `leader` is the server that a majority of its members names, whose view is its position."""

    created: str
    config: JsonObject
    leader: str
    views: dict[str, Place]

    @property
    def place(self) -> Place:
        """The position."""
        return self.views[self.leader]

    @property
    def lasting(self) -> bool:
        """False for one that goes away by itself: an ephemeral, or one that nobody uses for a while."""
        return bool(self.config.get("durable_name")) and not self.config.get("inactive_threshold")


class StreamCopy(Record):
    """One stream with all its consumers, as its members reported them at `taken_at`."""

    taken_at: str
    created: str
    config: JsonObject
    leader: str
    views: dict[str, StreamNumbers]
    consumers: dict[str, ConsumerCopy]
    undecided: tuple[str, ...] = ()
    """Consumers without a leader that their members agree on: they have no position that could be kept."""

    @property
    def numbers(self) -> StreamNumbers:
        """What the leader held."""
        return self.views[self.leader]


def copy_of(taken_at: str, views: dict[str, StreamState], stream: StreamFacts) -> StreamCopy:
    """Return the copy of a stream whose members agree on a leader. `views` is the stream as each server sees it."""
    consumers: dict[str, ConsumerCopy] = {}
    undecided: list[str] = []
    for name, seen in sorted(stream.consumers.items()):
        found = consumer_in(stream, name)
        if found is None or found.leader is None:
            undecided.append(name)
            continue
        state = seen[found.leader]
        consumers[name] = ConsumerCopy(
            created=state.created,
            config=state.config,
            leader=found.leader,
            views={server: Place.of(view) for server, view in sorted(seen.items())},
        )
    return StreamCopy(
        taken_at=taken_at,
        created=stream.state.created,
        config=stream.state.config,
        leader=stream.standing.leader or "",
        views={server: StreamNumbers.of(view) for server, view in sorted(views.items())},
        consumers=consumers,
        undecided=tuple(undecided),
    )


def lost_messages(copy: StreamCopy, state: StreamState) -> list[str]:
    """Say what the leader no longer has of what was there. Empty where messages went only as the stream's own limits let them go."""
    was, now = copy.numbers, StreamNumbers.of(state)
    if state.created != copy.created:
        return [f"It was created {state.created}, not {copy.created}: it is another stream."]
    if now.last_seq < was.last_seq:
        return [
            f"Its last sequence went back from {was.last_seq} to {now.last_seq}, its messages from {was.messages} to {now.messages}."
        ]
    if now.first_seq < was.first_seq and was.messages:
        return [f"Its first sequence went back from {was.first_seq} to {now.first_seq}."]
    if was.messages and now.messages and now.first_seq == was.first_seq and now.first_ts != was.first_ts:
        return [f"Message {was.first_seq} is of {now.first_ts}, it was of {was.first_ts}: this is another history."]
    if keeps_everything(copy.config) and now.messages < was.messages:
        return [f"It has {now.messages} messages, it had {was.messages}, and no limit of it removes any."]
    return []


def keeps_everything(config: JsonObject) -> bool:
    """True where nothing but a purge or a delete removes messages."""
    limited = any(_positive(config.get(key)) for key in ("max_msgs", "max_bytes", "max_age", "max_msgs_per_subject"))
    rolled = (
        config.get("allow_rollup_hdrs") or config.get("allow_msg_ttl") or config.get("mirror") or config.get("sources")
    )
    return (config.get("retention") or "limits") == "limits" and not limited and not rolled


def vanished(copy: StreamCopy, stream: StreamFacts) -> list[str]:
    """Return the names of the lasting consumers that no member reports any more, or that are others of the same name."""
    return [
        name
        for name, was in copy.consumers.items()
        if was.lasting and was.created not in {view.created for view in (stream.consumers.get(name) or {}).values()}
    ]


def went_back(copy: StreamCopy, stream: StreamFacts) -> dict[str, str]:
    """Return the consumers whose leader stands before the position that was stored, each with a clause that says so."""
    told: dict[str, str] = {}
    for name, was in copy.consumers.items():
        found = consumer_in(stream, name)
        if (
            found is None
            or found.leader is None
            or (state := stream.consumers[name][found.leader]).created != was.created
        ):
            continue
        now = Place.of(state)
        if now.floor < was.place.floor or now.delivered < was.place.delivered:
            told[name] = (
                f"{name} went back from ack floor {was.place.floor}, delivered {was.place.delivered} to "
                f"ack floor {now.floor}, delivered {now.delivered}"
            )
    return told


def edited(copy: StreamCopy, stream: StreamFacts) -> list[str]:
    """Return the consumers whose configuration reads otherwise than before, each with its changed fields."""
    told: list[str] = []
    for name, was in copy.consumers.items():
        state = next(iter((stream.consumers.get(name) or {}).values()), None)
        if state and state.created == was.created and (fields := changed_fields(was.config, state.config)):
            told.append(f"{name} ({', '.join(fields)})")
    return told


def changed_fields(before: JsonObject, after: JsonObject, ignored: frozenset[str] = frozenset()) -> list[str]:
    """Name every field that reads differently."""
    old, new = fields_of(before), fields_of(after)
    return sorted(key for key in {*old, *new} - ignored if old.get(key) != new.get(key))


def named(names: list[str]) -> str:
    """Return the first few, and how many more there are."""
    rest = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")


def fields_of(config: JsonObject) -> JsonObject:
    """Return the fields that say something, flat, the keys of `metadata` among them. What the server itself writes into it does not count."""
    plain = without_server_metadata(config)
    metadata: JsonObject = plain.pop("metadata", None) or {}
    flat: JsonObject = {f"metadata.{key}": value for key, value in metadata.items()}
    return flat | {key: value for key, value in plain.items() if value not in (None, "", [], {})}


def _positive(value: Json) -> bool:
    return isinstance(value, int) and value > 0
