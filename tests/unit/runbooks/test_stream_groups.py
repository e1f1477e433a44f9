"""The stream-groups runbook on recorded answers, at every threshold: quorum, holders, nodes, second leaders, members, lag."""

from typing import Any

import pytest

from bot.flow.ranking import rank
from bot.model import Focus, Severity, Snapshot
from runbooks import _stream_views
from runbooks.stream_groups import RUNBOOK
from runbooks.stuck_consumer import RUNBOOK as STUCK_CONSUMER
from tests.unit.runbooks.audit_support import Change, each, once, silence
from tests.unit.runbooks.stream_support import (
    BASE,
    CRITICAL,
    GROUP,
    OK,
    UNKNOWN,
    WARNING,
    apart,
    based,
    examined,
    found,
    gone,
    health,
    level,
    peer,
    raft,
    worst,
)
from tests.unit.snapshots import Raw, both, recorded, streams

HEALTHY = ("audit_2.10.26", "audit_2.11.11", "audit_2.12.8", "audit_2.15.1", "healthy_2.15.1")
WITH_RAFTZ = "healthy_2.15.1"
SECOND = 10**9


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_cluster_is_well_and_one_glance_tells_it(name: str) -> None:
    snapshot = recorded(name)
    assert {f.severity for f in examined(snapshot)} == {OK}
    assert len(_stream_views.scan(snapshot).keys) == 1
    assert dict(_stream_views.scan(snapshot).doubtful) == {}
    assert {f.severity for f in examined(recorded(name, once))} == {OK}


@pytest.mark.parametrize("name", ["split_2.10.26", "split_2.11.11", "split_room_2.11.11"])
def test_a_consumers_split_is_left_to_the_runbook_of_consumers(name: str) -> None:
    assert {f.severity for f in examined(recorded(name))} == {OK}


def test_the_glance_is_taken_once() -> None:
    snapshot = based(BASE)
    assert _stream_views.scan(snapshot) is _stream_views.scan(snapshot)


def test_both_runbooks_ask_the_same_checks_about_servers_meta_group_and_quorum() -> None:
    shared = {c.code for c in RUNBOOK.checks} & {c.code for c in STUCK_CONSUMER.checks}
    assert shared == {"SERVER_ANSWERS", "META_QUORUM", "STREAM_QUORUM"}
    for code in shared:
        one, other = (next(c for c in r.checks if c.code == code) for r in (RUNBOOK, STUCK_CONSUMER))
        assert one is other


def test_a_snapshot_without_one_answer_is_never_well() -> None:
    findings = examined(based(BASE, lambda raw: raw["samples"].clear()))
    assert rank(findings).severity is UNKNOWN


# --- quorum


@pytest.mark.parametrize(("active", "severity"), [(10 * SECOND, OK), (10 * SECOND + 1, CRITICAL)])
def test_a_leader_that_hears_nobody_for_longer_than_raft_waits_has_no_quorum(active: int, severity: Severity) -> None:
    deaf = both(*(peer(name, current=False, active=active) for name in ("n1", "n2")))
    assert level("STREAM_QUORUM", deaf) is severity


@pytest.mark.parametrize(("seconds", "severity"), [(4.4, WARNING), (4.5, CRITICAL)])
def test_a_stream_without_leader_is_critical_after_its_settle_time(seconds: float, severity: Severity) -> None:
    nobody = each(streams, {"cluster.leader": ""})
    lost = worst("STREAM_QUORUM", nobody, apart(seconds), settle=5.0)
    assert (lost.severity, lost.cause) == (severity, True)
    assert "n0 names nobody, n1 names nobody, n2 names nobody" in lost.sentence


def test_a_stream_that_only_the_last_reading_finds_leaderless_is_a_warning() -> None:
    assert level("STREAM_QUORUM", each(streams, {"cluster.leader": ""}, at=1)) is WARNING


def test_a_leader_that_may_not_be_asked_is_unknown() -> None:
    assert level("STREAM_QUORUM", silence("n0"), silence("n1")) is UNKNOWN


def test_an_alert_about_one_stream_is_not_answered_with_another() -> None:
    nobody = each(streams, {"cluster.leader": ""})
    other = found("STREAM_QUORUM", nobody, focus=Focus(account="APP", stream="OTHER"))
    assert [f.severity for f in other] == [OK]
    named = found("STREAM_QUORUM", nobody, focus=Focus(account="ADCB2KZQ", stream="ORDERS"))
    assert [f.severity for f in named] == [CRITICAL]


