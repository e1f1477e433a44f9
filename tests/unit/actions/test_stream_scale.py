"""One stage of a change of replicas against recorded servers: what is stored, sent, read back, compared and taken back."""

import json
from typing import Any, cast

import pytest

from bot.action import RECEIPT_KEY, Receipt
from bot.actions._scale_facts import ScaleParams
from bot.actions._stream_copy import StreamCopy, copy_of, keeps_everything, lost_messages, vanished, went_back
from bot.actions.stream_scale import ACTION, DOUBT, PAUSE
from bot.errors import NotYet, OutcomeUnknown, Refused, Stands, Unreadable
from bot.model import OperationId, Outcome, Snapshot, Verification
from bot.ports import Readers, Writers
from tests.unit.actions.scaling_scene import (
    SINGLE,
    Change,
    Reading,
    Writing,
    config,
    details,
    facts,
    grown,
    members,
    stage,
    state,
)
from tests.unit.snapshots import Raw

OP = OperationId("op_1")
KEPT = {"_nats.req.level": "0", RECEIPT_KEY: OP}


def copied(*changes: Change) -> StreamCopy:
    snapshot = grown(*changes)
    return copy_of("before", dict(snapshot.streams(snapshot.rounds - 1)[SINGLE]), facts(snapshot))


def compared(**fields: Any) -> ScaleParams:
    """The stage with the before-image as flow hands it back. As recorded, SINGLE has one replica, so this is a stage down that has arrived there."""
    given: dict[str, Any] = {"start": 2, "to": 1, "target": 1, "before": copied().model_dump(mode="json")} | fields
    return stage(**given)


def reading(snapshot: Snapshot, **info: Any) -> Reading:
    return Reading(snapshot, **info)


async def verified(*changes: Change, params: ScaleParams | None = None, **info: Any) -> tuple[Verification, Reading]:
    readers = reading(grown(config(metadata=KEPT), *changes), **info)
    return await ACTION.verify(cast("Readers", readers), params or compared(), OP), readers


# --- the copy -----------------------------------------------------------------------------------------------------------------------


async def test_a_check_stores_every_members_numbers_and_every_consumer_whole() -> None:
    check = await ACTION.check(cast("Readers", reading(grown())), stage())
    assert check.refusals == ()
    copy = StreamCopy.model_validate(check.before_image)
    assert copy == StreamCopy.model_validate(json.loads(json.dumps(check.before_image)))
    assert (copy.numbers.messages, copy.numbers.last_seq, copy.leader) == (40, 40, "n0")
    assert set(copy.consumers) == {"only", "paused", "alone"}
    assert copy.consumers["only"].place.delivered == 40
    assert copy.consumers["only"].config["durable_name"] == "only"
    assert check.before["messages"] == 40
    assert check.world["stream APP > SINGLE.replicas"] == 1
    assert "n0 2.11.11" in str(check.world["servers"])


@pytest.mark.parametrize(("last_seq", "lost"), [(40, False), (41, False), (39, True)])
def test_a_last_sequence_that_went_back_is_a_loss(last_seq: int, lost: bool) -> None:
    told = lost_messages(copied(), facts(grown(state(last_seq=last_seq))).state)
    assert told == ([f"Its last sequence went back from 40 to {last_seq}, its messages from 40 to 40."] if lost else [])


def test_a_first_sequence_that_went_back_is_a_loss() -> None:
    told = lost_messages(copied(state(first_seq=5)), facts(grown(state(first_seq=4))).state)
    assert told == ["Its first sequence went back from 5 to 4."]


def test_another_first_message_is_another_history_however_long_it_is() -> None:
    changed = facts(grown(state(first_ts="2026-11-27T00:00:00Z", last_seq=500, messages=500))).state
    (why,) = lost_messages(copied(), changed)
    assert why.endswith("this is another history.")


@pytest.mark.parametrize(("messages", "lost"), [(40, False), (39, True)])
def test_messages_that_no_limit_removes_may_not_get_fewer(messages: int, lost: bool) -> None:
    now = state(messages=messages, first_seq=2)
    assert bool(lost_messages(copied(), facts(grown(now)).state)) is lost
    assert lost_messages(copied(config(max_age=1)), facts(grown(config(max_age=1), now)).state) == []


