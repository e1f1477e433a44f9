"""Every check of every runbook on snapshots of real servers (`python -m tests.record`). Runbooks and recordings are found, not listed."""

from collections.abc import Mapping
from functools import cache

import pytest

from bot.adapters.archive import content_digest
from bot.bootstrap import archive_of, report_on, snapshot_of_archive
from bot.flow.examination import judge
from bot.flow.ranking import rank
from bot.model import Endpoint, Finding, Focus, Severity, Snapshot
from tests.scenarios import SCENARIOS
from tests.unit.runbooks.every_check import CHECKS, OPT_IN, REGISTRY, examine
from tests.unit.snapshots import recorded, recordings

LINES = ("2.10", "2.11", "2.12", "2.15")

HEALTHY = {"kinds", "audit", "mesh_healthy", "meta_healthy", "overload_idle"}
DECOYS = {
    *("healthy", "ack_pending", "no_pulls", "paused", "mesh_pool_off", "mesh_no_advertise"),
    *("meta_churn", "meta_stuck"),
}
"""Scenarios that only look sick: the clients or an owner's wish are the reason, nothing is wrong at all, or the servers are too young to say (the thresholds
of a lab in test_readiness.py know more).
"""

SICK: Mapping[str, Mapping[str, str]] = {
    "frozen": {"STUCK_CONSUMER": "SERVER_ANSWERS n1", "CLUSTER_AUDIT": "AUDIT_SERVERS n1"},
    "meta_frozen": {
        "STUCK_CONSUMER": "SERVER_ANSWERS",
        "CLUSTER_AUDIT": "AUDIT_SERVERS",
        "READINESS": "META_PEERS",
    },
    # Before 2.15 only a meta leader names the members, so the two that died are not known.
    "meta_leaderless": {"CLUSTER_AUDIT": "AUDIT_META_LEADER", "READINESS": "META_MARGIN"},
    "killed": {"STUCK_CONSUMER": "SERVER_ANSWERS n1", "CLUSTER_AUDIT": "AUDIT_SERVERS n1"},
    "split": {"STUCK_CONSUMER": "HA_ASSETS n1"},
    "split_room": {"STUCK_CONSUMER": "CONSUMER_NODE n1"},
    "leaderless": {"STUCK_CONSUMER": "SERVER_ANSWERS", "CLUSTER_AUDIT": "AUDIT_SERVERS"},
    "leaderless_single": {"STUCK_CONSUMER": "SERVER_ANSWERS", "CLUSTER_AUDIT": "AUDIT_SERVERS"},
    "mesh_seed": {"ROUTE_MESH": "MESH_LISTS"},
    "mesh_islands": {"ROUTE_MESH": "MESH_ISLANDS"},
    "mesh_headless": {"ROUTE_MESH": "MESH_LISTS"},
    "mesh_cut": {"ROUTE_MESH": "MESH_LISTS"},
    "overload_flood": {"OVERLOAD": "OVERLOAD_API_QUEUE"},
    "history_ahead": {"STREAM_GROUPS": "STREAM_TIMELINE n2", "CLUSTER_AUDIT": "AUDIT_REPLICA_LAG"},
    "history_outside": {"STREAM_GROUPS": "STREAM_TIMELINE n2", "CLUSTER_AUDIT": "AUDIT_REPLICA_LAG"},
    "history_away": {"STREAM_GROUPS": "SERVER_ANSWERS n2", "CLUSTER_AUDIT": "AUDIT_SERVERS n2"},
    "standalone": {"STREAM_GROUPS": "STREAM_TIMELINE n0"},
    "members": {"STREAM_GROUPS": "SERVER_ANSWERS n1", "CLUSTER_AUDIT": "AUDIT_SERVERS n1"},
}
"""The root that a runbook must name, and the server where there is one right one. All runbooks together must name one of these roots too."""

SPECIAL: Mapping[str, Mapping[str, str]] = {
    # 2.10 does not report its limit, so the limit is unknown and the damage is the root (drills.md 3.3).
    "split_2.10.26": {"STUCK_CONSUMER": "CONSUMER_NODE n1"},
}

CONSEQUENCES: Mapping[str, frozenset[str]] = {
    "split": frozenset({"CONSUMER_NODE", "CONSUMER_SPLIT"}),
    "split_room": frozenset({"CONSUMER_SPLIT"}),
    "leaderless": frozenset({"STREAM_QUORUM", "CONSUMER_LEADER"}),
    "mesh_seed": frozenset({"MESH_PAIRS", "MESH_DELIVERY"}),
    "mesh_islands": frozenset({"MESH_PAIRS", "MESH_DELIVERY"}),
    "mesh_headless": frozenset({"MESH_SLOTS"}),
    "history_away": frozenset({"STREAM_MEMBERS"}),
    "members": frozenset({"STREAM_MEMBERS"}),
    "mesh_cut": frozenset({"MESH_PAIRS", "MESH_DELIVERY"}),
}
"""What else must be critical there."""

NOT_KNOWN: Mapping[tuple[str, str], str] = {
    (
        "META_GAP",
        "mesh_healthy_2.10",
    ): "one reading of a cluster that has just started can't tell whether a gap comes and goes",
}
"""Why a check (by its code) can't know on healthy recordings that begin like this, e.g. `("API_QUEUE", "kinds_2.10")`: the fact is not in that version."""