# --- holders


def test_what_a_silent_server_held_is_unknown_and_said_once() -> None:
    (told,) = found("STREAM_HOLDER", silence("n2", "timed_out"))
    assert (told.severity, told.subject.server, told.subject.stream) == (UNKNOWN, "n2", None)
    assert "What was on n2 alone is unknown" in told.sentence


def test_a_server_that_may_not_be_asked_says_nothing_about_holders_by_itself() -> None:
    assert level("STREAM_HOLDER", silence("n2", "denied")) is OK


@pytest.mark.parametrize(("server", "severity"), [("n2", UNKNOWN), (None, CRITICAL)])
def test_a_named_stream_that_nobody_holds_is_unknown_while_a_server_is_silent(
    server: str | None, severity: Severity
) -> None:
    changes = [silence(server, "timed_out")] if server else []
    (told,) = found("STREAM_HOLDER", *changes, focus=Focus(account="APP", stream="GONE"))
    assert (told.severity, told.subject.stream) == (severity, "GONE")


def test_a_stream_whose_only_holder_falls_silent_between_two_readings_is_named() -> None:
    def single(raw: Raw) -> None:
        for server in ("n0", "n1"):
            gone(server)(raw)
        for sample in raw["samples"]:
            if sample["server"] == "n2" and sample["round"] == 1:
                sample |= {"data": None, "unknown": {"reason": "unreachable", "detail": "a test"}}

    away = [f for f in found("STREAM_HOLDER", single) if f.severity is CRITICAL]
    assert [(f.subject.stream, f.subject.consumer) for f in away] == [("ORDERS", None)]
    assert "was on n2 alone, which is silent now" in away[0].sentence


def test_a_consumer_whose_only_holder_falls_silent_is_named_and_its_stream_is_not() -> None:
    def single(raw: Raw) -> None:
        for server in ("n0", "n1"):
            for stream in streams(raw, server):
                stream["consumer_detail"] = [c for c in stream["consumer_detail"] if c["name"] != "worker"]
        for sample in raw["samples"]:
            if sample["server"] == "n2" and sample["round"] == 1:
                sample |= {"data": None, "unknown": {"reason": "unreachable", "detail": "a test"}}

    away = [f for f in found("STREAM_HOLDER", single) if f.severity is CRITICAL]
    assert [(f.subject.stream, f.subject.consumer) for f in away] == [("ORDERS", "worker")]


@pytest.mark.parametrize(
    ("subject", "answer", "named"),
    [
        ("APP:$JS.API.STREAM.LIST", {"missing": ["LOST"]}, {("LOST", None)}),
        ("APP:$JS.API.CONSUMER.LIST.ORDERS", {"missing": ["a", "b"]}, {("ORDERS", "a"), ("ORDERS", "b")}),
        ("APP:$JS.API.STREAM.LIST", {"missing": None}, set[Any]()),
        ("APP:$JS.API.STREAM.LIST", {"missing": "LOST"}, set[Any]()),
    ],
)
def test_what_the_api_lists_without_an_answer_is_critical(
    subject: str, answer: dict[str, Any], named: set[Any]
) -> None:
    base = based(BASE)
    snapshot = Snapshot(
        base.id, base.cluster, base.taken_at, base.via, base.servers, base.samples, base.expected, (), {subject: answer}
    )
    told = [f for f in examined(snapshot) if f.check == "STREAM_HOLDER" and f.severity is CRITICAL]
    assert {(f.subject.stream, f.subject.consumer) for f in told} == named


# --- nodes


def test_a_member_without_a_copy_is_found_on_its_server() -> None:
    lacking = worst("STREAM_NODE", gone("n2"))
    assert (lacking.severity, lacking.subject.server, lacking.subject.stream) == (CRITICAL, "n2", "ORDERS")
    assert "is a member of stream APP > ORDERS and has no copy" in lacking.sentence


def test_a_member_that_lacks_its_copy_in_the_last_reading_only_is_waited_for() -> None:
    lacking = worst("STREAM_NODE", gone("n2", at=1))
    assert (lacking.severity, "wait" in lacking.sentence) == (WARNING, True)


def test_a_silent_member_is_not_said_to_lack_anything() -> None:
    assert level("STREAM_NODE", silence("n2", "timed_out")) is OK


