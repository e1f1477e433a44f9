"""Small judgements that consumer actions rest on."""

from bot.actions._facts import filters_of
from bot.actions.consumer_create import config_differences, server_defaults
from bot.model import ConsumerKey
from bot.model.groups import groups, ha_assets, raft_node, raft_term, standing
from tests.unit.snapshots import recorded

KEY = ConsumerKey("APP", "ORDERS", "worker")


def test_a_consumer_without_a_filter_takes_everything() -> None:
    assert filters_of({}) == (">",)
    assert filters_of({"filter_subject": "a"}) == ("a",)
    assert filters_of({"filter_subjects": ["a", "b"]}) == ("a", "b")


def test_a_field_that_reads_back_otherwise_is_named() -> None:
    assert config_differences({"ack_wait": 1, "x": False}, {"ack_wait": 2}) == ["ack_wait is 2, 1 was sent."]


def test_what_the_server_writes_itself_is_no_difference() -> None:
    sent = {"a": 1, "metadata": {"team": "a", "_nats.ver": "2.10.0"}}
    got = {
        "a": 1,
        "metadata": {"team": "a", "_nats.ver": "2.11.11", "_nats.level": "1"},
        "max_waiting": 512,
        "direct": False,
    }
    assert config_differences(sent, got) == []
    assert server_defaults(sent, got) == ["max_waiting"]


def test_a_majority_is_counted_against_the_configured_replicas_so_a_ghost_is_none_by_itself() -> None:
    views = recorded("split_room_2.11.11").consumers(1)[KEY]
    assert standing(groups(views), 3).leader == "n0"
    assert standing(groups({"n1": views["n1"]}), 3).leader is None
    assert standing(groups({"n1": views["n1"]}), 3).claimants == {"n1"}


def test_two_servers_that_both_hold_a_group_of_one_replica_have_no_leader() -> None:
    views = recorded("split_room_2.11.11").consumers(1)[KEY]
    assert standing(groups(views), 1).leader is None


def test_a_leader_that_can_not_be_read_itself_is_no_leader() -> None:
    views = {k: v for k, v in recorded("healthy_2.15.1").consumers(1)[KEY].items() if v.group and v.group.leader != k}
    found = standing(groups(views), 3)
    assert found.leader is None
    assert "could not be read itself" in found.problem


def test_a_limit_is_known_absent_or_unknown_by_field_presence() -> None:
    new, old = recorded("split_2.11.11"), recorded("split_2.10.26")
    assert (ha_assets(new, "n1").limit, ha_assets(new, "n0").limit, ha_assets(old, "n1").limit) == (5, 0, None)
    assert ha_assets(new, "n1").refuses(1)
    assert not ha_assets(new, "n0").refuses(1)
    assert not ha_assets(old, "n1").refuses(1)


def test_raftz_tells_which_server_lacks_the_group() -> None:
    snapshot = recorded("split_room_2.11.11")
    group = snapshot.consumers(1)[KEY]["n0"].raft_group
    assert [raft_node(snapshot, s, "APP", group) for s in ("n0", "n1", "n2")] == [True, False, True]
    assert raft_node(snapshot, "n0", "OTHER", group) is None
    assert raft_term(snapshot, ["n0", "n2"], "APP", group) > 0
    assert raft_term(snapshot, ["n1"], "APP", group) == 0
