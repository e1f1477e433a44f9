"""The stuck-consumer runbook on recorded answers, varied by hand at the thresholds."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from bot.flow.ranking import rank
from bot.model import Finding, Focus, Severity, Snapshot
from bot.runbook import Proposed
from runbooks.stuck_consumer import RUNBOOK
from tests.unit.runbooks.deploy_support import before, healthy, probe
from tests.unit.snapshots import Raw, answers, both, config, consumers, position, recorded, streams

FOCUS = Focus(account="APP", stream="ORDERS", consumer="worker")
PULLING = position(waiting=1)


def paused(raw: Raw) -> None:
    for consumer in consumers(raw):
        consumer["paused"] = True


def examined(snapshot: Snapshot, focus: Focus = FOCUS) -> dict[str, list[Finding]]:
    values = RUNBOOK.values()
    checks = [check for check in RUNBOOK.checks if check.applies(snapshot)]
    return {check.code: list(check.examine(snapshot, values, focus)) for check in checks}


def proposed(snapshot: Snapshot, focus: Focus = FOCUS) -> list[Proposed]:
    findings = [f for found in examined(snapshot, focus).values() for f in found]
    return list(RUNBOOK.propose(snapshot, findings, RUNBOOK.values(), focus))


def worst(snapshot: Snapshot, check: str) -> Finding:
    return max(examined(snapshot)[check], key=lambda f: f.severity.rank)


def titles(snapshot: Snapshot) -> list[str]:
    return [p.draft.title for p in proposed(snapshot)]


def second_round_after(seconds: float) -> Callable[[Raw], None]:
    def change(raw: Raw) -> None:
        first = [s for s in raw["samples"] if s["endpoint"] == "JSZ" and s["round"] == 0]
        start = max(datetime.fromisoformat(s["taken_at"]) for s in first)
        for sample in raw["samples"]:
            if sample["endpoint"] == "JSZ" and sample["round"] == 1:
                sample["taken_at"] = (start + timedelta(seconds=seconds)).isoformat()

    return change


def test_a_healthy_cluster_has_no_finding_and_no_proposal() -> None:
    snapshot = recorded("healthy_2.15.1", both(PULLING, position(pending=0)))
    findings = [f for found in examined(snapshot).values() for f in found]
    assert {f.severity for f in findings} == {Severity.OK}
    assert proposed(snapshot) == []


def test_a_snapshot_without_one_answer_breaks_no_check_and_is_never_healthy() -> None:
    snapshot = recorded("healthy_2.15.1", lambda raw: raw["samples"].clear())
    findings = [f for found in examined(snapshot).values() for f in found]
    assert rank(findings).severity is Severity.UNKNOWN


def test_every_check_says_something_about_a_healthy_cluster() -> None:
    assert all(examined(recorded("healthy_2.15.1")).values())


def test_the_limit_is_the_root_where_it_can_be_read() -> None:
    findings = [f for found in examined(recorded("split_2.11.11")).values() for f in found]
    root = rank(findings).root
    assert root is not None
    assert (root.check, root.subject.server, root.cause) == ("HA_ASSETS", "n1", True)
    assert "6 Raft groups and its max_ha_assets is 5" in root.sentence


def test_the_limit_is_unknown_and_named_where_it_cannot_be_read() -> None:
    snapshot = recorded("split_2.10.26")
    assert worst(snapshot, "HA_ASSETS").severity is Severity.UNKNOWN
    node = worst(snapshot, "CONSUMER_NODE")
    assert node.severity is Severity.CRITICAL
    assert "max_ha_assets, which 2.10.26 does not report" in node.sentence


def test_a_missing_raft_node_and_its_ghost_are_found_on_the_right_server() -> None:
    snapshot = recorded("split_room_2.11.11")
    node = worst(snapshot, "CONSUMER_NODE")
    assert (node.severity, node.subject.server) == (Severity.CRITICAL, "n1")
    assert "from position 0; seen for 15" in node.sentence
    split = worst(snapshot, "CONSUMER_SPLIT")
    assert "n0 (ack floor 50, delivered 60), n1 (ack floor 0, delivered 0); a majority names n0" in split.sentence


def test_the_missing_node_is_found_without_the_servers_own_words() -> None:
    def silence(raw: Raw) -> None:
        for healthz in answers(raw, "HEALTHZ"):
            healthz.clear()
            healthz["status"] = "ok"

    assert worst(recorded("split_room_2.11.11", silence), "CONSUMER_NODE").subject.server == "n1"


def test_the_missing_node_is_found_without_raftz() -> None:
    def silence(raw: Raw) -> None:
        raw["samples"] = [s for s in raw["samples"] if s["endpoint"] != "RAFTZ"]

    assert worst(recorded("split_room_2.11.11", silence), "CONSUMER_NODE").severity is Severity.CRITICAL


def no_stream_leader(raw: Raw) -> None:
    for stream in streams(raw):
        stream["cluster"]["leader"] = ""


def no_leader(raw: Raw) -> None:
    for consumer in consumers(raw):
        consumer["cluster"]["leader"] = ""


def one_member_more(raw: Raw) -> None:
    for consumer in consumers(raw):
        consumer["config"]["num_replicas"] = 2


SICK_GROUPS = [
    ("CONSUMER_NODE", "split_room_2.11.11", both()),
    ("CONSUMER_SPLIT", "split_room_2.11.11", both()),
    ("STREAM_QUORUM", "healthy_2.15.1", no_stream_leader),
    ("CONSUMER_LEADER", "healthy_2.15.1", no_leader),
    ("CONSUMER_MEMBERS", "healthy_2.15.1", one_member_more),
]


@pytest.mark.parametrize(
    ("seconds", "severity"), [(13.4, Severity.WARNING), (13.5, Severity.CRITICAL), (13.6, Severity.CRITICAL)]
)
@pytest.mark.parametrize(("check", "name", "change"), SICK_GROUPS)
def test_a_sick_group_is_an_incident_only_after_its_settle_time(
    check: str, name: str, change: Callable[[Raw], None], seconds: float, severity: Severity
) -> None:
    assert worst(recorded(name, both(change, second_round_after(seconds))), check).severity is severity


@pytest.mark.parametrize(
    ("seconds", "severity"), [(13.4, Severity.UNKNOWN), (13.5, Severity.CRITICAL), (13.6, Severity.CRITICAL)]
)
def test_a_delivery_that_stands_still_for_less_than_the_settle_time_tells_nothing(
    seconds: float, severity: Severity
) -> None:
    snapshot = recorded("healthy_2.15.1", both(PULLING, second_round_after(seconds)))
    assert worst(snapshot, "CONSUMER_DELIVERS").severity is severity


@pytest.mark.parametrize(
    ("count", "severity"), [(4, Severity.OK), (5, Severity.OK), (6, Severity.WARNING), (7, Severity.WARNING)]
)
def test_a_server_refuses_raft_groups_above_its_limit(count: int, severity: Severity) -> None:
    # "More than" is compared before one is created: with 5 allowed the sixth still comes to be, and the seventh does not (drills.md 3.3).
    def change(raw: Raw) -> None:
        for jsz in answers(raw, "JSZ", "n0"):
            jsz["ha_assets"] = count
            jsz["limits"] = {"max_ha_assets": 5}

    assert worst(recorded("healthy_2.15.1", change), "HA_ASSETS").severity is severity


def test_what_only_the_last_reading_shows_is_a_warning() -> None:
    def heal_first(raw: Raw) -> None:
        (good,) = consumers(raw, "n2", 0)
        (ghost,) = consumers(raw, "n1", 0)
        ghost["cluster"] = good["cluster"]
        for leader in consumers(raw, "n0", 0):
            for replica in leader["cluster"]["replicas"]:
                replica |= {"current": True, "active": 1}

    found = worst(recorded("split_room_2.11.11", heal_first), "CONSUMER_SPLIT")
    assert (found.severity, "seen in the last reading only" in found.sentence) == (Severity.WARNING, True)


def test_a_silent_server_is_named_as_the_root_cause() -> None:
    findings = [f for found in examined(recorded("frozen_2.15.1")).values() for f in found]
    root = rank(findings).root
    assert root is not None
    assert (root.check, root.subject.server) == ("SERVER_ANSWERS", "n1")


def test_a_server_that_may_not_be_asked_is_unknown_and_never_ok() -> None:
    def deny(raw: Raw) -> None:
        for sample in raw["samples"]:
            if sample["server"] == "n1":
                sample |= {"data": None, "unknown": {"reason": "denied", "detail": "Permissions Violation"}}

    found = worst(recorded("healthy_2.15.1", deny), "SERVER_ANSWERS")
    assert (found.severity, found.cause) == (Severity.UNKNOWN, False)


def test_without_a_majority_the_consumer_has_no_leader() -> None:
    def change(raw: Raw) -> None:
        for server in ("n0", "n2"):
            for consumer in consumers(raw, server):
                consumer["cluster"]["leader"] = ""

    found = worst(recorded("split_room_2.11.11", change), "CONSUMER_LEADER")
    assert found.severity is Severity.CRITICAL
    assert "n0 names nobody, n1 names n1, n2 names nobody" in found.sentence


@pytest.mark.parametrize(("active", "severity"), [(10_000_000_000, Severity.OK), (10_000_000_001, Severity.CRITICAL)])
def test_a_lone_survivor_that_calls_itself_leader_has_no_quorum(active: int, severity: Severity) -> None:
    def change(raw: Raw) -> None:
        for consumer in consumers(raw):
            for replica in consumer["cluster"].get("replicas", []):
                replica |= {"current": False, "active": active}

    assert worst(recorded("healthy_2.15.1", change), "CONSUMER_LEADER").severity is severity


@pytest.mark.parametrize(("pending", "severity"), [(0, Severity.OK), (1, Severity.WARNING), (2, Severity.WARNING)])
def test_messages_that_nobody_asks_for_are_told_from_the_first_on(pending: int, severity: Severity) -> None:
    snapshot = recorded("healthy_2.15.1", position(pending=pending, waiting=0))
    assert worst(snapshot, "CONSUMER_CLIENTS").severity is severity


@pytest.mark.parametrize(("pending", "severity"), [(0, Severity.OK), (1, Severity.CRITICAL), (2, Severity.CRITICAL)])
def test_a_consumer_that_holds_back_what_is_asked_for_is_stuck(pending: int, severity: Severity) -> None:
    snapshot = recorded("healthy_2.15.1", both(PULLING, position(pending=pending)))
    assert worst(snapshot, "CONSUMER_DELIVERS").severity is severity


@pytest.mark.parametrize(
    ("version", "kinds"),
    [("2.13.9", ["consumer.step_down"]), ("2.14.0", ["consumer.step_down", "consumer.reset"])],
)
def test_a_stuck_but_whole_group_is_offered_a_step_down_then_a_reset_and_no_deletion(
    version: str, kinds: list[str]
) -> None:
    def running(raw: Raw) -> None:
        for server in raw["servers"]:
            server["version"] = version

    offered = proposed(recorded("healthy_2.15.1", both(PULLING, running)))
    assert [kind for p in offered for kind, _ in p.draft.stages] == kinds
    assert [p.draft.rung is not None for p in offered] == [True] * len(kinds)


def test_delivery_in_between_is_no_standstill() -> None:
    def move(raw: Raw) -> None:
        for consumer in consumers(raw, at=1):
            consumer["delivered"]["consumer_seq"] += 1

    assert worst(recorded("healthy_2.15.1", both(PULLING, move)), "CONSUMER_DELIVERS").severity is Severity.OK


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (both(PULLING, config(max_ack_pending=6)), "its workers do not acknowledge"),
        (both(PULLING, config(max_ack_pending=7)), "its workers do not acknowledge"),
        (both(PULLING, paused), "it is paused"),
        (position(waiting=0), "nobody asks for them"),
    ],
)
def test_reasons_on_the_clients_side_are_said_and_nothing_is_offered_to_run(
    change: Callable[[Raw], None], why: str
) -> None:
    snapshot = recorded("healthy_2.15.1", change)
    found = worst(snapshot, "CONSUMER_CLIENTS")
    assert found.severity is Severity.WARNING
    assert why in found.sentence
    assert worst(snapshot, "CONSUMER_DELIVERS").severity is Severity.OK
    assert [p.draft.stages for p in proposed(snapshot)] == [()]


def test_one_free_place_in_max_ack_pending_is_not_full() -> None:
    assert (
        worst(recorded("healthy_2.15.1", both(PULLING, config(max_ack_pending=8))), "CONSUMER_CLIENTS").severity
        is Severity.OK
    )


def test_a_consumer_that_nobody_reports_is_unknown_while_a_server_is_silent() -> None:
    lost = Focus(stream="ORDERS", consumer="gone")
    assert examined(recorded("healthy_2.15.1"), lost)["CONSUMER_EXISTS"][0].severity is Severity.CRITICAL
    assert examined(recorded("frozen_2.15.1"), lost)["CONSUMER_EXISTS"][0].severity is Severity.UNKNOWN


def test_an_account_label_that_servers_do_not_know_hides_nothing() -> None:
    by_id = Focus(account="ADCB2KZQ", stream="ORDERS", consumer="worker")
    findings = examined(recorded("split_room_2.11.11"), by_id)
    assert findings["CONSUMER_NODE"][0].severity is Severity.CRITICAL
    assert findings["CONSUMER_EXISTS"][0].severity is Severity.OK


def test_members_outside_the_streams_are_found() -> None:
    def change(raw: Raw) -> None:
        for stream in streams(raw):
            for replica in stream["cluster"]["replicas"]:
                if "leader_since" in stream["cluster"]:
                    replica["name"] = f"{replica['name']}-new"

    found = worst(recorded("healthy_2.15.1", change), "CONSUMER_MEMBERS")
    assert found.severity is Severity.CRITICAL
    assert "has members that its stream has not: " in found.sentence


def test_a_cause_that_is_there_comes_first_and_recreation_is_refused_with_it() -> None:
    offered = proposed(recorded("split_2.11.11"))
    assert offered[0].draft.title == "Give server n1 room for Raft groups"
    assert offered[-1].draft.title.endswith("not now")
    assert all(p.draft.stages == () for p in offered)


def test_without_the_cause_the_restart_that_keeps_the_position_comes_before_recreation() -> None:
    assert titles(recorded("split_room_2.11.11")) == [
        "Restart server n1",
        "Delete consumer worker and create it again at its position",
    ]


@pytest.mark.parametrize(
    ("version", "advised"),
    [("2.11.2", True), ("2.11.3", False), ("2.10.28", True), ("2.10.29", False), ("2.12.0", False)],
)
def test_an_upgrade_is_advised_exactly_where_the_fix_is_missing(version: str, advised: bool) -> None:
    def change(raw: Raw) -> None:
        for server in raw["servers"]:
            server["version"] = version

    assert ("Upgrade nats-server" in titles(recorded("split_room_2.11.11", change))) is advised


def test_names_from_the_cluster_are_quoted_in_commands() -> None:
    def rename(raw: Raw) -> None:
        for stream in streams(raw):
            for consumer in stream["consumer_detail"]:
                consumer["name"] = "a;rm"

    offered = proposed(recorded("healthy_2.15.1", rename), Focus(stream="ORDERS"))
    assert any("'a;rm'" in line for p in offered for line in p.draft.guidance)


OF_KUBERNETES = {"DEPLOY_PODS", "DEPLOY_PROBE_KILLS", "DEPLOY_PROBES"}


def test_pods_and_probes_are_looked_at_where_the_cluster_runs_on_kubernetes_and_only_there() -> None:
    assert not OF_KUBERNETES & examined(recorded("split_room_2.11.11")).keys()
    snapshot = replace(recorded("split_room_2.11.11"), kubernetes=healthy().facts())
    assert {f.severity for code in OF_KUBERNETES for f in examined(snapshot)[code]} == {Severity.OK}


def test_a_pod_that_is_not_ready_stands_beside_the_consumer_that_is_the_root() -> None:
    world = healthy()
    world.unready(1)
    snapshot = replace(recorded("split_room_2.11.11"), kubernetes=world.facts())
    verdict = rank([f for found in examined(snapshot).values() for f in found])
    assert verdict.root is not None
    assert verdict.root.check == "CONSUMER_NODE"
    assert [f.subject.server for f in verdict.others if f.check == "DEPLOY_PODS"] == ["nats-1"]


def test_a_probe_that_kills_a_server_for_one_sick_consumer_is_changed_before_the_consumer() -> None:
    world = healthy()
    world.everywhere(lambda container: container.update(livenessProbe=probe("/healthz", 1, 10, 3)))
    world.event("Pod", "nats-1", "Unhealthy", "Liveness probe failed: HTTP probe failed with statuscode: 503")
    world.event("Pod", "nats-1", "Killing", "Container nats failed liveness probe, will be restarted")
    died = {"terminated": {"reason": "Error", "exitCode": 137, "finishedAt": before(30)}}
    world.status(1).update(restartCount=4, lastState=died)
    told = proposed(replace(recorded("split_room_2.11.11"), kubernetes=world.facts()))
    assert told[0].draft.title == "Keep the liveness probe from killing servers that catch up"
    assert any("at its position" in p.draft.title for p in told[1:])
