"""Clients that hold a consumer up: one that a priority group is pinned to, and workers that take messages and acknowledge none. Pure.

Measured on 2.11.11 and 2.15.1 (CONSUMER.INFO after each): `ack_floor.last_active` is the last acknowledgement of any message, also of one above the floor;
a `+WPI` and a `-NAK` leave it. `delivered.last_active` is the last delivery or `+WPI`. `num_redelivered` counts messages that wait for an ack and were
delivered more than once. `pinned_client_id` and `pinned_ts` are known to the leader alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, cast

from bot.model import ConsumerKey, ConsumerState, Endpoint, Finding, Focus, Json, JsonObject, Layer, Severity, Snapshot
from bot.model.clients import moment_of
from bot.runbook import Threshold, Thresholds, Unit
from runbooks._audit_views import Audit
from runbooks._consumer_delivery import WAITING, Delivery, delivery, pins
from runbooks._consumer_views import how_long, lasts, subject, wanted

PIN = Audit("CONSUMER_PIN", Layer.CLIENTS)
ACKS = Audit("CONSUMER_ACKS", Layer.CLIENTS)

REDELIVERED = Threshold(
    "redelivered",
    1,
    Unit.COUNT,
    "From how many messages that are delivered again, with none acknowledged, workers fail.",
)

PINNED: Final = "pinned_client_id"
"""Only the JSON of a consumer whose group is pinned has it (2.11)."""

FAILING = Threshold(
    "failing",
    10,
    Unit.COUNT,
    "From how many messages that were all delivered again, with none acknowledged, a pause is offered before they are given up.",
)

ACK_WAIT: Final = timedelta(seconds=30)
"""How long a server waits for an ack where nothing else is said (server/consumer.go, JsAckWaitDefault)."""


class Held(StrEnum):
    """How a client holds the group that it is pinned to."""

    IDLE = "asks for nothing"
    """Requests of others and messages wait, and nothing is delivered."""
    SILENT = "acknowledges nothing"
    """It takes messages, lets their ack_wait pass, and has acknowledged none since it was pinned."""


def pins_are_worked(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:
    """No group waits for the client that it is pinned to. A pin ends by itself `priority_timeout` after that client's last request, not before."""
    found: list[Finding] = []
    keys = wanted(snapshot, focus, _pinned(snapshot)) if snapshot.mentions(PINNED) else []
    for key in keys:
        seen = delivery(snapshot, key)
        held = held_by(snapshot, seen, thresholds) if seen else None
        if seen is None or held is None:
            continue
        how, group = held
        level = Severity.WARNING if lasts(snapshot, thresholds) else Severity.UNKNOWN
        text = (
            f"Group {group} of consumer {key} is pinned to a client that {how.value}, while {seen.last.num_pending} messages and "
            f"{seen.last.num_waiting} requests wait and {seen.last.num_ack_pending} messages are not acknowledged; {how_long(snapshot, always=True)}."
        )
        timeout = seen.last.config.get("priority_timeout")
        evidence: JsonObject = {
            "group": group,
            "pin": pins(seen.last).get(group),
            "held": how.value,
            "priority_timeout": timeout,
            "num_redelivered": seen.last.num_redelivered,
        }
        found.append(PIN.finding(subject(snapshot, key), level, text, evidence))
    return PIN.result(snapshot, found, [], f"No group of {len(keys)} consumers with a pinned client waits for it.")


def held_by(snapshot: Snapshot, seen: Delivery, thresholds: Thresholds) -> tuple[Held, str] | None:
    """Return how its client holds a group in both readings, and the group; None where none is held."""
    group = seen.pinned
    if group is None or seen.last.paused or not seen.demand:
        return None
    if seen.waits(max(thresholds[WAITING], 1)) and not seen.moved and not seen.full:
        return Held.IDLE, group
    return (Held.SILENT, group) if _silent(snapshot, seen, group) else None


def _silent(snapshot: Snapshot, seen: Delivery, group: str) -> bool:
    """Nothing acknowledged since the pin, which is older than ack_wait, and some of it was delivered again, so no `+WPI` holds it either."""
    state = seen.last
    since = next((moment_of(one.pinned_ts) for one in state.priority_states or () if one.group == group), None)
    if since is None or not state.num_ack_pending or not state.num_redelivered:
        return False
    acked = moment_of(state.floor.last_active)
    return (acked is None or acked < since) and read_at(snapshot, state) - since > ack_wait(state)


