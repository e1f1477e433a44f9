"""The one glance at all consumers: what it only counts has nothing wrong, what it names deserves the closer look."""

from collections.abc import Mapping
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bot.model import ConsumerKey, Endpoint, Snapshot
from bot.model.groups import groups, replicas_of, standing, stream_replicas
from runbooks._consumer_glance import Glance, glance
from tests.unit.snapshots import answered

SERVERS = ("n0", "n1", "n2")
KEY = ConsumerKey("APP", "S", "c")

Raw = dict[str, Any]


def group(leader: str, members: tuple[str, ...] = ("n0",), server: str = "n0") -> Raw:
    """A Raft group as this server tells it: only the leader lists the others."""
    others = [{"name": name, "current": True, "active": 1_000_000} for name in members if name != leader]
    return {"leader": leader, "raft_group": "G"} | ({"replicas": others} if others and server == leader else {})


def consumer(name: str = "c", *, replicas: int = 0, delivered: int = 5, pending: int = 0, **fields: Any) -> Raw:
    position = {"consumer_seq": delivered, "stream_seq": delivered}
    config = {"durable_name": name, "num_replicas": replicas}
    made: Raw = {"name": name, "config": config, "cluster": group("n0"), "delivered": position, "num_pending": pending}
    return made | {"ack_floor": position} | fields


def stream(*consumers: Raw, replicas: int = 1, **fields: Any) -> Raw:
    state = {"first_seq": 1, "last_seq": 5, "messages": 5}
    made: Raw = {"name": "S", "config": {"num_replicas": replicas}, "cluster": group("n0"), "state": state}
    return made | {"consumer_detail": list(consumers)} | fields


def told(streams: Mapping[str, Raw]) -> Snapshot:
    """The snapshot in which these servers hold the stream like this."""
    page = {server: [{"id": "APP", "name": "APP", "stream_detail": [held]}] for server, held in streams.items()}
    return answered({server: {Endpoint.JSZ: {"account_details": details}} for server, details in page.items()})


def seen(streams: Mapping[str, Raw]) -> Glance:
    return glance(told(streams), 0)


def shared(**fields: Any) -> dict[str, Raw]:
    """A stream and its consumer on three servers, the leader's view of the consumer with these fields."""
    streams: dict[str, Raw] = {}
    for server in SERVERS:
        cluster = group("n1", SERVERS, server)
        told_here: Raw = {"cluster": cluster} | (fields if server == "n1" else {})
        streams[server] = stream(consumer() | told_here, replicas=3, cluster=cluster)
    return streams


def test_a_lone_consumer_that_is_well_is_only_counted() -> None:
    assert seen({"n0": stream(consumer(), consumer("d", replicas=1))}) == Glance(count=2)


def test_a_shared_consumer_that_is_well_is_counted_once() -> None:
    assert seen(shared()) == Glance(count=1)


def test_a_lone_consumer_that_asks_for_two_members_is_doubtful() -> None:
    assert seen({"n0": stream(consumer(replicas=2))}).doubtful == {KEY}


def test_a_lone_consumer_without_its_own_server_as_leader_is_doubtful() -> None:
    assert seen({"n0": stream(consumer(cluster=group("n1")))}).doubtful == {KEY}
    assert seen({"n0": stream(consumer(cluster=group("")))}).doubtful == {KEY}


def test_a_shared_consumer_with_a_member_that_is_not_current_is_doubtful() -> None:
    cluster = group("n1", SERVERS, "n1")
    cluster["replicas"][0]["current"] = False
    assert seen(shared(cluster=cluster)).doubtful == {KEY}


def test_consumers_of_a_stream_without_a_leader_are_doubtful() -> None:
    assert seen({"n0": stream(consumer(), cluster=group(""))}).doubtful == {KEY}


def test_consumers_of_a_stream_whose_configuration_can_not_be_read_are_doubtful() -> None:
    assert seen({"n0": stream(consumer(), config={"num_replicas": "one"})}).doubtful == {KEY}


def test_a_consumer_one_message_ahead_of_its_stream_is_apart() -> None:
    assert seen({"n0": stream(consumer(delivered=5))}).apart == []
    assert seen({"n0": stream(consumer(delivered=6))}).apart == [KEY]
    assert seen(shared(delivered={"consumer_seq": 6, "stream_seq": 6})).apart == [KEY]


def test_a_shared_consumer_whose_views_differ_by_one_is_apart() -> None:
    assert seen(shared(ack_floor={"consumer_seq": 4, "stream_seq": 4})).apart == [KEY]


def test_of_messages_that_wait_the_largest_number_counts() -> None:
    assert seen({"n0": stream(consumer(pending=1))}).pending == {KEY: 1}
    assert seen(shared(num_pending=3)).pending == {KEY: 3}


_leaders = st.sampled_from(("", *SERVERS))
_sequences = st.fixed_dictionaries({"consumer_seq": st.integers(0, 2), "stream_seq": st.integers(0, 3)})
_peers = st.lists(st.fixed_dictionaries({"name": st.sampled_from(SERVERS), "current": st.booleans()}), max_size=2)
_groups = st.none() | st.fixed_dictionaries({"leader": _leaders, "replicas": _peers, "raft_group": st.just("G")})
_configs = st.fixed_dictionaries(
    {"num_replicas": st.sampled_from([0, 1, 2, 3, "x"]), "durable_name": st.sampled_from(["", "d"])}
)
_consumers: st.SearchStrategy[Raw] = st.fixed_dictionaries(
    {
        "name": st.sampled_from(("c", "d")),
        "config": st.none() | _configs,
        "cluster": _groups,
        "delivered": _sequences,
        "ack_floor": _sequences,
        "num_pending": st.integers(0, 2),
    }
)


def _name(made: Raw) -> str:
    return made["name"]


_streams: st.SearchStrategy[Raw] = st.fixed_dictionaries(
    {
        "name": st.just("S"),
        "config": st.none() | _configs,
        "cluster": _groups,
        "state": st.fixed_dictionaries({"last_seq": st.integers(0, 3)}),
        "consumer_detail": st.lists(_consumers, max_size=2, unique_by=_name),
    }
)


@given(st.dictionaries(st.sampled_from(SERVERS), _streams, min_size=1))
def test_what_the_glance_does_not_name_has_nothing_wrong(streams: dict[str, Raw]) -> None:
    snapshot = told(streams)
    found = glance(snapshot, 0)
    assert found.count == len(snapshot.consumers(0))
    for key, views in snapshot.consumers(0).items():
        holders = snapshot.streams(0)[key.stream_key]
        of_stream = standing(groups(holders), stream_replicas(holders))
        own = standing(groups(views), replicas_of(views, of_stream.replicas))
        assert key in found.doubtful or (of_stream.whole and own.whole and own.members <= of_stream.members)
        positions = {(v.delivered_consumer_seq, v.delivered_stream_seq, v.floor_stream_seq) for v in views.values()}
        ahead = [s for s, v in views.items() if max(v.delivered_stream_seq, v.floor_stream_seq) > holders[s].last_seq]
        assert (key in found.apart) == (len(positions) > 1 or bool(ahead))
        assert found.pending.get(key, 0) == max(view.num_pending for view in views.values())