UNHEARD = peer("n2", current=False, active=3 * SECOND)
"""A member without a Raft node is not heard by its leader, or the glance over all streams finds nothing to look at."""


@pytest.mark.parametrize(
    ("change", "severity"),
    [
        (raft("n2", "APP", lambda groups: groups.pop(GROUP)), CRITICAL),
        (raft("n2", "APP", lambda groups: None), OK),
        (
            health("n2", {"type": "STREAM", "account": "APP", "stream": "ORDERS", "error": "x: group node missing"}),
            CRITICAL,
        ),
        (
            health("n2", {"type": "STREAM", "account": "APP", "stream": "ORDERS", "error": "x: group node unhealthy"}),
            OK,
        ),
        (
            health(
                "n2",
                {"type": "CONSUMER", "account": "APP", "stream": "ORDERS", "consumer": "c", "error": "node missing"},
            ),
            OK,
        ),
    ],
)
def test_a_missing_raft_node_is_told_from_raftz_or_from_the_servers_own_words(
    change: Change, severity: Severity
) -> None:
    assert level("STREAM_NODE", UNHEARD, change, name=WITH_RAFTZ) is severity


def test_an_account_that_raftz_does_not_know_proves_nothing() -> None:
    def forget(raw: Raw) -> None:
        for sample in raw["samples"]:
            if sample["endpoint"] == "RAFTZ" and sample["server"] == "n2":
                sample["data"].pop("APP")

    assert level("STREAM_NODE", UNHEARD, forget, name=WITH_RAFTZ) is OK


# --- second leaders


def lone_leader(server: str, at: int | None = None) -> Change:
    return each(streams, {"cluster.leader": server, "cluster.replicas": []}, server, at)


@pytest.mark.parametrize(("at", "severity"), [(None, CRITICAL), (1, WARNING), (0, OK)])
def test_a_second_leader_is_found_by_its_own_view(at: int | None, severity: Severity) -> None:
    split = worst("STREAM_SPLIT", lone_leader("n2", at))
    assert split.severity is severity
    if severity is not OK:
        assert "n0 (200 messages, last 200), n2 (200 messages, last 200); a majority names n0" in split.sentence


@pytest.mark.parametrize(
    ("version", "told"), [("2.11.2", True), ("2.11.3", False), ("2.10.28", True), ("2.10.29", False)]
)
def test_a_second_leader_names_the_issue_where_the_fix_is_missing(version: str, told: bool) -> None:
    def change(raw: Raw) -> None:
        for server in raw["servers"]:
            server["version"] = version

    assert bool(worst("STREAM_SPLIT", lone_leader("n2"), change).issue) is told


# --- members


@pytest.mark.parametrize(
    ("fields", "severity"),
    [
        ({"active": 5 * SECOND}, OK),
        ({"active": 5 * SECOND + 1}, CRITICAL),
        ({"offline": True}, CRITICAL),
        ({"active": 0, "current": False}, CRITICAL),
        ({"active": 0, "current": True}, OK),
        ({"active": SECOND, "current": False}, OK),
    ],
)
def test_a_member_that_its_leader_does_not_hear_is_away(fields: dict[str, Any], severity: Severity) -> None:
    away = worst("STREAM_MEMBERS", peer("n2", **fields))
    assert (away.severity, away.subject.server) == (severity, "n2" if severity is CRITICAL else None)


def test_a_member_that_is_away_in_the_last_reading_only_is_waited_for() -> None:
    away = worst("STREAM_MEMBERS", peer("n2", at=1, offline=True))
    assert (away.severity, "wait" in away.sentence) == (WARNING, True)


def test_a_group_without_quorum_is_not_said_to_go_on() -> None:
    lost = both(*(peer(name, current=False, active=11 * SECOND) for name in ("n1", "n2")))
    assert level("STREAM_MEMBERS", lost) is OK


def test_a_dead_server_is_one_finding_and_not_one_per_stream() -> None:
    def many(raw: Raw) -> None:
        for sample in raw["samples"]:
            for account in (sample["data"] or {}).get("account_details") or [] if sample["endpoint"] == "JSZ" else []:
                account["stream_detail"] += [account["stream_detail"][0] | {"name": f"S{n}"} for n in range(200)]

    (away,) = found("STREAM_MEMBERS", many, peer("n2", active=30 * SECOND))
    assert (away.subject.server, away.subject.stream, away.evidence["count"]) == ("n2", None, 201)
    assert "201 streams (APP > ORDERS, APP > S0, " in away.sentence


