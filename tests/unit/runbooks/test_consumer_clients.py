"""Pinned clients, workers that acknowledge nothing, pauses and long ack waits: findings at their borders, and what is offered for each."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from bot.flow.examination import examine
from bot.model import Finding, Severity, Snapshot
from bot.runbook import Proposed
from runbooks.stuck_consumer import RUNBOOK
from tests.unit.runbooks.test_stuck_consumer import FOCUS, PULLING, proposed, worst
from tests.unit.snapshots import Raw, both, config, consumers, position, recorded

Change = Callable[[Raw], None]

READ = datetime.fromisoformat(
    max(
        sample.taken_at.isoformat()
        for sample in recorded("healthy_2.15.1").samples
        if sample.endpoint == "JSZ" and sample.round == 1
    )
)
"""About when the last answers came."""


def ago(seconds: float) -> str:
    return (READ - timedelta(seconds=seconds)).isoformat()


def snapshot(*changes: Change) -> Snapshot:
    return recorded("healthy_2.15.1", both(*changes))


def leader(at: int | None = None, **fields: Any) -> Change:
    """A change of the leader's view, whole or in one round; dictionaries are merged."""

    def change(raw: Raw) -> None:
        for view in consumers(raw, at=at):
            if "leader_since" in view["cluster"]:
                for name, value in fields.items():
                    view[name] = view[name] | value if isinstance(value, dict) else value

    return change


def one_look(raw: Raw) -> None:
    raw["samples"] = [s for s in raw["samples"] if s["round"] == 0]


def kinds(offered: list[Proposed]) -> list[str]:
    """The kind of change of each proposal, empty for guidance."""
    return [next((kind for kind, _ in p.draft.stages), "") for p in offered]


def offers(*changes: Change) -> list[Proposed]:
    return proposed(snapshot(*changes))


def pinned(pin: str = "one", since: float = 300, at: int | None = None) -> Change:
    groups = [{"group": "g", "pinned_client_id": pin, "pinned_ts": ago(since)}]
    return leader(at, priority_groups=groups)


POLICY = config(priority_groups=["g"], priority_policy="pinned_client", priority_timeout=120_000_000_000)
IDLE = both(POLICY, pinned(), PULLING)


# --- pinned clients -------------------------------------------------------------------------------------------------------------


def test_a_group_whose_pinned_client_asks_for_nothing_is_found_and_is_no_stuck_consumer() -> None:
    found = worst(snapshot(IDLE), "CONSUMER_PIN")
    assert found.severity is Severity.WARNING
    assert "Group g of consumer APP > ORDERS > worker is pinned to a client that asks for nothing" in found.sentence
    assert worst(snapshot(IDLE), "CONSUMER_DELIVERS").severity is Severity.OK


@pytest.mark.parametrize(
    "healthy",
    [
        pinned("another", at=1),
        position(waiting=0),
        position(pending=0),
        leader(1, delivered={"consumer_seq": 10_000}),
        config(max_ack_pending=1),
    ],
)
def test_a_pin_that_changes_or_that_nobody_waits_for_is_none_to_take_away(healthy: Change) -> None:
    assert worst(snapshot(IDLE, healthy), "CONSUMER_PIN").severity is Severity.OK


def test_a_pin_that_was_seen_once_is_not_known_to_be_idle() -> None:
    assert worst(snapshot(IDLE, one_look), "CONSUMER_PIN").severity is Severity.UNKNOWN


def silent(since: float = 31, acked: float | None = 40, again: int = 1, pending: int = 1) -> Change:
    """A client that moves on and acknowledges nothing: pinned and last acknowledged so many seconds ago. The server waits 30 s for an ack."""
    last = ago(acked) if acked is not None else None
    return both(
        POLICY,
        pinned(since=since),
        position(waiting=1, ack_pending=pending),
        leader(num_redelivered=again, ack_floor={"last_active": last}),
        leader(1, delivered={"consumer_seq": 10_000}),
    )


@pytest.mark.parametrize(
    ("change", "severity"),
    [
        (silent(), Severity.WARNING),
        (silent(acked=None), Severity.WARNING),
        (silent(since=31, acked=30.5), Severity.OK),
        (silent(since=29, acked=None), Severity.OK),
        (silent(again=0), Severity.OK),
        (silent(pending=0), Severity.OK),
        (both(silent(), config(ack_wait=60_000_000_000)), Severity.OK),
        (both(silent(), config(backoff=[1_000_000_000, 60_000_000_000])), Severity.OK),
    ],
)
def test_a_pinned_client_is_silent_once_ack_wait_is_over_and_not_before(change: Change, severity: Severity) -> None:
    assert worst(snapshot(change), "CONSUMER_PIN").severity is severity


@pytest.mark.parametrize("change", [IDLE, silent()])
def test_who_is_pinned_is_looked_at_before_the_pin_is_taken_away(change: Change) -> None:
    offered = [p for p in offers(change) if "group g" in p.draft.title.lower()]
    assert kinds(offered) == ["", "consumer.unpin"]
    look, unpin = offered
    assert look.draft.rung is not None
    assert look.draft.rung.go_on
    assert "2 minutes after its last request" in look.draft.guidance[1]
    assert unpin.draft.stages[0][1]["pin"] == "one"


# --- acknowledgements -----------------------------------------------------------------------------------------------------------


