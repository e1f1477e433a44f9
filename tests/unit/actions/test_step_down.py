"""When a leader may step down, and whom for; what counts as an election. On recorded answers, varied by hand."""

from collections.abc import Callable
from typing import Any

import pytest

from bot.action import Receipt
from bot.actions import consumer_step_down, meta_step_down, stream_step_down
from bot.actions._elections import MOST_LAG
from bot.actions._facts import consumer_facts, stream_facts
from bot.errors import Refused
from bot.model import ConsumerKey, OperationId, Outcome, Snapshot, StreamKey
from tests.unit.actions.snapshot_readers import Shows
from tests.unit.snapshots import Raw, answers, both, consumers, recorded, streams

Change = Callable[[Raw], None]
HEALTHY = "healthy_2.15.1"
KEY = ConsumerKey("APP", "ORDERS", "worker")
STREAM = StreamKey("APP", "ORDERS")
OPERATION = OperationId("op_1")
CONSUMER, GROUP, META = consumer_step_down.ACTION, stream_step_down.ACTION, meta_step_down.ACTION


def snapshot(*changes: Change) -> Snapshot:
    return recorded(HEALTHY, both(*changes))


BEFORE = snapshot()
CONSUMER_PARAMS = consumer_step_down.step_down_stage(BEFORE, consumer_facts(BEFORE, KEY))
STREAM_PARAMS = stream_step_down.step_down_stage(BEFORE, stream_facts(BEFORE, STREAM))
META_PARAMS = meta_step_down.step_down_stage(BEFORE)
KINDS = pytest.mark.parametrize(
    ("action", "params"), [(CONSUMER, CONSUMER_PARAMS), (GROUP, STREAM_PARAMS), (META, META_PARAMS)]
)
ASSETS = pytest.mark.parametrize(("action", "params"), [(CONSUMER, CONSUMER_PARAMS), (GROUP, STREAM_PARAMS)])


def clusters(raw: Raw) -> list[Raw]:
    """The Raft group of ORDERS, of its consumer and of the meta group, as every server sees them."""
    metas = [jsz["meta_cluster"] for jsz in answers(raw, "JSZ")]
    return [thing["cluster"] for thing in (*streams(raw), *consumers(raw))] + metas


def peers(count: int, **fields: Any) -> Change:
    """A change of the first `count` followers of each group, in order of their names."""

    def change(raw: Raw) -> None:
        for cluster in clusters(raw):
            for peer in sorted(cluster.get("replicas") or [], key=lambda p: p["name"])[:count]:
                peer.update(fields)

    return change


def led_by_another(raw: Raw) -> None:
    """All members name the first follower as leader, in every group."""
    for cluster in clusters(raw):
        old = cluster["leader"]
        new = min({"n0", "n1", "n2"} - {old})
        cluster["leader"] = new
        cluster["replicas"] = [
            {"name": name, "current": True, "active": 1} for name in sorted({"n0", "n1", "n2"} - {new})
        ]


def terms(up: int) -> Change:
    def change(raw: Raw) -> None:
        for raftz in answers(raw, "RAFTZ"):
            for groups in raftz.values():
                for group in groups.values():
                    group["term"] += up

    return change


def without_raftz(raw: Raw) -> None:
    raw["samples"] = [sample for sample in raw["samples"] if sample["endpoint"] != "RAFTZ"]


def running(version: str) -> Change:
    def change(raw: Raw) -> None:
        for server in raw["servers"]:
            server["version"] = version

    return change


async def refusals(action: Any, params: Any, *changes: Change) -> str:
    return " ".join((await action.check(Shows(snapshot(*changes)), params)).refusals)


@KINDS
async def test_the_leader_of_a_whole_group_may_step_down(action: Any, params: Any) -> None:
    assert await refusals(action, params) == ""


@ASSETS
async def test_followers_may_lag_by_what_a_busy_group_always_lags_by_and_no_more(action: Any, params: Any) -> None:
    assert await refusals(action, params, peers(1, lag=MOST_LAG - 1)) == ""
    assert await refusals(action, params, peers(1, lag=MOST_LAG)) == ""
    assert "201 operations behind; more than 200" in await refusals(action, params, peers(1, lag=MOST_LAG + 1))


@ASSETS
async def test_a_group_of_three_keeps_its_leader_while_one_follower_is_not_current(action: Any, params: Any) -> None:
    assert "no quorum of current members" in await refusals(action, params, peers(1, current=False))


async def test_the_meta_leader_stays_while_any_member_is_not_current() -> None:
    assert "not whole" in await refusals(META, META_PARAMS, peers(1, current=False))


async def test_a_single_replica_has_nobody_to_step_down_for() -> None:
    def alone(raw: Raw) -> None:
        raw["samples"] = [s for s in raw["samples"] if s["server"] == STREAM_PARAMS.leader]
        for thing in streams(raw):
            thing["config"]["num_replicas"] = 1
            thing["cluster"]["replicas"] = []

    assert "nobody else can lead" in await refusals(GROUP, STREAM_PARAMS, alone)


