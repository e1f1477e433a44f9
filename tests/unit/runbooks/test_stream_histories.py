"""STREAM_TIMELINE on recorded forks and at its edges, the parity of replicas, what is proposed, and junk instead of answers."""

import shlex
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.flow.ranking import rank
from bot.model import Severity, Snapshot, canonical_json
from tests.exhaustive import examples
from tests.unit.runbooks.audit_support import Change, each, once
from tests.unit.runbooks.junk import spoil
from tests.unit.runbooks.stream_support import (
    BASE,
    CRITICAL,
    OK,
    UNKNOWN,
    WARNING,
    apart,
    based,
    examined,
    found,
    gone,
    level,
    peer,
    proposed,
    worst,
)
from tests.unit.snapshots import Raw, both, recorded, streams

AHEAD, AWAY, OUTSIDE, STANDALONE = (
    "history_ahead_2.11.11",
    "history_away_2.11.11",
    "history_outside_2.10.26",
    "standalone_2.15.1",
)


def views(stream: str, server: str | None = None, at: int | None = None) -> Callable[..., list[Raw]]:
    """Raw views of a stream of any name."""

    def find(raw: Raw, only: str | None = None, round_: int | None = None) -> list[Raw]:
        wanted, when = only or server, round_ if round_ is not None else at
        details = [
            account
            for sample in raw["samples"]
            if sample["endpoint"] == "JSZ"
            and sample["data"]
            and wanted in {None, sample["server"]}
            and when in {None, sample["round"]}
            for account in sample["data"].get("account_details") or []
        ]
        return [view for account in details for view in account["stream_detail"] if view["name"] == stream]

    return find


# --- recorded forks


def test_a_member_that_holds_what_its_empty_leader_lacks_is_the_root() -> None:
    findings = examined(recorded(AHEAD))
    root = rank(findings).root
    assert root is not None
    assert (root.check, root.severity, root.subject.server, root.evidence["kind"]) == (
        "STREAM_TIMELINE",
        CRITICAL,
        "n2",
        "ahead",
    )
    assert "its leader n0 stands at 0 while its member n2 still holds 20 messages, 1 to 20" in root.sentence


def test_a_copy_outside_of_its_group_is_the_root_with_the_time_that_is_left() -> None:
    findings = examined(recorded(OUTSIDE))
    root = rank(findings).root
    assert root is not None
    assert (root.subject.stream, root.subject.server, root.evidence["kind"]) == ("S5", "n2", "outside")
    assert "n2 deletes it about 30 s after its start (it started 14 s ago)" in root.sentence


def test_a_stream_from_before_the_cluster_is_not_called_a_fork() -> None:
    (told,) = found("STREAM_TIMELINE", name=STANDALONE)
    assert (told.severity, told.subject.server) == (CRITICAL, "n0")
    assert "no other server knows the stream" in told.sentence


def test_while_the_holder_is_silent_its_files_are_suspected_to_be_the_only_copy() -> None:
    (told,) = found("STREAM_TIMELINE", name=AWAY)
    assert (told.severity, told.subject.server, told.evidence["kind"]) == (WARNING, "n2", "silent")


@pytest.mark.parametrize(
    "change", [each(views("S0"), {"state.last_seq": 1}), each(views("S0"), {"stream_raft_group": "S-R3F-x"})]
)
def test_a_silent_member_of_a_stream_that_holds_messages_or_was_never_scaled_up_is_not_suspected(
    change: Change,
) -> None:
    assert level("STREAM_TIMELINE", change, name=AWAY) is OK


# --- edges of a fork


@pytest.mark.parametrize(("leader", "severity"), [(199, CRITICAL), (200, OK), (201, OK)])
def test_a_leader_that_lacks_what_a_member_had_a_reading_ago_has_a_new_history(leader: int, severity: Severity) -> None:
    assert level("STREAM_TIMELINE", each(streams, {"state.last_seq": leader}, "n0", 1)) is severity


def test_members_that_answer_a_moment_later_than_their_leader_are_no_fork() -> None:
    skew = both(
        each(streams, {"state.last_seq": 100}, "n0", 0),
        each(streams, {"state.last_seq": 105}, "n1", 0),
        each(streams, {"state.last_seq": 105}, "n0", 1),
        each(streams, {"state.last_seq": 211}, "n1", 1),
        each(streams, {"state.last_seq": 90}, "n2", 0),
    )
    assert level("STREAM_TIMELINE", skew) is OK