@pytest.mark.parametrize(
    ("fields", "keeps"),
    [
        ({}, True),
        ({"max_msgs": -1, "max_bytes": 0, "max_age": 0}, True),
        ({"max_msgs": 1}, False),
        ({"max_bytes": 1}, False),
        ({"max_age": 1}, False),
        ({"max_msgs_per_subject": 1}, False),
        ({"retention": "interest"}, False),
        ({"retention": "workqueue"}, False),
        ({"allow_msg_ttl": True}, False),
        ({"allow_rollup_hdrs": True}, False),
        ({"mirror": {"name": "X"}}, False),
    ],
)
def test_only_a_stream_without_any_limit_keeps_everything(fields: dict[str, Any], keeps: bool) -> None:
    assert keeps_everything({"retention": "limits"} | fields) is keeps


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


def test_a_durable_that_is_not_there_any_more_has_vanished() -> None:
    assert vanished(copied(), facts(grown(without("only", "alone")))) == ["alone", "only"]
    assert vanished(copied(), facts(grown())) == []


@pytest.mark.parametrize("fields", [{"durable_name": None}, {"inactive_threshold": 5}])
def test_a_consumer_that_goes_by_itself_has_not_vanished(fields: dict[str, Any]) -> None:
    assert vanished(copied(consumer(**fields)), facts(grown(without("only")))) == []


def test_another_consumer_of_the_same_name_is_no_consolation() -> None:
    def anew(raw: Raw) -> None:
        for one in members(raw, "SINGLE", "only"):
            one["created"] = "2026-11-27T11:00:00Z"

    assert vanished(copied(), facts(grown(anew))) == ["only"]
    assert went_back(copied(), facts(grown(anew))) == {}


def placed(floor: int, delivered: int) -> Change:
    def change(raw: Raw) -> None:
        for one in members(raw, "SINGLE", "only"):
            one["ack_floor"]["stream_seq"], one["delivered"]["stream_seq"] = floor, delivered

    return change


@pytest.mark.parametrize(("floor", "delivered", "back"), [(40, 40, False), (39, 40, True), (40, 39, True)])
def test_a_position_that_went_back_is_named(floor: int, delivered: int, back: bool) -> None:
    told = went_back(copied(), facts(grown(placed(floor, delivered))))
    assert told == (
        {
            "only": f"only went back from ack floor 40, delivered 40 to ack floor {floor}, delivered {delivered}",
        }
        if back
        else {}
    )


# --- what is sent and read back -----------------------------------------------------------------------------------------------------


async def test_the_update_is_the_whole_configuration_with_two_fields_changed() -> None:
    snapshot, writers = grown(), Writing()
    await ACTION.apply(cast("Readers", reading(snapshot)), cast("Writers", writers), stage(), OP)
    before = facts(snapshot).state.config
    assert writers.sent == [before | {"num_replicas": 2, "metadata": before["metadata"] | {RECEIPT_KEY: OP}}]


async def test_what_was_sent_before_is_not_sent_again() -> None:
    writers = Writing()
    changed = grown(config(num_replicas=2, metadata=KEPT))
    await ACTION.apply(cast("Readers", reading(changed)), cast("Writers", writers), stage(), OP)
    assert writers.sent == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (config(description="new"), "edited since by somebody else: description"),
        (config(num_replicas=3), "has 3 replicas, this stage begins at 1"),
    ],
)
async def test_an_edit_between_check_and_update_refuses_it(change: Change, named: str) -> None:
    writers = Writing()
    with pytest.raises(Refused, match=named):
        await ACTION.apply(cast("Readers", reading(grown(change))), cast("Writers", writers), stage(), OP)
    assert writers.sent == []


async def test_an_edit_is_a_refusal_for_good() -> None:
    edited = await ACTION.check(cast("Readers", reading(grown(config(max_age=7)))), stage())
    assert (edited.final, edited.refusals) == (
        True,
        ("Stream APP > SINGLE was edited since by somebody else: max_age.",),
    )
    assert not (await ACTION.check(cast("Readers", reading(grown())), stage())).final


async def test_a_check_asks_the_server_what_it_has_under_way_and_who_leads() -> None:
    moving = {"leader": "n0", "desired": {"status": {"description": "waiting for peer to catch up"}}}
    check = await ACTION.check(cast("Readers", reading(grown(), cluster=moving)), stage())
    assert check.refusals == (
        "The server itself is changing the members of stream APP > SINGLE: waiting for peer to catch up.",
    )
    check = await ACTION.check(cast("Readers", reading(grown(), cluster={"leader": "n2"})), stage())
    assert check.refusals == ("n2 answers as leader of stream APP > SINGLE, its members name n0.",)


