"""Whether a consumer delivers while messages wait, and reasons that lie with its clients. Pure functions of snapshot and thresholds."""

from __future__ import annotations

from dataclasses import dataclass

from bot.model import ConsumerKey, ConsumerState, Finding, Focus, JsonObject, Layer, Severity, Snapshot
from bot.runbook import Thresholds
from runbooks._consumer_glance import glance
from runbooks._consumer_views import count, how_long, lasts, leader_state, or_ok, subject, wanted

WAITING = "waiting_messages"
"""The threshold that says how many undelivered messages count as waiting."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """A consumer as its majority's leader reported it in the first and in the last round."""

    first: ConsumerState
    last: ConsumerState

    @property
    def moved(self) -> bool:
        """Something was delivered in between; a redelivery counts."""
        return self.first.delivered_consumer_seq != self.last.delivered_consumer_seq

    @property
    def demand(self) -> bool:
        """Someone waited for messages in both rounds."""
        return all(state.num_waiting > 0 or state.push_bound for state in (self.first, self.last))

    @property
    def full(self) -> bool:
        """max_ack_pending is used up: the server waits for acknowledgements, as it was told to. -1 and 0 are no limit."""
        limit = self.last.config.get("max_ack_pending")
        return isinstance(limit, int) and limit > 0 and self.last.num_ack_pending >= limit

    @property
    def pinned(self) -> str | None:
        """The priority group that was pinned to one and the same client in both readings."""
        before = pins(self.first)
        return next((group for group, pin in pins(self.last).items() if pin and before.get(group) == pin), None)

    def waits(self, enough: float) -> bool:
        """Messages waited in both rounds."""
        return min(self.first.num_pending, self.last.num_pending) >= enough


def pins(state: ConsumerState) -> dict[str, str]:
    """Return the pin of each priority group, empty where none is given; only the leader knows them."""
    return {one.group: one.pinned_client_id or "" for one in state.priority_states or ()}


def delivery(snapshot: Snapshot, key: ConsumerKey) -> Delivery | None:
    """Return both readings; None where the majority's leader is not known or changed in between."""
    states = [leader_state(snapshot, key, n) for n in range(snapshot.rounds)]
    first, last = (states[0], states[-1]) if states else (None, None)
    return Delivery(first, last) if first and last and first.server == last.server else None


def _waiting(snapshot: Snapshot, focus: Focus, thresholds: Thresholds) -> list[ConsumerKey]:
    """Return the consumers on which any server sees enough messages waiting in the last round, one at least: who leads is asked only for these."""
    pending = glance(snapshot, snapshot.rounds - 1).pending
    return wanted(snapshot, focus, (key for key, most in pending.items() if most >= thresholds[WAITING]))


def consumers_deliver(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:
    """Messages wait, someone asks for them, nothing speaks against it, and nothing is delivered."""
    found: list[Finding] = []
    for key in _waiting(snapshot, focus, thresholds):
        seen = delivery(snapshot, key)
        if (
            seen is None
            or not seen.waits(thresholds[WAITING])
            or not seen.demand
            or seen.full
            or seen.last.paused
            or seen.moved
            or seen.pinned is not None  # requests of others wait for the one that is pinned: CONSUMER_PIN judges it
        ):
            continue
        text = (
            f"Consumer {key} delivers nothing while {seen.last.num_pending} messages wait and {_askers(seen.last)}; it stands at "
            f"{seen.last.delivered_stream_seq}; {how_long(snapshot, always=True)}."
        )
        level = Severity.CRITICAL if lasts(snapshot, thresholds) else Severity.UNKNOWN
        found.append(_finding(snapshot, key, "CONSUMER_DELIVERS", Layer.CONSUMERS, level, text, seen))
    return or_ok(
        snapshot,
        "CONSUMER_DELIVERS",
        Layer.CONSUMERS,
        found,
        f"None of {count(snapshot, focus)} consumers was seen to hold back what is asked for.",
    )


def clients_work(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:
    """Reasons for waiting messages that lie with clients or their owner; natsmedic repairs none of them."""
    found: list[Finding] = []
    for key in _waiting(snapshot, focus, thresholds):
        seen = delivery(snapshot, key)
        if seen is None or not seen.waits(thresholds[WAITING]):
            continue
        reason = client_reason(seen)
        if reason:
            text = f"Consumer {key} has {seen.last.num_pending} messages waiting because {reason}; {how_long(snapshot, always=True)}."
            found.append(_finding(snapshot, key, "CONSUMER_CLIENTS", Layer.CLIENTS, Severity.WARNING, text, seen))
    return or_ok(
        snapshot,
        "CONSUMER_CLIENTS",
        Layer.CLIENTS,
        found,
        f"The clients of {count(snapshot, focus)} consumers are not known to hold them up.",
    )


def client_reason(seen: Delivery) -> str | None:
    """Return why the clients hold the consumer up, None where they do not."""
    if seen.last.paused:
        return "it is paused"
    if seen.full:
        return f"{seen.last.num_ack_pending} messages wait for an acknowledgement, which is its max_ack_pending: its workers do not acknowledge"
    if not seen.moved and not seen.demand and not any(s.num_waiting or s.push_bound for s in (seen.first, seen.last)):
        return "nobody asks for them"
    return None


def _askers(state: ConsumerState) -> str:
    return "a subscriber is bound" if state.push_bound else f"{state.num_waiting} pull requests wait for them"


def _finding(
    snapshot: Snapshot, key: ConsumerKey, check: str, layer: Layer, level: Severity, text: str, seen: Delivery
) -> Finding:
    evidence: JsonObject = {
        name: [getattr(state, name) for state in (seen.first, seen.last)]
        for name in (
            "num_pending",
            "num_waiting",
            "num_ack_pending",
            "delivered_stream_seq",
            "delivered_consumer_seq",
            "floor_stream_seq",
        )
    }
    return Finding(
        check=check, layer=layer, subject=subject(snapshot, key), severity=level, sentence=text, evidence=evidence
    )