@pytest.mark.parametrize(("first", "severity"), [(151, WARNING), (150, OK)])
def test_one_reading_tells_a_fork_only_by_messages_that_no_later_answer_explains(
    first: int, severity: Severity
) -> None:
    one = both(once, each(streams, {"state.last_seq": 150}, "n0"), each(streams, {"state.first_seq": first}, "n2"))
    assert level("STREAM_TIMELINE", one) is severity


@pytest.mark.parametrize(("seconds", "severity"), [(4.4, WARNING), (4.5, CRITICAL)])
def test_a_fork_is_critical_after_its_settle_time(seconds: float, severity: Severity) -> None:
    assert level("STREAM_TIMELINE", apart(seconds), name=AHEAD, settle=5.0) is severity
    assert level("STREAM_TIMELINE", apart(seconds), name=OUTSIDE, settle=5.0) is severity


def test_a_stream_that_was_created_again_has_not_gone_back() -> None:
    again = each(streams, {"state.last_seq": 3, "created": "2026-11-21T10:00:00Z"}, at=1)
    assert level("STREAM_TIMELINE", again) is OK


def test_messages_that_nobody_holds_any_more_are_called_lost() -> None:
    lost = worst("STREAM_TIMELINE", each(streams, {"state.last_seq": 0, "state.messages": 0}, at=1))
    assert (lost.severity, lost.evidence["kind"]) == (CRITICAL, "gone")
    assert "no server that answered holds these messages now" in lost.sentence


def test_a_holder_that_falls_silent_is_named_with_its_files() -> None:
    def fall(raw: Raw) -> None:
        for sample in raw["samples"]:
            if sample["server"] == "n2" and sample["round"] == 1:
                sample |= {"data": None, "unknown": {"reason": "unreachable", "detail": "a test"}}

    told = worst("STREAM_TIMELINE", fall, name=AHEAD)
    assert (told.severity, told.evidence["kind"], told.subject.server) == (CRITICAL, "silent", "n2")


def copied(**state: Any) -> Change:
    """The group's members hold what the copy outside of it holds, but for these fields."""

    def change(raw: Raw) -> None:
        (copy, *_) = views("S5", "n2")(raw)
        for server in ("n0", "n1"):
            for view in views("S5", server)(raw):
                view["state"] = copy["state"] | state

    return change


@pytest.mark.parametrize(
    ("state", "severity"),
    [
        ({}, WARNING),
        ({"last_seq": 500}, WARNING),
        ({"last_seq": 19}, CRITICAL),
        ({"first_ts": "2026-11-27T09:00:00Z", "last_seq": 500}, CRITICAL),
        ({"first_ts": "2026-11-27T09:00:00Z", "first_seq": 2}, WARNING),
        ({"first_ts": "2020-11-27T09:00:00Z", "first_seq": 2}, CRITICAL),
    ],
)
def test_a_copy_whose_messages_the_group_holds_too_is_a_leftover(state: dict[str, Any], severity: Severity) -> None:
    told = next(f for f in found("STREAM_TIMELINE", copied(**state), name=OUTSIDE) if f.subject.stream == "S5")
    assert (told.severity, told.evidence["kind"]) == (severity, "leftover" if severity is WARNING else "outside")


def test_an_empty_copy_outside_of_its_group_endangers_nothing() -> None:
    empty = each(views("S5", "n2"), {"state.messages": 0, "state.last_seq": 0})
    assert [f.severity for f in found("STREAM_TIMELINE", empty, name=OUTSIDE)] == [OK]
    assert any("an empty copy outside" in f.sentence for f in found("STREAM_NODE", empty, name=OUTSIDE))


def test_without_the_names_of_raft_groups_nothing_is_called_outside() -> None:
    told = found("STREAM_TIMELINE", each(streams, {"stream_raft_group": None}))
    assert [f.severity for f in told] == [UNKNOWN]


# --- parity


@pytest.mark.parametrize("field", ["messages", "first_seq", "first_ts"])
def test_replicas_that_rest_and_differ_are_critical(field: str) -> None:
    value: Any = "2026-11-21T09:53:08.4Z" if field == "first_ts" else 199
    differ = worst("STREAM_SYNC", each(streams, {f"state.{field}": value}, "n2"))
    assert (differ.severity, differ.evidence["counterpart"]) == (CRITICAL, "nats server stream-check: UNSYNCED")


def test_replicas_that_move_are_not_compared_and_one_reading_leaves_it_unknown() -> None:
    assert level("STREAM_SYNC", each(streams, {"state.messages": 150}, "n2", 0)) is OK
    once_only = worst("STREAM_SYNC", each(streams, {"state.messages": 150}, "n2"), once)
    assert (once_only.severity, once_only.evidence) == (UNKNOWN, {"count": 1})