@pytest.mark.parametrize(
    ("change", "receipt"),
    [
        (config(num_replicas=2, metadata=KEPT), Receipt.APPLIED),
        (config(metadata={"_nats.req.level": "9"}), Receipt.NOT_APPLIED),
        (config(metadata={RECEIPT_KEY: "op_0"}), Receipt.NOT_APPLIED),
        (config(num_replicas=2), Receipt.FOREIGN),
        (config(max_age=1), Receipt.FOREIGN),
    ],
)
async def test_the_receipt_is_read_from_the_configuration(change: Change, receipt: Receipt) -> None:
    assert await ACTION.receipt(cast("Readers", reading(grown(change))), stage(), OP) is receipt


async def test_a_stream_that_is_gone_is_somebody_elses_doing() -> None:
    readers = reading(grown())
    readers.info = None
    assert await ACTION.receipt(cast("Readers", readers), stage(), OP) is Receipt.FOREIGN


async def test_while_nobody_leads_any_member_may_show_the_receipt_and_its_absence_says_nothing() -> None:
    readers = reading(grown(config(num_replicas=2, metadata=KEPT)))
    readers.info = Unreadable("no leader")
    assert await ACTION.receipt(cast("Readers", readers), stage(), OP) is Receipt.APPLIED
    readers = reading(grown())
    readers.info = Unreadable("no leader")
    with pytest.raises(Unreadable):
        await ACTION.receipt(cast("Readers", readers), stage(), OP)


# --- what is verified ---------------------------------------------------------------------------------------------------------------


async def test_a_stream_with_all_members_and_everything_of_the_copy_is_verified() -> None:
    seen, readers = await verified()
    assert seen.outcome is Outcome.VERIFIED, seen.sentence
    assert "40 messages up to 40 (before: 40 up to 40), 3 consumers at or beyond their positions." in seen.sentence
    assert readers.asked is None


async def test_a_loss_that_two_looks_show_is_final_and_one_look_is_not() -> None:
    seen, readers = await verified(state(last_seq=0, messages=0))
    assert (seen.outcome, seen.final) == (Outcome.FAILED, True)
    assert "went back from 40 to 0" in seen.sentence
    assert "3 consumers with configuration and position" in seen.sentence
    assert readers.asked is not None
    assert readers.asked.interval == DOUBT
    seen, _ = await verified(state(at=2, last_seq=0))
    assert (seen.outcome, seen.final) == (Outcome.FAILED, False)
    seen, _ = await verified(state(at=0, last_seq=0))
    assert seen.outcome is Outcome.VERIFIED


async def test_consumers_that_are_gone_are_counted_and_named() -> None:
    seen, _ = await verified(without("only"))
    assert "1 of 3 consumers of stream APP > SINGLE are gone: only." in seen.sentence
    assert seen.final


async def test_members_that_are_missing_are_counted_and_waited_for() -> None:
    seen, readers = await verified(config(num_replicas=2, metadata=KEPT), params=compared(start=1, to=2, target=3))
    assert (seen.outcome, seen.final) == (Outcome.FAILED, False)
    assert "no leader that 2 of 2 members agree on" in seen.sentence
    assert readers.asked is not None
    assert readers.asked.interval == PAUSE


async def test_replicas_that_are_not_those_of_the_stage_are_not_verified() -> None:
    seen, _ = await verified(params=compared(start=1, to=2, target=3))
    assert seen.sentence == "Stream APP > SINGLE has 1 replicas, not 2."


async def test_what_the_server_itself_still_does_is_waited_for() -> None:
    wanted = {"leader": "n0", "desired": {"created": "now"}}
    seen, _ = await verified(cluster=wanted)
    assert (seen.outcome, "it has just begun" in seen.sentence) == (Outcome.FAILED, True)


async def test_a_configuration_without_our_receipt_is_somebody_elses() -> None:
    seen, _ = await verified(config(metadata={"x": "y"}))
    assert seen.outcome is Outcome.FAILED
    assert "1 replicas, without the receipt of this change, and metadata.x." in seen.sentence


async def test_what_others_changed_meanwhile_is_named_and_is_no_failure() -> None:
    seen, _ = await verified(config(max_age=9, metadata=KEPT), consumer(max_deliver=7))
    assert seen.outcome is Outcome.VERIFIED
    assert "Somebody else has meanwhile changed max_age; it is left as it is." in seen.sentence
    assert "Somebody else has meanwhile changed consumers: only (max_deliver)." in seen.sentence


# --- the way back -------------------------------------------------------------------------------------------------------------------