def test_a_group_with_too_few_members_is_found() -> None:
    def shrink(raw: Raw) -> None:
        gone("n2")(raw)
        for stream in streams(raw):
            stream["cluster"]["replicas"] = [r for r in stream["cluster"]["replicas"] if r["name"] != "n2"]

    short = worst("STREAM_MEMBERS", shrink)
    assert short.severity is CRITICAL
    assert "has 2 members (n0, n1), its configuration asks for 3" in short.sentence


def test_without_a_configuration_the_number_of_members_is_unknown() -> None:
    assert level("STREAM_MEMBERS", each(streams, {"config": None})) is UNKNOWN


# --- lag


def lag(first: int, last: int, at: tuple[int, int] = (200, 200)) -> Change:
    """n2 lags so many operations, and stands at these sequences, in the first and in the last reading."""
    return both(
        peer("n2", at=0, lag=first, current=False),
        peer("n2", at=1, lag=last, current=False),
        each(streams, {"state.last_seq": at[0]}, "n2", 0),
        each(streams, {"state.last_seq": at[1]}, "n2", 1),
    )


def leads(first: int, last: int) -> Change:
    return both(
        *(each(streams, {"state.last_seq": first}, s, 0) for s in ("n0", "n1")),
        *(each(streams, {"state.last_seq": last}, s, 1) for s in ("n0", "n1")),
    )


@pytest.mark.parametrize(("operations", "severity"), [(200, OK), (201, CRITICAL)])
def test_a_member_that_lags_and_does_not_move_is_stuck(operations: int, severity: Severity) -> None:
    stuck = worst("STREAM_LAG", lag(operations, operations, (100, 100)), leads(200, 290))
    assert stuck.severity is severity
    if severity is CRITICAL:
        assert (stuck.subject.server, stuck.evidence["lag"]) == ("n2", [201, 201])
        assert "201 operations and 190 messages behind its leader, at 100 of 290" in stuck.sentence


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lag(500, 499, (10, 10)), "the gap shrinks within 1.0 s, so it catches up: wait"),
        (both(lag(500, 500, (10, 500)), leads(900, 900)), "the gap shrinks within 1.0 s, so it catches up: wait"),
        (both(lag(500, 600, (100, 900)), leads(900, 2_000)), "so it follows the load"),
        (both(lag(0, 201, (200, 200)), leads(200, 600)), "follows the load"),
        (lag(0, 201, (200, 199)), "seen in the last reading only; after a restart"),
    ],
)
def test_a_member_that_moves_is_waited_for(change: Change, says: str) -> None:
    moving = worst("STREAM_LAG", change)
    assert (moving.severity, says in moving.sentence) == (WARNING, True), moving.sentence


@pytest.mark.parametrize(("messages", "severity"), [(200, OK), (201, CRITICAL)])
def test_a_member_that_copies_a_snapshot_has_no_lag_and_is_behind_all_the_same(
    messages: int, severity: Severity
) -> None:
    assert level("STREAM_LAG", leads(1_000, 1_000), lag(0, 0, (1_000 - messages, 1_000 - messages))) is severity


def test_servers_that_answer_at_different_times_do_not_count_as_behind() -> None:
    assert level("STREAM_LAG", leads(1_000, 9_000), lag(3, 5, (600, 8_000))) is OK


def test_one_reading_of_a_lag_asks_for_another() -> None:
    seen = worst("STREAM_LAG", lag(201, 201), once)
    assert (seen.severity, "only a further one tells" in seen.sentence) == (WARNING, True)


@pytest.mark.parametrize(("seconds", "severity"), [(4.4, WARNING), (4.5, CRITICAL)])
def test_a_member_is_stuck_only_after_the_settle_time(seconds: float, severity: Severity) -> None:
    assert level("STREAM_LAG", lag(300, 300, (10, 10)), apart(seconds), settle=5.0) is severity


def test_a_small_gap_that_stays_while_nothing_is_written_is_a_warning() -> None:
    stays = worst("STREAM_LAG", lag(12, 12, (188, 188)))
    assert (stays.severity, "nothing is written and the gap stays" in stays.sentence) == (WARNING, True)


def test_a_member_that_is_not_heard_is_left_to_the_check_of_members() -> None:
    assert level("STREAM_LAG", lag(900, 900), peer("n2", active=6 * SECOND)) is OK