def test_messages_that_expire_by_age_may_differ_with_the_clocks() -> None:
    ages = each(streams, {"config.max_age": 10**9})
    assert level("STREAM_SYNC", ages, each(streams, {"state.first_seq": 7}, "n2")) is WARNING
    assert level("STREAM_SYNC", ages, each(streams, {"state.last_seq": 150, "state.messages": 1}, "n2")) is CRITICAL


def test_a_member_that_its_leader_counts_as_behind_is_not_said_to_differ() -> None:
    assert level("STREAM_SYNC", each(streams, {"state.messages": 1}, "n2"), peer("n2", lag=1)) is OK


@pytest.mark.parametrize(("at", "severity"), [(None, CRITICAL), (1, WARNING), (0, OK)])
def test_servers_that_run_a_stream_with_another_configuration_are_found(at: int | None, severity: Severity) -> None:
    told = worst("STREAM_SYNC", each(streams, {"config.max_msgs": 7}, "n2", at))
    assert told.severity is severity
    if severity is not OK:
        assert "max_msgs 1000 (n0, n1), 7 (n2)" in told.sentence


def test_fields_that_one_version_does_not_know_are_no_difference() -> None:
    def upgrade(raw: Raw) -> None:
        for view in streams(raw, "n2"):
            view["config"]["persist_mode"] = "default"
            view["config"]["metadata"]["_nats.level"] = "3"

    assert level("STREAM_SYNC", upgrade) is OK


def workers(raw: Raw, server: str | None = None, at: int | None = None) -> list[Raw]:
    return [c for s in streams(raw, server, at) for c in s["consumer_detail"] if c["name"] == "worker"]


@pytest.mark.parametrize(
    ("fields", "severity", "status"),
    [
        ({"delivered.stream_seq": 59}, WARNING, "UNSYNCED:DELIVERED"),
        ({"ack_floor.stream_seq": 59}, WARNING, "UNSYNCED:ACK_FLOOR"),
        ({"delivered.stream_seq": 201}, CRITICAL, "UNSYNCED:DELIVERED_AHEAD_OF_STREAM_SEQ"),
        ({"ack_floor.stream_seq": 201}, CRITICAL, "UNSYNCED:ACKFLOOR_AHEAD_OF_STREAM_SEQ"),
        ({"delivered.stream_seq": 60}, OK, ""),
        ({"num_ack_pending": 9, "num_pending": 9, "ack_floor.consumer_seq": 9}, OK, ""),
    ],
)
def test_a_replica_of_a_consumer_that_stands_elsewhere_is_found(
    fields: dict[str, Any], severity: Severity, status: str
) -> None:
    told = worst("CONSUMER_SYNC", each(workers, fields, "n2"))
    assert (told.severity, status in str(told.evidence.get("counterpart"))) == (severity, True)


@pytest.mark.parametrize(("ends", "severity"), [(60, OK), (59, CRITICAL)])
def test_a_consumer_ahead_of_the_stream_it_read_is_critical(ends: int, severity: Severity) -> None:
    assert level("CONSUMER_SYNC", each(streams, {"state.last_seq": ends})) is severity


def test_a_consumer_that_has_delivered_nothing_may_wait_ahead_of_its_stream() -> None:
    waits = {"delivered.stream_seq": 999, "delivered.consumer_seq": 0, "ack_floor.stream_seq": 0}
    assert level("CONSUMER_SYNC", each(workers, waits)) is OK


def test_a_leader_that_passed_purged_messages_is_not_ahead_of_its_followers() -> None:
    purged = both(
        each(streams, {"state.first_seq": 101}),
        each(workers, {"delivered.stream_seq": 100, "ack_floor.stream_seq": 100}, "n1"),
    )
    assert level("CONSUMER_SYNC", purged) is OK


def test_a_consumer_that_moves_or_was_read_once_is_not_judged() -> None:
    assert level("CONSUMER_SYNC", each(workers, {"delivered.stream_seq": 59}, "n2", 0)) is OK
    assert level("CONSUMER_SYNC", each(workers, {"delivered.stream_seq": 59}, "n2", 1)) is OK
    assert level("CONSUMER_SYNC", each(workers, {"delivered.stream_seq": 59}, "n2"), once) is UNKNOWN


# --- what is proposed


def told(snapshot: Snapshot) -> list[str]:
    return [line for p in proposed(snapshot) for line in (p.draft.title, *p.draft.guidance, *p.draft.cautions)]


def test_rescue_comes_first_and_nothing_that_restarts_its_holder_follows() -> None:
    titles = [p.draft.title for p in proposed(recorded(OUTSIDE))]
    assert titles == ["Copy the files of stream S5 on n2 now", "Upgrade nats-server"]
    assert [p.draft.title for p in proposed(recorded(AHEAD))] == ["Let n2 lead stream S0", "Upgrade nats-server"]