@KINDS
@pytest.mark.parametrize(
    ("preferred", "changes", "why"),
    [
        ("follower", (), ""),
        ("follower", (running("2.11.0"),), ""),
        ("follower", (running("2.10.29"),), "runs 2.10.29: nobody can be preferred before 2.11.0"),
        ("follower", (running("?"),), "nobody can be preferred before 2.11.0"),
        ("leader", (), "leads already"),
        ("n9", (), "n9 is no member of"),
    ],
)
async def test_a_successor_is_a_current_follower_on_a_version_that_takes_one(
    action: Any, params: Any, preferred: str, changes: tuple[Change, ...], why: str
) -> None:
    follower = next(name for name in params.members if name != params.leader)
    name = {"leader": params.leader, "follower": follower}.get(preferred, preferred)
    found = await refusals(action, params.model_copy(update={"preferred": name}), *changes)
    assert why in found
    assert bool(found) == bool(why)


@KINDS
@pytest.mark.parametrize(
    ("changes", "receipt"),
    [
        ((), Receipt.NOT_APPLIED),
        ((terms(1),), Receipt.APPLIED),
        ((led_by_another,), Receipt.APPLIED),
        ((without_raftz,), Receipt.UNREADABLE),
        ((without_raftz, led_by_another), Receipt.APPLIED),
    ],
)
async def test_an_election_is_the_receipt_and_a_term_that_is_not_known_proves_nothing(
    action: Any, params: Any, changes: tuple[Change, ...], receipt: Receipt
) -> None:
    assert await action.receipt(Shows(snapshot(*changes)), params, OPERATION) is receipt


@KINDS
async def test_a_term_that_was_not_known_before_proves_nothing_either(action: Any, params: Any) -> None:
    unknown = params.model_copy(update={"term": 0})
    assert await action.receipt(Shows(snapshot(terms(5))), unknown, OPERATION) is Receipt.UNREADABLE


@ASSETS
async def test_a_thing_that_was_made_anew_is_somebody_elses(action: Any, params: Any) -> None:
    def anew(raw: Raw) -> None:
        for thing in (*streams(raw), *consumers(raw)):
            thing["created"] = "2030-01-01T00:00:00Z"

    assert await action.receipt(Shows(snapshot(anew)), params, OPERATION) is Receipt.FOREIGN
    assert "2030-01-01" in await refusals(action, params, anew)


@KINDS
async def test_a_leader_that_moved_meanwhile_is_not_asked_to_step_down(action: Any, params: Any) -> None:
    found = await action.check(Shows(snapshot(led_by_another)), params)
    assert any("leads" in why and f"not {params.leader}" in why for why in found.refusals)
    assert found.world != (await action.check(Shows(BEFORE), params)).world


@KINDS
@pytest.mark.parametrize(
    ("changes", "outcome", "said"),
    [
        ((), Outcome.FAILED, "still leads"),
        ((terms(1),), Outcome.VERIFIED, "all members are current"),
        ((led_by_another,), Outcome.VERIFIED, "all members are current"),
        ((terms(1), peers(1, current=False)), Outcome.FAILED, "2 of 3 members current"),
    ],
)
async def test_only_an_election_with_all_members_current_is_a_success(
    action: Any, params: Any, changes: tuple[Change, ...], outcome: Outcome, said: str
) -> None:
    seen = await action.verify(Shows(snapshot(*changes)), params, OPERATION)
    assert (seen.outcome, said in seen.sentence) == (outcome, True), seen.sentence
    assert seen.numbers["leader"]


@KINDS
async def test_an_election_that_another_member_won_is_no_success_where_one_was_preferred(
    action: Any, params: Any
) -> None:
    won = min({"n0", "n1", "n2"} - {params.leader})
    lost = max({"n0", "n1", "n2"} - {params.leader})
    after = Shows(snapshot(led_by_another))
    wanted = await action.verify(after, params.model_copy(update={"preferred": won}), OPERATION)
    unwanted = await action.verify(after, params.model_copy(update={"preferred": lost}), OPERATION)
    assert wanted.outcome is Outcome.VERIFIED
    assert (unwanted.outcome, f", not {lost}" in unwanted.sentence) == (Outcome.FAILED, True)


async def test_a_new_leader_with_fewer_messages_is_a_failure_for_good() -> None:
    ends = STREAM_PARAMS.last_seq
    after = Shows(snapshot(led_by_another))
    same = await GROUP.verify(after, STREAM_PARAMS, OPERATION)
    less = await GROUP.verify(after, STREAM_PARAMS.model_copy(update={"last_seq": ends + 1}), OPERATION)
    assert same.outcome is Outcome.VERIFIED
    assert (less.outcome, less.final) == (Outcome.FAILED, True)
    assert f"ends at sequence {ends}" in less.sentence


@KINDS
async def test_a_step_down_says_what_waits_and_that_nothing_needs_a_way_back(action: Any, params: Any) -> None:
    shown = await action.preview(Shows(BEFORE), params)
    assert shown.summary.startswith(f"{params.leader} steps down as leader of ")
    follower = next(name for name in params.members if name != params.leader)
    assert follower in (await action.preview(Shows(BEFORE), params.model_copy(update={"preferred": follower}))).summary
    with pytest.raises(Refused, match="any member may lead"):
        await action.rollback(Shows(BEFORE), None, params, OPERATION)