def scenario(name: str) -> str:
    return name.rpartition("_")[0]


def made_by(name: str) -> str:
    """The scenario that makes this recording; some make several, told apart by a suffix."""
    whole = scenario(name)
    return whole if whole in SCENARIOS else whole.rpartition("_")[0]


def line(name: str) -> str:
    return ".".join(name.rpartition("_")[2].split(".")[:2])


SOUND = [name for name in recordings() if scenario(name) in HEALTHY]
QUIET = SOUND + [name for name in recordings() if scenario(name) in DECOYS]
BROKEN = [name for name in recordings() if scenario(name) in SICK]


@cache
def snapshot_of(name: str) -> Snapshot:
    return recorded(name)


@cache
def examined(name: str, code: str) -> tuple[Finding, ...]:
    return tuple(examine(snapshot_of(name), code))


def known_reason(code: str, name: str) -> str | None:
    return next((why for (check, prefix), why in NOT_KNOWN.items() if check == code and name.startswith(prefix)), None)


def answered(name: str, endpoint: Endpoint) -> bool:
    """Whether every server of the recording answered."""
    snapshot = snapshot_of(name)
    return all(snapshot.data(server, endpoint) is not None for server in snapshot.expected)


def test_every_recording_is_judged_here() -> None:
    judged = {*SOUND, *QUIET, *BROKEN}
    assert judged == set(recordings())
    assert {made_by(name) for name in judged} | {"peer"} == SCENARIOS.keys()


@pytest.mark.parametrize("name", recordings())
def test_a_recording_holds_every_endpoint_and_every_round_and_survives_its_archive(name: str) -> None:
    snapshot, wanted = snapshot_of(name), SCENARIOS[made_by(name)]
    for server in snapshot.expected:
        for endpoint in wanted.endpoints:
            rounds = range(max(1, snapshot.readings(endpoint)))
            assert all(snapshot.sample(server, endpoint, n) is not None for n in rounds), (server, endpoint)
    assert max(snapshot.readings(endpoint) for endpoint in wanted.endpoints) == wanted.rounds
    assert content_digest(snapshot_of_archive(archive_of(snapshot))) == content_digest(snapshot)


@pytest.mark.parametrize("of_line", LINES)
@pytest.mark.parametrize("code", CHECKS)
def test_every_check_has_a_real_server_of_every_line_to_look_at(code: str, of_line: str) -> None:
    names = [name for name in SOUND if line(name) == of_line]
    looked = [
        name
        for name in names
        if all(answered(name, endpoint) for endpoint in CHECKS[code][1].needs)
        and any(f.severity is not Severity.UNKNOWN for f in examined(name, code))
    ]
    assert looked or all(known_reason(code, name) for name in names)


@pytest.mark.parametrize("name", QUIET)
def test_a_healthy_cluster_has_no_critical_finding_and_none_unknown_without_a_reason(name: str) -> None:
    silent = {code for code in CHECKS if not examined(name, code)}
    assert silent <= OPT_IN.keys()
    findings = [finding for code in CHECKS for finding in examined(name, code)]
    assert [f"{f.check}: {f.sentence}" for f in findings if f.severity is Severity.CRITICAL] == []
    unknown = {f.check: f.sentence for f in findings if f.severity is Severity.UNKNOWN}
    assert unknown.keys() == {code for code in CHECKS if known_reason(code, name)}, unknown


@pytest.mark.parametrize("of_line", LINES)
def test_every_check_of_nats_audit_has_its_counterpart(of_line: str) -> None:
    names = [name for name in SOUND if line(name) == of_line]
    found = {finding.counterpart for name in names for code in CHECKS for finding in examined(name, code)}
    assert found - {None} == {
        *("ACCOUNTS_001", "LEAF_001", "META_001", "META_002", *(f"CLUSTER_00{n}" for n in range(1, 5))),
        *(f"SERVER_00{n}" for n in range(1, 9)),
        *(f"JETSTREAM_00{n}" for n in range(1, 6)),
    }


@pytest.mark.parametrize("name", BROKEN)
def test_a_sick_cluster_is_found_with_its_root(name: str) -> None:
    wanted = SPECIAL.get(name) or SICK[scenario(name)]
    roots: set[str] = set()
    for runbook in REGISTRY.runbooks:
        if (root := wanted.get(runbook.code)) is not None:
            verdict = rank([f for c in runbook.checks if c.code in CHECKS for f in examined(name, c.code)])
            assert verdict.root is not None
            assert (verdict.severity, verdict.root.check) == (Severity.CRITICAL, root.split()[0])
            assert root.split()[1:] in ([], [verdict.root.subject.server])
            roots.add(verdict.root.check)
    critical = {f.check for code in CHECKS for f in examined(name, code) if f.severity is Severity.CRITICAL}
    assert CONSEQUENCES.get(scenario(name), frozenset()) <= critical
    together = report_on(snapshot_of(name), judge(snapshot_of(name), REGISTRY.runbooks, {}, Focus()), REGISTRY).verdict
    assert together.root is not None
    assert (together.severity, together.root.check in roots) == (Severity.CRITICAL, True), together.sentence