async def undone(
    *changes: Change, params: ScaleParams | None = None, writers: Writing | None = None, **info: Any
) -> tuple[str, Writing]:
    """Take a stage back that has brought SINGLE to one replica, which is where the recording has it."""
    writers = writers or Writing()
    readers = reading(grown(config(metadata=KEPT), *changes), **info)
    found = await ACTION.rollback(cast("Readers", readers), cast("Writers", writers), params or compared(target=3), OP)
    return found, writers


async def test_a_stage_is_taken_back_once_and_then_waited_for() -> None:
    writers = Writing()
    with pytest.raises(NotYet, match="was told to have 2 replicas again"):
        await undone(writers=writers)
    (sent,) = writers.sent
    assert (sent["num_replicas"], sent["metadata"][RECEIPT_KEY]) == (2, "op_1.undone")
    told, writers = await undone(
        config(metadata={RECEIPT_KEY: "op_1.undone"}), params=compared(start=1, to=2, target=3)
    )
    assert told == "Stream APP > SINGLE has 1 replicas again, n0 leads."
    assert writers.sent == []


async def test_a_way_back_without_an_answer_is_flows_to_look_at_again() -> None:
    with pytest.raises(OutcomeUnknown):
        await undone(writers=Writing(OutcomeUnknown("no answer")))


async def test_a_stream_that_has_what_it_was_to_have_keeps_it() -> None:
    with pytest.raises(Stands, match="has its 1 replicas, all current, and keeps them"):
        await undone(params=compared(target=1))


@pytest.mark.parametrize("change", [state(last_seq=0), without("only"), placed(0, 0)])
async def test_after_a_loss_nothing_more_is_changed(change: Change) -> None:
    writers = Writing()
    with pytest.raises(Refused, match="what is left of it goes too"):
        await undone(change, writers=writers)
    assert writers.sent == []


async def test_replicas_that_somebody_else_set_are_not_taken_back() -> None:
    with pytest.raises(Refused, match="Somebody else has given stream APP > SINGLE 1 replicas; this stage set 4"):
        await undone(params=compared(to=4, target=5))


async def test_nothing_is_taken_back_while_somebody_edits() -> None:
    writers = Writing()
    seen = facts(grown(config(metadata=KEPT))).state.config
    with pytest.raises(NotYet, match="Somebody is editing stream APP > SINGLE at this moment: description"):
        await undone(writers=writers, config=seen | {"description": "theirs"})
    assert writers.sent == []


def alone(raw: Raw) -> None:
    """SINGLE on its way to two replicas: the second member never came, so nobody leads."""
    for one in details(raw):
        one["cluster"] = {"name": "lab", "leader": "", "replicas": [{"name": "n0", "current": True}]}


async def test_the_only_holder_gets_its_stream_back_where_the_second_member_never_came() -> None:
    writers = Writing()
    two = config(num_replicas=2, metadata=KEPT)
    snapshot = grown(two, alone)
    readers = cast("Readers", Bare(snapshot))
    params = compared(start=1, to=2, target=3)
    with pytest.raises(NotYet, match="was told to have 1 replicas again"):
        await ACTION.rollback(readers, cast("Writers", writers), params, OP)
    assert writers.sent[0]["num_replicas"] == 1
    for refused in (compared(start=1, to=3, target=3), params.model_copy(update={"before": _larger()})):
        with pytest.raises(Refused, match="no leader"):
            await ACTION.rollback(readers, cast("Writers", writers), refused, OP)
    assert len(writers.sent) == 1


def _larger() -> dict[str, Any]:
    """A copy in which the holder had more than it has now."""
    return copied(state(last_seq=41)).model_dump(mode="json")


class Bare:
    """Readers where nobody answers for the stream."""

    cluster = "lab"
    api_timeout = 5.0

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    async def gather(self, needs: object, *, again: object = None) -> Snapshot:
        del needs, again
        return self.snapshot

    async def stream_info(self, account: str, stream: str) -> None:
        raise Unreadable(f"nobody leads {account} {stream}")


async def test_the_preview_shows_the_one_field_and_says_what_two_replicas_mean() -> None:
    preview = await ACTION.preview(cast("Readers", object()), stage())
    changed = [line for line in preview.diff.splitlines() if line[0] in "+-" and line[1] == " "]
    assert changed == ['-  "num_replicas": 1,', '+  "num_replicas": 2,']
    assert any("stops when either server is away" in effect for effect in preview.effects)
    assert any("30 s" in effect for effect in preview.effects)