def acks_come(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:
    """What is delivered again is acknowledged. Acknowledgements are told by their time: the floor stays where one message lies below them."""
    found: list[Finding] = []
    again = wanted(snapshot, focus, _redelivered(snapshot))
    for key in again:
        seen = delivery(snapshot, key)
        if seen is None or not seen.last.num_redelivered:
            continue
        repeats = redeliveries(seen)
        if snapshot.rounds > 1 and (repeats < thresholds[REDELIVERED.name] or acknowledged(seen)):
            continue
        level = Severity.WARNING if lasts(snapshot, thresholds) else Severity.UNKNOWN
        evidence: JsonObject = {
            "redeliveries": repeats,
            "num_redelivered": seen.last.num_redelivered,
            "num_ack_pending": seen.last.num_ack_pending,
            "num_pending": seen.last.num_pending,
            "max_deliver": max_deliver(seen.last),
            "last ack": seen.last.floor.last_active,
        }
        text = _unacknowledged(snapshot, key, seen, repeats)
        found.append(ACKS.finding(subject(snapshot, key), level, text, evidence))
    healthy = f"No consumer delivers messages again without an acknowledgement; {len(again)} hold some that came again."
    return ACKS.result(snapshot, found, [], healthy)


def _unacknowledged(snapshot: Snapshot, key: ConsumerKey, seen: Delivery, repeats: int) -> str:
    state, limit = seen.last, max_deliver(seen.last)
    held = f"{state.num_redelivered} of {state.num_ack_pending} that wait for an ack were delivered more than once"
    if snapshot.rounds == 1:
        return f"Of consumer {key} {held}; one reading can't tell whether any is acknowledged."
    after = f"each is given up after {limit} deliveries" if limit else "they come again for ever"
    return (
        f"Consumer {key} delivered {repeats} messages again and none was acknowledged; {held}, and {after}; "
        f"{how_long(snapshot, always=True)}."
    )


def redeliveries(seen: Delivery) -> int:
    """Return how many deliveries between the readings were repeats, at least: new ones move the stream's sequence by one or more."""
    deliveries = seen.last.delivered_consumer_seq - seen.first.delivered_consumer_seq
    return max(deliveries - (seen.last.delivered_stream_seq - seen.first.delivered_stream_seq), 0)


def acknowledged(seen: Delivery) -> bool:
    """Whether any message was acknowledged between the readings."""
    return (seen.first.floor, seen.first.floor.last_active) != (seen.last.floor, seen.last.floor.last_active)


def max_deliver(state: ConsumerState) -> int | None:
    """Return after how many deliveries a message is given up; None for never (-1 and 0)."""
    limit = state.config.get("max_deliver")
    return limit if isinstance(limit, int) and limit > 0 else None


def ack_wait(state: ConsumerState) -> timedelta:
    """Return how long an ack is waited for at most: `ack_wait`, or the longest step of `backoff`, which stands in its place."""
    config = state.config
    steps = cast("list[Json]", config.get("backoff") or []) if isinstance(config.get("backoff"), list) else []
    known = [wait for wait in (config.get("ack_wait"), *steps) if isinstance(wait, int) and wait > 0]
    return timedelta(microseconds=max(known) / 1_000) if known else ACK_WAIT


def comes_again_in(snapshot: Snapshot, seen: Delivery) -> timedelta | None:
    """Return when the last message that was delivered, or worked on, comes again at the latest; None where that is not known."""
    at = moment_of(seen.last.delivered.last_active)
    return None if at is None else at + ack_wait(seen.last) - read_at(snapshot, seen.last)


def _pinned(snapshot: Snapshot) -> Iterable[ConsumerKey]:
    """The consumers of which any server knows a pin in the last round."""
    for key, views in snapshot.consumers(snapshot.rounds - 1).items():
        if any(pin for view in views.values() for pin in pins(view).values()):
            yield key


def _redelivered(snapshot: Snapshot) -> frozenset[ConsumerKey]:
    """The consumers that hold messages which were delivered more than once, as any server says in the last round; one pass over all."""

    def look() -> frozenset[ConsumerKey]:
        return frozenset(
            ConsumerKey(*key, consumer.name)
            for key, holders in snapshot.streams(snapshot.rounds - 1).items()
            for stream in holders.values()
            for consumer in stream.consumers
            if consumer.num_redelivered
        )

    return snapshot.once("redelivered", look)


def read_at(snapshot: Snapshot, state: ConsumerState) -> datetime:
    """When the server was read that told this state."""
    sample = snapshot.sample(state.server, Endpoint.JSZ, snapshot.rounds - 1)
    return sample.taken_at if sample else snapshot.taken_at
