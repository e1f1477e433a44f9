"""A recorded cluster with a stream of one replica (SINGLE, consumers a durable `worker` and others) and one of three (ORDERS), old enough to be scaled."""

from collections.abc import Callable
from typing import Any

from bot.actions._facts import StreamFacts, stream_facts
from bot.actions._scale_facts import ScaleParams
from bot.actions._stream_copy import StreamCopy, copy_of
from bot.actions.stream_scaling import Times, compose_scaling
from bot.errors import OutcomeUnknown, Unreadable
from bot.model import Again, Endpoint, JsonObject, Snapshot, StreamKey
from tests.unit.snapshots import Raw, answers, both, recorded

Change = Callable[[Raw], None]

SINGLE, ORDERS = StreamKey("APP", "SINGLE"), StreamKey("APP", "ORDERS")
LATER = "2026-11-27T12:00:00Z"
"""When every server answered: hours after its start."""
TIMES = Times(at_two=30.0, elsewhere=300.0, trial=False)


def details(raw: Raw, name: str = "SINGLE", server: str | None = None, at: int | None = None) -> list[Raw]:
    """Every server's raw view of a stream."""
    accounts = [a for jsz in answers(raw, "JSZ", server, at) for a in jsz.get("account_details") or []]
    return [s for account in accounts for s in account.get("stream_detail") or [] if s["name"] == name]


def members(raw: Raw, stream: str, consumer: str, server: str | None = None, at: int | None = None) -> list[Raw]:
    """Every server's raw view of a consumer."""
    return [
        c for s in details(raw, stream, server, at) for c in s.get("consumer_detail") or [] if c["name"] == consumer
    ]


def old(raw: Raw) -> None:
    """Let every server answer long after its start."""
    for endpoint in ("VARZ", "JSZ"):
        for answer in answers(raw, endpoint):
            answer["now"] = LATER


def grown(*changes: Change, name: str = "kinds_2.11.11") -> Snapshot:
    """The recording, old enough, varied."""
    return recorded(name, both(old, *changes))


def config(stream: str = "SINGLE", **fields: Any) -> Change:
    """A change of the stream's configuration; None removes a field."""

    def change(raw: Raw) -> None:
        for one in details(raw, stream):
            one["config"] = {k: v for k, v in (one["config"] | fields).items() if v is not None}

    return change


def state(stream: str = "SINGLE", at: int | None = None, **fields: Any) -> Change:
    """A change of what the servers say that they hold of the stream."""

    def change(raw: Raw) -> None:
        for one in details(raw, stream, at=at):
            one["state"] |= fields

    return change


def everywhere(endpoint: str, server: str | None = None, **fields: Any) -> Change:
    """A change of fields of an answer."""

    def change(raw: Raw) -> None:
        for answer in answers(raw, endpoint, server):
            answer.update(fields)

    return change


def facts(snapshot: Snapshot, key: StreamKey = SINGLE) -> StreamFacts:
    return stream_facts(snapshot, key)


def without(*names: str, at: int | None = None) -> Change:
    def change(raw: Raw) -> None:
        for one in details(raw, at=at):
            one["consumer_detail"] = [c for c in one["consumer_detail"] if c["name"] not in names]

    return change


def consumer(**fields: Any) -> Change:
    """A change of the configuration of `only`."""

    def change(raw: Raw) -> None:
        for one in members(raw, "SINGLE", "only"):
            one["config"] = {k: v for k, v in (one["config"] | fields).items() if v is not None}

    return change


def placed(floor: int, delivered: int) -> Change:
    def change(raw: Raw) -> None:
        for one in members(raw, "SINGLE", "only"):
            one["ack_floor"]["stream_seq"], one["delivered"]["stream_seq"] = floor, delivered

    return change


def copied(*changes: Change) -> StreamCopy:
    snapshot = grown(*changes)
    return copy_of("before", dict(snapshot.streams(snapshot.rounds - 1)[SINGLE]), facts(snapshot))


def stage(snapshot: Snapshot | None = None, index: int = 0, **fields: Any) -> ScaleParams:
    """One stage as it is composed for SINGLE."""
    _, raw = compose_scaling(snapshot or grown(), [SINGLE], 3, TIMES).stages[index]
    return ScaleParams.model_validate(raw | fields)


class Reading:
    """Readers of one recorded cluster. `info` is what STREAM.INFO answers, None for *no such stream*, an error where nobody answers."""

    cluster = "lab"
    api_timeout = 5.0

    def __init__(self, snapshot: Snapshot, key: StreamKey = SINGLE, **info: Any) -> None:
        self.snapshot = snapshot
        self.asked: Again | None = None
        self.info: JsonObject | Unreadable | None
        view = next(iter(snapshot.streams(snapshot.rounds - 1)[key].values()))
        leader = view.group.leader if view.group else ""
        self.info = {"created": view.created, "config": view.config, "cluster": {"leader": leader}} | info

    async def gather(
        self, needs: frozenset[Endpoint], *, again: Callable[[Snapshot], Again | None] | None = None
    ) -> Snapshot:
        del needs
        self.asked = again(self.snapshot) if again else None
        return self.snapshot

    async def stream_info(self, account: str, stream: str) -> JsonObject | None:
        del account, stream
        if isinstance(self.info, Unreadable):
            raise self.info
        return self.info


class Writing:
    """Writers that keep what they were told."""

    def __init__(self, error: OutcomeUnknown | None = None) -> None:
        self.sent: list[JsonObject] = []
        self.error = error

    async def update_stream(self, account: str, stream: str, config: JsonObject) -> JsonObject:
        del account, stream
        self.sent.append(config)
        if self.error:
            raise self.error
        return {}
