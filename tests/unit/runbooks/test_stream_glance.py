"""The one glance at all streams: what it only counts has nothing that a closer look would find."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from bot.model import Endpoint, Snapshot, StreamKey
from bot.model.groups import stream_replicas
from runbooks._audit_views import read
from runbooks._stream_glance import StreamGlance, glance_at_streams
from tests.unit.snapshots import answered

SERVERS = ("n0", "n1", "n2")
KEY = StreamKey("APP", "S")

Raw = dict[str, Any]


def stream(name: str = "S", *, last: int = 5, subjects: int = 0, **fields: Any) -> Raw:
    made: Raw = {"name": name, "config": {"num_replicas": 1}, "cluster": {"leader": "n0"}}
    return made | {"state": {"last_seq": last, "num_subjects": subjects}} | fields


def told(held: dict[str, list[Raw]]) -> Snapshot:
    """The snapshot in which these servers hold these streams."""
    page = {server: [{"id": "APP", "name": "APP", "stream_detail": streams}] for server, streams in held.items()}
    answers = {server: {Endpoint.JSZ: {"account_details": details}} for server, details in page.items()}
    return answered(answers, versions=dict.fromkeys(held, "2.11.11"))


def seen(held: dict[str, list[Raw]]) -> StreamGlance:
    snapshot = told(held)
    return glance_at_streams(snapshot, read(snapshot, Endpoint.JSZ).running())


def test_a_lone_stream_without_limits_is_only_counted() -> None:
    assert seen({"n0": [stream()]}) == StreamGlance(count=1, replicas={KEY: 1})


def test_streams_are_named_in_order() -> None:
    assert list(seen({"n0": [stream("b"), stream("a")]}).replicas) == [StreamKey("APP", "a"), StreamKey("APP", "b")]


def test_copies_one_message_apart_are_named() -> None:
    assert seen({"n0": [stream(last=5)], "n1": [stream(last=5)]}).apart == []
    assert [key for key, _ in seen({"n0": [stream(last=5)], "n1": [stream(last=6)]}).apart] == [KEY]


def test_a_limit_of_one_is_a_limit_and_zero_is_none() -> None:
    for field in ("max_msgs", "max_bytes", "max_consumers"):
        assert seen({"n0": [stream(config={"num_replicas": 1, field: 0})]}).limited == []
        assert [key for key, _ in seen({"n0": [stream(config={"num_replicas": 1, field: 1})]}).limited] == [KEY]


def test_a_stream_outside_of_any_group_has_no_replicas() -> None:
    assert seen({"n0": [stream(cluster=None)]}).replicas == {}


def test_the_glance_is_of_the_servers_whose_jetstream_runs() -> None:
    page = [{"id": "APP", "name": "APP", "stream_detail": [stream()]}]
    answers = {"n0": {Endpoint.JSZ: {"account_details": page, "disabled": True}}}
    snapshot = answered(answers, versions={"n0": "2.11.11"})
    facts = read(snapshot, Endpoint.JSZ)
    assert glance_at_streams(snapshot, facts).count == 1
    assert glance_at_streams(snapshot, facts.running()).count == 0


_numbers = st.sampled_from([-1, 0, 1, 2, 3, "x"])
_configs = st.fixed_dictionaries(
    {"num_replicas": _numbers}, optional={"max_msgs": _numbers, "max_bytes": _numbers, "max_consumers": _numbers}
)
_held: st.SearchStrategy[Raw] = st.fixed_dictionaries(
    {
        "name": st.sampled_from(("S", "T")),
        "config": st.none() | _configs,
        "cluster": st.none() | st.just({"leader": "n0"}),
        "state": st.fixed_dictionaries({"last_seq": st.integers(0, 2), "num_subjects": st.integers(0, 3)}),
    }
)


def _name(made: Raw) -> str:
    return made["name"]


_lists = st.lists(_held, max_size=2, unique_by=_name)


@given(st.dictionaries(st.sampled_from(SERVERS), _lists, min_size=1))
def test_the_glance_says_what_the_closer_look_at_each_stream_says(held: dict[str, list[Raw]]) -> None:
    snapshot = told(held)
    facts = read(snapshot, Endpoint.JSZ).running()
    found = glance_at_streams(snapshot, facts)
    streams = snapshot.streams(0)
    assert found.count == len(streams)
    every = [view for views in streams.values() for view in views.values()]
    assert found.most_subjects == max((view.stored.num_subjects for view in every), default=0)
    apart, limited, unreadable = ([key for key, _ in named] for named in (found.apart, found.limited, found.unreadable))
    for key, views in streams.items():
        assert (key in apart) == (len({view.last_seq for view in views.values()}) > 1)
        assert (key in unreadable) == any(view.declared.complaint for view in views.values())
        told_limits = [view.limits for view in views.values()]
        assert (key in limited) == any(
            one is None or max(one.max_msgs, one.max_bytes, one.max_consumers) > 0 for one in told_limits
        )
        grouped = {server: view for server, view in views.items() if view.group is not None}
        assert found.replicas.get(key) == (stream_replicas(grouped) if grouped else None)
