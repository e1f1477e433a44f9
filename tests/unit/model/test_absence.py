"""What stands still without one server, on a recorded cluster of three."""

from collections.abc import Callable
from typing import Any

import pytest

from bot.model.absence import absence, raft_groups
from tests.unit.snapshots import Raw, answers, both, consumers, recorded, streams

HEALTHY = "healthy_2.15.1"
META, STREAM, CONSUMER = "the meta group", "stream APP > ORDERS", "consumer APP > ORDERS > worker"
Change = Callable[[Raw], None]


def metas(raw: Raw) -> list[Raw]:
    return [{"cluster": jsz["meta_cluster"]} for jsz in answers(raw, "JSZ")]


def replica(found: Callable[[Raw], list[Raw]], name: str, **fields: Any) -> Change:
    """A change after which every view that lists `name` as a replica says so of it."""

    def change(raw: Raw) -> None:
        for view in found(raw):
            for row in view["cluster"].get("replicas") or []:
                if row["name"] == name:
                    row.update(fields)

    return change


def led(found: Callable[[Raw], list[Raw]]) -> str:
    """Who leads the group in the recording."""
    leaders: list[str] = []
    recorded(HEALTHY, lambda raw: leaders.extend(view["cluster"]["leader"] for view in found(raw)))
    (leader,) = set(leaders)
    return leader


def others(found: Callable[[Raw], list[Raw]]) -> tuple[str, str]:
    """The two that do not lead it."""
    first, second = sorted({"n0", "n1", "n2"} - {led(found)})
    return first, second


def silence(server: str) -> Change:
    def change(raw: Raw) -> None:
        for sample in raw["samples"]:
            if sample["server"] == server:
                sample |= {"data": None, "unknown": {"reason": "timed_out", "detail": "a test"}}

    return change


def members(found: Callable[[Raw], list[Raw]], *names: str) -> Change:
    """A change of the group to these members; servers that are none of them do not report it."""

    def change(raw: Raw) -> None:
        for view in found(raw):
            view["config"]["num_replicas"] = len(names)
            view["cluster"]["replicas"] = [r for r in view["cluster"].get("replicas") or [] if r["name"] in names]

    return change


@pytest.mark.parametrize("server", ["n0", "n1", "n2"])
def test_a_whole_cluster_of_three_can_spare_any_server(server: str) -> None:
    found = absence(recorded(HEALTHY), server)
    assert (found.safe, found.stalled, found.alone, found.unknown) == (True, {}, (), ())


@pytest.mark.parametrize(("views", "name"), [(streams, STREAM), (consumers, CONSUMER), (metas, META)])
def test_a_group_with_a_second_member_behind_would_stall_and_says_which(
    views: Callable[[Raw], list[Raw]], name: str
) -> None:
    sick, away = others(views)
    snapshot = recorded(HEALTHY, replica(views, sick, current=False, offline=True))
    assert absence(snapshot, away).stalled == {name: f"1 of 3 members would be left ({sick} offline)"}
    assert not absence(snapshot, away).safe
    assert absence(snapshot, sick).safe


def test_a_group_of_two_never_keeps_quorum() -> None:
    leader, member = led(streams), others(streams)[0]
    snapshot = recorded(HEALTHY, members(streams, leader, member))
    assert absence(snapshot, member).stalled == {STREAM: "1 of 2 members would be left"}
    assert absence(snapshot, leader).stalled == {STREAM: "1 of 2 members would be left"}


def test_what_has_no_replicas_is_away_with_its_server_and_no_reason_against_it() -> None:
    holder = led(consumers)
    snapshot = recorded(HEALTHY, members(consumers, holder))
    assert absence(snapshot, holder).alone == (CONSUMER,)
    assert absence(snapshot, holder).safe
    assert absence(snapshot, others(consumers)[0]).alone == ()


def test_a_group_without_a_leader_counts_for_each_of_its_members() -> None:
    def leaderless(raw: Raw) -> None:
        for view in streams(raw):
            view["cluster"]["leader"] = ""

    assert absence(recorded(HEALTHY, leaderless), "n0").stalled[STREAM] == "it has no leader now"


def test_a_meta_group_without_a_leader_spares_nobody() -> None:
    def leaderless(raw: Raw) -> None:
        for view in metas(raw):
            view["cluster"]["leader"] = ""

    found = absence(recorded(HEALTHY, leaderless), "n0")
    assert found.stalled == {META: "it has no leader now"}


def test_another_servers_silence_is_unknown_and_not_safe() -> None:
    found = absence(recorded(HEALTHY, silence("n2")), "n0")
    assert found.unknown == ("n2: timed_out, a test",)
    assert not found.safe


def test_a_silent_server_itself_can_be_judged_by_the_others() -> None:
    """As far as it leads nothing: what it led has another leader by the time it counts as silent."""

    def only_meta(raw: Raw) -> None:
        for jsz in answers(raw, "JSZ"):
            jsz["account_details"] = []

    silent = others(metas)[0]
    frozen = both(only_meta, silence(silent), replica(metas, silent, current=False, active=12_000_000_000))
    assert absence(recorded(HEALTHY, frozen), silent).safe


def test_a_server_outside_a_cluster_has_no_groups_to_stall() -> None:
    def standalone(raw: Raw) -> None:
        raw["samples"] = [s for s in raw["samples"] if s["server"] == "n0"]
        raw["servers"] = [s for s in raw["servers"] if s["name"] == "n0"]
        raw["expected"] = ["n0"]
        for jsz in answers(raw, "JSZ"):
            del jsz["meta_cluster"]
            for view in (*streams(raw), *consumers(raw)):
                view["config"]["num_replicas"] = 1
                view.pop("cluster", None)

    found = absence(recorded(HEALTHY, standalone), "n0")
    assert found.stalled == {}
    assert found.alone == (CONSUMER, STREAM)


def test_every_group_is_listed_the_meta_group_first() -> None:
    found = list(raft_groups(recorded(HEALTHY)))
    assert [group.name for group in found] == [META, STREAM, CONSUMER]
    assert {group.servers for group in found} == {frozenset({"n0", "n1", "n2"})}
    assert all(group.standing.whole for group in found)


@pytest.mark.parametrize(("views", "name"), [(streams, STREAM), (consumers, CONSUMER), (metas, META)])
def test_who_belongs_to_a_group_is_known_also_while_it_has_no_leader(
    views: Callable[[Raw], list[Raw]], name: str
) -> None:
    def leaderless(raw: Raw) -> None:
        for view in views(raw):
            view["cluster"]["leader"] = ""

    found = next(group for group in raft_groups(recorded(HEALTHY, leaderless)) if group.name == name)
    assert (found.standing.leader, found.servers) == (None, {"n0", "n1", "n2"})


def test_what_has_no_replicas_is_no_raft_group() -> None:
    snapshot = recorded(HEALTHY, both(members(streams, led(streams)), members(consumers, led(consumers))))
    assert [group.name for group in raft_groups(snapshot)] == [META]