def test_a_silent_server_that_may_hold_the_only_copy_is_not_simply_started() -> None:
    titles = [p.draft.title for p in proposed(recorded(AWAY))]
    assert titles == ["Copy the files of stream S0 on n2 before it starts"]


def test_the_copy_names_the_directory_and_a_backup_over_the_api_is_warned_of() -> None:
    lines = told(recorded(OUTSIDE))
    assert any("cp -a /lab/n2/store/jetstream/APP/streams/S5 S5-rescue" in line for line in lines)
    assert any("It must show 20 messages" in line for line in lines)
    assert any("A backup over the API does not help yet" in line for line in lines)


@pytest.mark.parametrize(("version", "preferred"), [("2.11.0", True), ("2.10.29", False)])
def test_a_preferred_leader_is_named_only_where_servers_take_one(version: str, preferred: bool) -> None:
    def change(raw: Raw) -> None:
        for server in raw["servers"]:
            server["version"] = version

    lines = told(recorded(AHEAD, change))
    assert any("step-down S0 --preferred=n2" in line for line in lines) is preferred


def test_a_dead_server_is_brought_back_and_nothing_is_applied_or_created_again() -> None:
    offered = proposed(recorded("members_2.12.8"))
    assert [p.draft.title for p in offered] == ["Bring server n1 back", "Bring n1 back as a member"]
    assert all(p.draft.stages == () for p in offered)


@pytest.mark.parametrize(("version", "warned"), [("2.11.3", True), ("2.11.4", False)])
def test_a_scale_up_without_the_holder_is_warned_of_where_it_loses_data(version: str, warned: bool) -> None:
    def change(raw: Raw) -> None:
        for server in raw["servers"]:
            server["version"] = version

    assert any("nats-server #6856" in line for line in told(recorded("members_2.12.8", change))) is warned


def test_what_may_pass_is_answered_with_wait_and_no_command() -> None:
    (offer,) = proposed(based(BASE, gone("n2", at=1)))
    assert (offer.draft.title, offer.draft.guidance) == (
        "Wait for n2",
        ("Change and restart nothing; diagnose again in a minute.",),
    )


def test_names_from_the_cluster_are_quoted_in_commands() -> None:
    def rename(raw: Raw) -> None:
        for view in views("S5")(raw):
            view["name"] = "a;rm -rf"
        for sample in raw["samples"]:
            for account in (sample["data"] or {}).get("account_details") or [] if sample["endpoint"] == "JSZ" else []:
                account["name"] = 'A"; $(id)'

    (copy,) = [line for line in told(recorded(OUTSIDE, rename)) if "while it runs: " in line]
    assert shlex.split(copy.partition("while it runs: ")[2].partition("   (")[0]) == [
        *("cp", "-a", '/lab/n2/store/jetstream/A"; $(id)/streams/a;rm -rf', "a;rm -rf-rescue")
    ]


# --- size and junk


def many(count: int) -> Callable[[Raw], None]:
    """So many consumers, five per stream, on all three servers in both rounds."""

    def change(raw: Raw) -> None:
        for sample in raw["samples"]:
            if sample["endpoint"] == "JSZ" and sample["data"]:
                (account,) = sample["data"]["account_details"]
                (stream,) = account["stream_detail"]
                consumer = stream["consumer_detail"][0]
                stream["consumer_detail"] = [consumer | {"name": f"c{n}"} for n in range(5)]
                account["stream_detail"] = [stream | {"name": f"S{n}"} for n in range(count // 5)]

    return change


def seconds(snapshot: Snapshot) -> float:
    """CPU seconds of all checks, without reading the answers."""
    snapshot.streams(0)
    begun = time.process_time()
    examined(snapshot)
    return time.process_time() - begun


def test_the_cost_grows_with_the_consumers_and_not_with_their_square() -> None:
    small, large = (min(seconds(recorded("audit_2.11.11", many(n))) for _ in range(2)) for n in (1_000, 4_000))
    assert large < 10 * small


@settings(
    max_examples=examples(100), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(
    name=st.sampled_from([AHEAD, OUTSIDE, STANDALONE, "audit_2.10.26", "audit_2.15.1", "members_2.12.8"]),
    data=st.data(),
)
def test_no_answer_of_a_server_breaks_a_check(name: str, data: st.DataObject) -> None:
    snapshot = recorded(name, lambda raw: spoil(raw, data))
    for finding in examined(snapshot):
        canonical_json(finding.model_dump(mode="json"))
    for offer in proposed(snapshot):
        assert offer.draft.guidance