def failing(again: int = 10, repeats: int = 3, limit: int = 5, acked: bool = False) -> Change:
    """So many messages, all delivered more than once; between the readings some repeats, and an acknowledgement or none."""

    def second(raw: Raw) -> None:
        for view in consumers(raw, at=1):
            view["delivered"]["consumer_seq"] += repeats
            if acked:
                view["ack_floor"]["last_active"] = ago(1)

    return both(
        config(max_deliver=limit),
        position(ack_pending=again, waiting=1),
        leader(num_redelivered=again),
        second,
    )


@pytest.mark.parametrize(
    ("change", "severity"),
    [
        (failing(repeats=1), Severity.WARNING),
        (failing(repeats=2), Severity.WARNING),
        (failing(repeats=0), Severity.OK),
        (failing(acked=True), Severity.OK),
        (failing(again=0), Severity.OK),
        (both(failing(), one_look), Severity.UNKNOWN),
    ],
)
def test_workers_fail_where_messages_come_again_and_none_is_acknowledged(change: Change, severity: Severity) -> None:
    assert worst(snapshot(change), "CONSUMER_ACKS").severity is severity


def test_deliveries_of_new_messages_are_no_repeats() -> None:
    def new(raw: Raw) -> None:
        for view in consumers(raw, at=1):
            view["delivered"]["stream_seq"] += 3

    assert worst(snapshot(failing(repeats=3), new), "CONSUMER_ACKS").severity is Severity.OK


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (failing(again=9), [""]),
        (failing(again=10), ["", "consumer.pause"]),
        (failing(again=11), ["", "consumer.pause"]),
        (failing(limit=-1), [""]),
        (both(failing(), position(ack_pending=11)), [""]),
        (both(failing(), config(description="kept by NACK")), [""]),
    ],
)
def test_a_pause_is_offered_only_where_messages_are_about_to_be_given_up(change: Change, expected: list[str]) -> None:
    offered = [p for p in offers(change) if "acknowledge nothing" in p.draft.title or "Pause" in p.draft.title]
    assert kinds(offered) == expected


def test_a_pause_ends_an_hour_after_the_reading() -> None:
    made = snapshot(failing())
    (stage,) = [stage for p in proposed(made) for stage in p.draft.stages]
    ends = datetime.fromisoformat(str(stage[1]["until"]))
    assert ends == (made.taken_at + timedelta(hours=1)).replace(microsecond=0)


# --- pauses and long waits ------------------------------------------------------------------------------------------------------


def paused(raw: Raw) -> None:
    for view in consumers(raw):
        view["paused"] = True
        view["config"]["pause_until"] = (READ + timedelta(minutes=30)).isoformat()


def test_whoever_paused_it_is_asked_before_it_is_resumed() -> None:
    ask, resume = offers(PULLING, paused)
    assert kinds([ask, resume]) == ["", "consumer.resume"]
    assert "it goes on by itself in 30 minutes, at " in ask.draft.title
    assert ask.draft.rung is not None
    assert ask.draft.rung.go_on
    assert resume.draft.stages[0][1]["was"] == (READ + timedelta(minutes=30)).isoformat()


def test_a_pause_that_its_controller_would_repeat_is_not_ended_here() -> None:
    (ask,) = offers(PULLING, paused, config(metadata={"app.kubernetes.io/managed-by": "x"}))
    assert ask.draft.rung is None
    assert "does not offer to do more: It is owned by a controller" in ask.draft.guidance[-1]


def long_wait(left: float) -> Change:
    """Its ack budget is used up, clients ask, and the last message comes again in so many seconds."""
    return both(
        PULLING,
        config(max_ack_pending=7, ack_wait=3_600_000_000_000),
        leader(delivered={"last_active": ago(3_600 - left)}),
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (long_wait(58), [""]),
        (long_wait(1_800), ["", "consumer.reset"]),
        (both(long_wait(1_800), position(waiting=0)), [""]),
        (both(long_wait(1_800), config(max_ack_pending=8)), []),
        (both(long_wait(1_800), config(deliver_policy="new")), [""]),
    ],
)
def test_what_gone_workers_hold_is_delivered_again_only_where_waiting_is_long_and_somebody_asks(
    change: Change, expected: list[str]
) -> None:
    offered = [p for p in offers(change) if p.subject.consumer]
    assert [kind for kind in kinds(offered) if kind != "consumer.step_down"][: len(expected)] == expected


def test_a_reset_goes_right_behind_the_ack_floor() -> None:
    made = snapshot(long_wait(1_800))
    _, reset = proposed(made)
    params = reset.draft.stages[0][1]
    assert params["seq"] == params["floor"] + 1


def test_the_new_checks_say_something_of_a_healthy_consumer() -> None:
    for code in ("CONSUMER_PIN", "CONSUMER_ACKS"):
        found: Finding = worst(snapshot(), code)
        assert found.severity is Severity.OK


def test_an_unreadable_pin_is_unknown_by_its_name() -> None:
    def spoiled(raw: Raw) -> None:
        for view in consumers(raw):
            view["priority_groups"] = [{"group": "g", "pinned_client_id": 7}]

    judged = examine(snapshot(PULLING, spoiled), RUNBOOK, RUNBOOK.values(), FOCUS).findings
    assert any(f.severity is Severity.UNKNOWN and "pinned_client_id" in f.sentence for f in judged)
