"""Reset, pause, resume and unpin: every refusal at its border, and what counts as proof. On recorded answers, varied by hand."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bot.action import Receipt
from bot.actions import consumer_pause, consumer_reset, consumer_resume, consumer_unpin
from bot.actions._facts import consumer_facts
from bot.actions.consumer_pause import MOST, marked
from bot.errors import Refused
from bot.model import ConsumerKey, OperationId, Outcome, Snapshot
from tests.unit.actions.snapshot_readers import Shows
from tests.unit.snapshots import Raw, both, config, consumers, position, recorded, retention, streams

Change = Callable[[Raw], None]
KEY = ConsumerKey("APP", "ORDERS", "worker")
OPERATION = OperationId("op_1")
RESET, PAUSE, RESUME, UNPIN = (m.ACTION for m in (consumer_reset, consumer_pause, consumer_resume, consumer_unpin))


def snapshot(*changes: Change) -> Snapshot:
    return recorded("healthy_2.15.1", both(*changes))


BEFORE = snapshot()
FACTS = consumer_facts(BEFORE, KEY)
FLOOR, DELIVERED, COUNT = (
    FACTS.state.floor_stream_seq,
    FACTS.state.delivered_stream_seq,
    FACTS.state.delivered_consumer_seq,
)
TO_FLOOR = consumer_reset.reset_stage(FACTS)
NOW = BEFORE.taken_at.replace(microsecond=0)
UNTIL = consumer_pause.pause_stage(FACTS, NOW + timedelta(hours=1))
MARK = marked(UNTIL.until, OPERATION)


def consumer(**fields: Any) -> Change:
    """A change of fields of every view of the consumer."""

    def change(raw: Raw) -> None:
        for view in consumers(raw):
            view.update(fields)

    return change


def running(version: str, server: int = 0) -> Change:
    """One server runs another version."""

    def change(raw: Raw) -> None:
        raw["servers"][server]["version"] = version

    return change


def paused(until: str) -> Change:
    return both(consumer(paused=True), config(pause_until=until))


def pinned(pin: str | None, **fields: Any) -> Change:
    groups = [{"group": "g"} | ({"pinned_client_id": pin} if pin else {})]
    return both(
        consumer(priority_groups=groups, **fields), config(priority_groups=["g"], priority_policy="pinned_client")
    )


async def refusals(action: Any, params: Any, *changes: Change) -> str:
    return " ".join((await action.check(Shows(snapshot(*changes)), params)).refusals)


def anew(raw: Raw) -> None:
    for view in (*streams(raw), *consumers(raw)):
        view["created"] = "2030-01-01T00:00:00Z"


PIN = consumer_unpin.unpin_stage(consumer_facts(snapshot(pinned("one")), KEY), "g")
LASTS = "2030-01-01T00:00:00.5Z"
RESUMED = consumer_resume.resume_stage(consumer_facts(snapshot(paused(LASTS)), KEY))
EACH = pytest.mark.parametrize(
    ("action", "params", "changes", "oldest", "older"),
    [
        (RESET, TO_FLOOR, (), "2.14.0", "2.12.8"),
        (PAUSE, UNTIL, (), "2.11.0", "2.10.29"),
        (RESUME, RESUMED, (paused(LASTS),), "2.11.0", "2.10.29"),
        (UNPIN, PIN, (pinned("one"),), "2.11.0", "2.10.29"),
    ],
)


@EACH
async def test_every_server_must_know_the_request(
    action: Any, params: Any, changes: tuple[Change, ...], oldest: str, older: str
) -> None:
    assert await refusals(action, params, *changes) == ""
    assert await refusals(action, params, *changes, running(oldest)) == ""
    assert f"n0 {older}" in await refusals(action, params, *changes, running(older))
    assert "an unknown version" in await refusals(action, params, *changes, running(""))


@EACH
async def test_a_consumer_that_was_made_anew_is_somebody_elses(
    action: Any, params: Any, changes: tuple[Change, ...], oldest: str, older: str
) -> None:
    del oldest, older
    assert "it is another" in await refusals(action, params, *changes, anew)
    assert await action.receipt(Shows(snapshot(*changes, anew)), params, OPERATION) is Receipt.FOREIGN
    seen = await action.verify(Shows(snapshot(*changes, anew)), params, OPERATION)
    assert (seen.outcome, seen.final) == (Outcome.FAILED, True)


@EACH
async def test_a_consumer_without_a_leader_proves_nothing(
    action: Any, params: Any, changes: tuple[Change, ...], oldest: str, older: str
) -> None:
    del oldest, older

    def leaderless(raw: Raw) -> None:
        for view in consumers(raw):
            view["cluster"]["leader"] = ""

    assert "no leader" in await refusals(action, params, *changes, leaderless)
    assert await action.receipt(Shows(snapshot(*changes, leaderless)), params, OPERATION) is Receipt.UNREADABLE


# --- reset ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seq", "why"),
    [
        (FLOOR + 1, ""),
        (1, ""),
        (0, "is no message"),
        (FLOOR + 2, f"Messages {FLOOR + 1} to {FLOOR + 1} may never have been processed"),
    ],
)
async def test_a_reset_goes_back_and_never_skips(seq: int, why: str) -> None:
    found = await refusals(RESET, consumer_reset.reset_stage(FACTS, seq))
    assert why in found
    assert bool(found) == bool(why)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (config(deliver_policy="by_start_sequence", opt_start_seq=FLOOR + 1), ""),
        (config(deliver_policy="by_start_time", opt_start_time="2026-01-01T00:00:00Z"), ""),
        (retention("workqueue"), ""),
        (config(deliver_policy="by_start_sequence", opt_start_seq=FLOOR + 2), "it can't be reset to"),
        (config(deliver_policy="new"), "which can't be reset"),
        (config(deliver_policy="last_per_subject"), "which can't be reset"),
        (config(ack_policy="none"), "keeps no acknowledgements"),
        (config(ack_policy="flow_control"), "keeps no acknowledgements"),
        (config(direct=True), "feeds a mirror"),
        (position(delivered_consumer=0), "nothing to begin again"),
    ],
)
async def test_only_what_the_server_resets_is_reset(change: Change, why: str) -> None:
    found = await refusals(RESET, consumer_reset.reset_stage(consumer_facts(snapshot(change), KEY)), change)
    assert why in found
    assert bool(found) == bool(why)


@pytest.mark.parametrize(
    "change", [position(floor=FLOOR + 1), position(delivered=DELIVERED + 1), position(ack_pending=6)]
)
async def test_a_consumer_that_moves_is_not_reset(change: Change) -> None:
    assert "has moved" in await refusals(RESET, TO_FLOOR, change)


def after(floor: int, delivered: int, count: int, pending: int = 0) -> Change:
    return position(floor=floor, delivered=delivered, delivered_consumer=count, ack_pending=pending)


@pytest.mark.parametrize(
    ("changes", "receipt", "outcome"),
    [
        ((), Receipt.NOT_APPLIED, Outcome.FAILED),
        ((after(FLOOR, FLOOR, 0),), Receipt.APPLIED, Outcome.VERIFIED),
        ((after(FLOOR, DELIVERED, COUNT - 1),), Receipt.APPLIED, Outcome.VERIFIED),
        # It goes on after a reset: one new message is one delivery at least, and here they are fewer.
        ((after(FLOOR, DELIVERED + 60, COUNT + 50),), Receipt.APPLIED, Outcome.VERIFIED),
        ((after(FLOOR, DELIVERED + 50, COUNT + 50),), Receipt.UNREADABLE, Outcome.CANNOT_TELL),
        (
            (after(FLOOR, DELIVERED + 60, COUNT + 50), config(filter_subject="ORDERS.new")),
            Receipt.UNREADABLE,
            Outcome.CANNOT_TELL,
        ),
    ],
)
async def test_a_count_of_deliveries_that_went_back_is_the_proof(
    changes: tuple[Change, ...], receipt: Receipt, outcome: Outcome
) -> None:
    seen = snapshot(*changes)
    assert await RESET.receipt(Shows(seen), TO_FLOOR, OPERATION) is receipt
    assert (await RESET.verify(Shows(seen), TO_FLOOR, OPERATION)).outcome is outcome


async def test_a_reset_predicts_what_is_delivered_again() -> None:
    shown = await RESET.preview(Shows(BEFORE), consumer_reset.reset_stage(FACTS, 1))
    acked = DELIVERED - FACTS.state.num_ack_pending
    assert f"At most {DELIVERED} messages are delivered again" in shown.effects[0]
    assert f"at most {acked} of them were acknowledged" in shown.effects[0]
    with pytest.raises(Refused):
        await RESET.rollback(Shows(), None, TO_FLOOR, OPERATION)  # pyright: ignore[reportArgumentType]


# --- pause and resume -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ahead", "why"),
    [
        (timedelta(seconds=1), ""),
        (MOST, ""),
        (timedelta(), "is over"),
        (MOST + timedelta(seconds=2), "more than 7 days away"),
    ],
)
async def test_a_pause_ends_ahead_and_within_a_week(ahead: timedelta, why: str) -> None:
    found = await refusals(PAUSE, consumer_pause.pause_stage(FACTS, NOW + ahead))
    assert why in found
    assert bool(found) == bool(why)


async def test_what_somebody_paused_or_owns_is_left_alone() -> None:
    assert "paused already, until 2030" in await refusals(PAUSE, UNTIL, paused(LASTS))
    owned = config(metadata={"app.kubernetes.io/managed-by": "x"})
    assert "owned by a controller" in await refusals(PAUSE, UNTIL, owned)
    assert "owned by a controller" in await refusals(RESUME, RESUMED, paused(LASTS), owned)


@pytest.mark.parametrize(
    ("changes", "receipt", "outcome"),
    [
        ((), Receipt.NOT_APPLIED, Outcome.FAILED),
        ((paused(MARK),), Receipt.APPLIED, Outcome.VERIFIED),
        ((config(pause_until=MARK),), Receipt.APPLIED, Outcome.FAILED),
        ((paused(marked(UNTIL.until, OperationId("op_2"))),), Receipt.FOREIGN, Outcome.FAILED),
    ],
)
async def test_the_nanoseconds_of_a_pause_are_the_operations_own(
    changes: tuple[Change, ...], receipt: Receipt, outcome: Outcome
) -> None:
    seen = snapshot(*changes)
    assert await PAUSE.receipt(Shows(seen), UNTIL, OPERATION) is receipt
    assert (await PAUSE.verify(Shows(seen), UNTIL, OPERATION)).outcome is outcome


def test_a_mark_is_a_moment_of_that_second_and_never_ends_in_zero() -> None:
    marks = [marked("2026-01-01T00:00:00Z", OperationId(f"op_{n}")) for n in range(200)]
    assert len(set(marks)) == 200
    assert all(len(mark) == len("2026-01-01T00:00:00.123456789Z") and mark[-2] != "0" for mark in marks)
    assert datetime.fromisoformat(marks[0]).replace(microsecond=0) == datetime(2026, 1, 1, tzinfo=UTC)


class Pauses:
    """Writers that remember what they were asked."""

    def __init__(self) -> None:
        self.until: list[str] = []

    async def pause_consumer(self, account: str, stream: str, consumer: str, until: str = "") -> Raw:
        del account, stream, consumer
        self.until.append(until)
        return {}


async def test_only_a_pause_of_ones_own_is_undone() -> None:
    writers: Any = Pauses()
    assert "resumed" in await PAUSE.rollback(Shows(snapshot(paused(MARK))), writers, UNTIL, OPERATION)
    assert "not paused" in await PAUSE.rollback(Shows(BEFORE), writers, UNTIL, OPERATION)
    with pytest.raises(Refused, match="somebody else"):
        await PAUSE.rollback(Shows(snapshot(paused(LASTS))), writers, UNTIL, OPERATION)
    assert writers.until == [""]


@pytest.mark.parametrize(
    ("changes", "receipt", "outcome"),
    [
        ((paused(LASTS),), Receipt.NOT_APPLIED, Outcome.FAILED),
        ((), Receipt.APPLIED, Outcome.VERIFIED),
        ((paused("2031-01-01T00:00:00Z"),), Receipt.FOREIGN, Outcome.FAILED),
    ],
)
async def test_a_pause_that_is_gone_is_the_receipt_of_its_end(
    changes: tuple[Change, ...], receipt: Receipt, outcome: Outcome
) -> None:
    seen = snapshot(*changes)
    assert await RESUME.receipt(Shows(seen), RESUMED, OPERATION) is receipt
    assert (await RESUME.verify(Shows(seen), RESUMED, OPERATION)).outcome is outcome


async def test_a_resumed_consumer_is_paused_again_where_its_end_is_still_ahead() -> None:
    writers: Any = Pauses()
    assert LASTS in await RESUME.rollback(Shows(BEFORE), writers, RESUMED, OPERATION)
    assert "as before" in await RESUME.rollback(Shows(snapshot(paused(LASTS))), writers, RESUMED, OPERATION)
    over = RESUMED.model_copy(update={"was": "2020-01-01T00:00:00Z"})
    with pytest.raises(Refused, match="would be over"):
        await RESUME.rollback(Shows(BEFORE), writers, over, OPERATION)
    assert writers.until == [LASTS]
    assert "not paused until" in await refusals(RESUME, RESUMED)


# --- unpin ----------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "why"),
    [(pinned("two"), "pinned by two"), (pinned(None), "is not pinned"), (consumer(), "no priority group g")],
)
async def test_only_the_pin_that_was_seen_is_taken_away(change: Change, why: str) -> None:
    assert why in await refusals(UNPIN, PIN, change)
    assert "not pinned; the pin of nobody" in await refusals(UNPIN, PIN.model_copy(update={"pin": ""}), pinned(None))


@pytest.mark.parametrize(
    ("change", "receipt", "outcome"),
    [
        (pinned("one"), Receipt.NOT_APPLIED, Outcome.FAILED),
        (pinned("two"), Receipt.APPLIED, Outcome.VERIFIED),
        (pinned(None, num_pending=0, num_waiting=1), Receipt.APPLIED, Outcome.VERIFIED),
        (pinned(None, num_pending=1, num_waiting=0), Receipt.APPLIED, Outcome.VERIFIED),
        (pinned(None, num_pending=1, num_waiting=1), Receipt.APPLIED, Outcome.FAILED),
    ],
)
async def test_an_unpinned_group_must_go_to_whoever_waits(change: Change, receipt: Receipt, outcome: Outcome) -> None:
    seen = snapshot(change)
    assert await UNPIN.receipt(Shows(seen), PIN, OPERATION) is receipt
    assert (await UNPIN.verify(Shows(seen), PIN, OPERATION)).outcome is outcome
    with pytest.raises(Refused):
        await UNPIN.rollback(Shows(), None, PIN, OPERATION)  # pyright: ignore[reportArgumentType]
