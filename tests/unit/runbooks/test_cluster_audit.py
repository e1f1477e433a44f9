"""The cluster audit on recorded answers, varied by hand at every threshold. Streams, metadata, versions: the files beside it."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from bot.model import Severity
from runbooks.cluster_audit import RUNBOOK
from tests.unit.runbooks.audit_support import (
    NEWEST,
    VERSIONS,
    Change,
    drop,
    examined,
    once,
    proposed,
    put,
    severity,
    silence,
    worst,
)
from tests.unit.snapshots import Raw, answers, recorded

OK, WARNING, CRITICAL, UNKNOWN = Severity.OK, Severity.WARNING, Severity.CRITICAL, Severity.UNKNOWN


@pytest.mark.parametrize("version", VERSIONS)
def test_a_healthy_cluster_has_nothing_but_the_defects_of_its_version(version: str) -> None:
    found = examined(recorded(f"audit_{version}"))
    bad = {check for check, findings in found.items() if any(f.severity is not OK for f in findings)}
    assert bad <= {"AUDIT_DEFECTS"}
    assert all(f.severity is not CRITICAL for findings in found.values() for f in findings)


@pytest.mark.parametrize("check", [check.code for check in RUNBOOK.checks])
def test_no_check_is_ok_where_a_server_may_not_be_asked(check: str) -> None:
    found = worst(check, silence("n1"))
    assert found.severity is UNKNOWN
    assert "denied" in found.sentence


@pytest.mark.parametrize("check", [check.code for check in RUNBOOK.checks])
def test_no_check_is_ok_without_any_answer(check: str) -> None:
    def nothing(raw: Raw) -> None:
        raw["samples"], raw["servers"], raw["expected"] = [], [], []

    assert severity(check, nothing) is UNKNOWN


@pytest.mark.parametrize(("reason", "level"), [("timed_out", CRITICAL), ("unreachable", CRITICAL), ("denied", UNKNOWN)])
def test_a_silent_server_is_critical_and_one_that_may_not_be_asked_is_unknown(reason: str, level: Severity) -> None:
    assert severity("AUDIT_SERVERS", silence("n2", reason)) is level


def operator(used: str, count: int, limit: str, most: int) -> Change:
    def change(raw: Raw) -> None:
        put("VARZ", "trusted_operators_claim", [{}])(raw)
        detail = {"account_name": "APP", used: count, "decoded_jwt": {"nats": {"limits": {limit: most}}}}
        put("ACCOUNTZ", "account_detail", detail)(raw)

    return change


@pytest.mark.parametrize(
    ("used", "limit"), [("client_connections", "conn"), ("leafnode_connections", "leaf"), ("subscriptions", "subs")]
)
@pytest.mark.parametrize(("count", "level"), [(89, OK), (90, OK), (91, WARNING), (100, WARNING), (101, CRITICAL)])
def test_accounts_001_at_its_limits(used: str, limit: str, count: int, level: Severity) -> None:
    assert severity("AUDIT_ACCOUNT_LIMITS", operator(used, count, limit, 100)) is level


def test_accounts_001_knows_no_limit_where_the_jwt_sets_none() -> None:
    assert severity("AUDIT_ACCOUNT_LIMITS", operator("subscriptions", 10**6, "subs", -1)) is OK


def test_accounts_001_is_unknown_with_an_operator_and_without_the_accounts_details() -> None:
    assert severity("AUDIT_ACCOUNT_LIMITS", put("VARZ", "trusted_operators_claim", [{}])) is UNKNOWN


@pytest.mark.parametrize(("mem", "level"), [(199, OK), (200, OK), (201, WARNING)])
def test_cluster_001_at_its_factor(mem: int, level: Severity) -> None:
    assert severity("AUDIT_MEMORY_OUTLIER", put("VARZ", "mem", 100), put("VARZ", "mem", mem, "n0")) is level


def gateways(n2: dict[str, Any], direction: str = "outbound_gateways") -> Change:
    def change(raw: Raw) -> None:
        put("VARZ", "gateway", {"name": "east"})(raw)
        same: Any = {"configured": True}
        put("GATEWAYZ", direction, {"west": same if direction == "outbound_gateways" else [same]})(raw)
        put("GATEWAYZ", direction, n2, "n2")(raw)

    return change


@pytest.mark.parametrize(
    ("change", "level"),
    [
        (gateways({"west": {"configured": True}}), OK),
        (gateways({"west": {"configured": True}, "gossiped": {"configured": False}}), OK),
        (gateways({}), CRITICAL),
        (gateways({"west": {"configured": False}}), CRITICAL),
        (gateways({"west": [{"configured": True}]}, "inbound_gateways"), OK),
        (gateways({"west": [{}]}, "inbound_gateways"), CRITICAL),
        (put("VARZ", "gateway", {"name": "east"}), OK),
    ],
)
def test_cluster_002_compares_configured_gateways(change: Change, level: Severity) -> None:
    assert severity("AUDIT_GATEWAYS", change) is level


@pytest.mark.parametrize(("count", "level"), [(999, OK), (1000, OK), (1001, WARNING)])
def test_cluster_003_at_its_threshold(count: int, level: Severity) -> None:
    assert severity("AUDIT_HA_ASSETS", put("JSZ", "ha_assets", count, "n1")) is level


@pytest.mark.parametrize(("name", "level"), [("lab-1", OK), ("la b", CRITICAL), ("lab\n", CRITICAL)])
def test_cluster_004_and_leaf_001_and_server_006_find_blanks(name: str, level: Severity) -> None:
    assert severity("AUDIT_CLUSTER_NAME", put("VARZ", "cluster.name", name)) is level
    leaf = (put("VARZ", "leafnodes", 1, "n0"), put("LEAFZ", "leafs", [{"name": name}], "n0"))
    assert severity("AUDIT_LEAF_NAME", *leaf) is level
    domain = severity("AUDIT_DOMAIN_NAME", put("JSZ", "config.domain", name, "n0"))
    assert domain is (WARNING if level is CRITICAL else OK)


def test_meta_001_names_the_offline_member_and_says_wait() -> None:
    def offline(raw: Raw) -> None:
        for jsz in answers(raw, "JSZ"):
            for replica in jsz["meta_cluster"]["replicas"]:
                if replica["name"] == "n1":
                    replica["offline"] = True

    found = worst("AUDIT_META_OFFLINE", offline)
    assert (found.severity, found.subject.server, found.cause) == (CRITICAL, "n1", True)
    assert "wait until it is back" in found.sentence


def test_meta_001_is_unknown_where_nobody_lists_the_members() -> None:
    assert severity("AUDIT_META_OFFLINE", drop("JSZ", "meta_cluster.replicas")) is UNKNOWN


@pytest.mark.parametrize("leader", ["nobody-else", ""])
def test_meta_002_is_critical_where_the_servers_disagree_in_every_reading(leader: str) -> None:
    assert severity("AUDIT_META_LEADER", put("JSZ", "meta_cluster.leader", leader, "n1")) is CRITICAL
    found = worst("AUDIT_META_LEADER", put("JSZ", "meta_cluster.leader", leader, "n1", at=1))
    assert (found.severity, "wait" in found.sentence) == (WARNING, True)
    assert severity("AUDIT_META_LEADER", put("JSZ", "meta_cluster.leader", leader, "n1", at=0)) is OK


def test_meta_002_is_critical_where_all_know_no_leader() -> None:
    assert severity("AUDIT_META_LEADER", put("JSZ", "meta_cluster.leader", "")) is CRITICAL


@pytest.mark.parametrize(
    ("status", "level"), [("ok", OK), ("unavailable", WARNING), ("error", WARNING), (None, UNKNOWN)]
)
def test_server_001_reads_the_status(status: str | None, level: Severity) -> None:
    assert severity("AUDIT_HEALTH", put("HEALTHZ", "status", status, "n0")) is level


def started(seconds: float) -> Change:
    """A change after which n2 started so long ago, and the others a day."""

    def change(raw: Raw) -> None:
        for sample in raw["samples"]:
            if sample["endpoint"] == "VARZ":
                age = seconds if sample["server"] == "n2" else 86_400
                now = datetime.fromisoformat(sample["data"]["now"])
                sample["data"]["start"] = (now - timedelta(seconds=age)).isoformat()

    return change


@pytest.mark.parametrize(("age", "level"), [(899, WARNING), (900, CRITICAL), (901, CRITICAL), (86_400, CRITICAL)])
def test_server_002_allows_for_an_upgrade_under_way(age: float, level: Severity) -> None:
    found = worst("AUDIT_VERSIONS", put("VARZ", "version", "2.14.6", "n2"), started(age))
    assert (found.severity, "wait" in found.sentence) == (level, level is WARNING)


def cpu(used: float, at: int | None = None) -> Change:
    def change(raw: Raw) -> None:
        put("VARZ", "cores", 2)(raw)
        put("VARZ", "cpu", used, "n0", at)(raw)

    return change


@pytest.mark.parametrize(("used", "level"), [(179.9, OK), (180, OK), (180.1, CRITICAL)])
def test_server_003_at_its_threshold(used: float, level: Severity) -> None:
    assert severity("AUDIT_CPU", cpu(used)) is level


def test_server_003_is_a_warning_in_one_of_two_readings_and_unknown_without_cores() -> None:
    assert severity("AUDIT_CPU", cpu(200, at=1)) is WARNING
    assert severity("AUDIT_CPU", cpu(180, at=0), put("VARZ", "cpu", 200, "n0", 1)) is WARNING
    assert severity("AUDIT_CPU", cpu(200, at=0)) is OK
    assert severity("AUDIT_CPU", put("VARZ", "cores", 0)) is UNKNOWN


@pytest.mark.parametrize(("before", "now", "level"), [(7, 7, OK), (7, 8, WARNING), (7, 0, OK), (7, 2, WARNING)])
def test_server_004_counts_between_two_readings_and_from_a_restart(before: int, now: int, level: Severity) -> None:
    changes = put("VARZ", "slow_consumers", before, "n0", 0), put("VARZ", "slow_consumers", now, "n0", 1)
    assert severity("AUDIT_SLOW_CONSUMERS", *changes) is level


@pytest.mark.parametrize(("new", "level"), [(2, OK), (3, OK), (4, WARNING)])
def test_server_004_accepts_as_many_as_its_threshold_says(new: int, level: Severity) -> None:
    changes = put("VARZ", "slow_consumers", 7, "n0", 0), put("VARZ", "slow_consumers", 7 + new, "n0", 1)
    assert severity("AUDIT_SLOW_CONSUMERS", *changes, overrides={"slow_consumers": 3}) is level


@pytest.mark.parametrize(("total", "level"), [(0, OK), (1, WARNING)])
def test_server_004_has_only_the_lifetime_in_one_reading(total: int, level: Severity) -> None:
    assert severity("AUDIT_SLOW_CONSUMERS", put("VARZ", "slow_consumers", total, "n0"), once) is level


@pytest.mark.parametrize(("used", "limit"), [("memory", "max_memory"), ("storage", "max_storage")])
@pytest.mark.parametrize(("count", "level"), [(899, OK), (900, OK), (901, WARNING)])
def test_server_005_at_its_threshold(used: str, limit: str, count: int, level: Severity) -> None:
    changes = put("JSZ", used, count, "n0"), put("JSZ", f"config.{limit}", 1000, "n0")
    assert severity("AUDIT_RESOURCES", *changes) is level


@pytest.mark.parametrize(("count", "cause"), [(999, False), (1000, True), (1001, True)])
def test_server_005_is_a_cause_where_nothing_is_left(count: int, cause: bool) -> None:
    assert (
        worst("AUDIT_RESOURCES", put("JSZ", "storage", count, "n0"), put("JSZ", "config.max_storage", 1000, "n0")).cause
        is cause
    )


def test_server_005_takes_an_underflow_for_nothing_and_no_limit_for_none() -> None:
    assert severity("AUDIT_RESOURCES", put("JSZ", "storage", 2**64 - 5)) is OK
    assert severity("AUDIT_RESOURCES", put("JSZ", "storage", 10**12), put("JSZ", "config.max_storage", -1)) is OK


@pytest.mark.parametrize(("change", "level"), [(drop("VARZ", "auth_required", "n1"), WARNING), (drop("VARZ", "x"), OK)])
def test_server_007_reads_a_missing_flag_as_no(change: Change, level: Severity) -> None:
    assert severity("AUDIT_AUTH", change) is level


def certificate(listener: str, left: timedelta) -> Change:
    def change(raw: Raw) -> None:
        put("VARZ", "now", "2026-11-21T10:00:00.123456789Z")(raw)
        ends = datetime.fromisoformat("2026-11-21T10:00:00.123456Z") + left
        put("VARZ", f"{listener}.tls_cert_not_after".lstrip("."), ends.isoformat(), "n1")(raw)

    return change


@pytest.mark.parametrize("listener", ["", "cluster", "gateway", "leaf", "mqtt", "websocket"])
@pytest.mark.parametrize(
    ("left", "level"),
    [
        (timedelta(days=30, seconds=1), OK),
        (timedelta(days=30), OK),
        (timedelta(days=30, seconds=-1), WARNING),
        (timedelta(days=7), WARNING),
        (timedelta(days=7, seconds=-1), CRITICAL),
        (timedelta(days=-1), CRITICAL),
    ],
)
def test_server_008_at_its_thresholds(listener: str, left: timedelta, level: Severity) -> None:
    assert severity("AUDIT_TLS", certificate(listener, left)) is level


def test_server_008_is_unknown_where_tls_is_on_and_the_version_does_not_tell() -> None:
    assert severity("AUDIT_TLS", put("VARZ", "cluster.tls_required", True)) is UNKNOWN


@pytest.mark.parametrize(
    ("used", "limit", "check"),
    [("mem", "gomemlimit", "AUDIT_MEMORY_LIMIT"), ("connections", "max_connections", "AUDIT_CONNECTIONS")],
)
@pytest.mark.parametrize(("count", "level"), [(89, OK), (90, OK), (91, WARNING)])
def test_memory_and_connections_at_their_limits(used: str, limit: str, check: str, count: int, level: Severity) -> None:
    assert severity(check, put("VARZ", limit, 100, "n0"), put("VARZ", used, count, "n0")) is level


@pytest.mark.parametrize(
    ("inflight", "level"),
    [(999, OK), (1000, OK), (1001, WARNING), (18446744073709551598, OK), (2**64, UNKNOWN), ("9", UNKNOWN)],
)
def test_an_underflown_inflight_counts_as_nothing(inflight: object, level: Severity) -> None:
    assert severity("AUDIT_API", put("VARZ", "jetstream.stats.api.inflight", inflight, "n0")) is level


@pytest.mark.parametrize(("now", "level"), [(104, OK), (105, OK), (106, WARNING)])
def test_api_errors_are_counted_between_two_readings(now: int, level: Severity) -> None:
    errors = "jetstream.stats.api.errors"
    assert severity("AUDIT_API", put("VARZ", errors, 100, "n0", 0), put("VARZ", errors, now, "n0", 1)) is level


@pytest.mark.parametrize(("errors", "level"), [(100, OK), (101, WARNING)])
def test_api_errors_in_one_reading_are_judged_by_their_average(errors: int, level: Severity) -> None:
    uptime = put("VARZ", "start", "2026-01-01T00:00:00Z", "n0"), put("VARZ", "now", "2026-01-01T00:01:40Z", "n0")
    assert severity("AUDIT_API", *uptime, put("VARZ", "jetstream.stats.api.errors", errors, "n0"), once) is level


def test_settings_replace_the_defaults() -> None:
    assert severity("AUDIT_HA_ASSETS", put("JSZ", "ha_assets", 6), overrides={"ha_assets": 5}) is WARNING


@pytest.mark.parametrize(
    ("check", "change", "name"),
    [
        ("AUDIT_CPU", put("VARZ", "cpu", "much", "n0"), "cpu"),
        ("AUDIT_MEMORY_OUTLIER", put("VARZ", "mem", None, "n0"), "mem"),
        ("AUDIT_SLOW_CONSUMERS", put("VARZ", "slow_consumers", True, "n0"), "slow_consumers"),
        ("AUDIT_RESOURCES", put("JSZ", "storage", [], "n0"), "storage"),
        ("AUDIT_HA_ASSETS", put("JSZ", "ha_assets", float("nan"), "n0"), "ha_assets"),
        ("AUDIT_META_OFFLINE", put("JSZ", "meta_cluster.replicas", {"a": 1}, "n0"), "replicas"),
        ("AUDIT_AUTH", put("VARZ", "auth_required", "yes", "n0"), "auth_required"),
        ("AUDIT_TLS", put("VARZ", "tls_cert_not_after", "soon", "n0"), "tls_cert_not_after"),
        ("AUDIT_REPLICA_LAG", put("JSZ", "account_details", "none", "n0"), "account_details"),
        ("AUDIT_GATEWAYS", put("VARZ", "gateway", 7, "n0"), "gateway"),
    ],
)
def test_a_field_of_another_type_is_unknown_by_its_name(check: str, change: Change, name: str) -> None:
    found = worst(check, change)
    assert (found.severity, name in found.sentence) == (UNKNOWN, True)


def test_guidance_names_the_server_and_is_all_there_is() -> None:
    drafts = [p.draft for p in proposed(recorded(NEWEST, put("JSZ", "ha_assets", 5000, "n0")))]
    assert [d.title for d in drafts] == ["Run fewer Raft groups"]
    assert all(d.guidance and not d.stages for d in drafts)


def test_names_from_the_cluster_are_quoted_in_commands() -> None:
    def rename(raw: Raw) -> None:
        for jsz in answers(raw, "JSZ"):
            for replica in jsz["meta_cluster"]["replicas"]:
                replica |= {"offline": True, "name": "n1; rm -rf {server}"}

    (draft,) = [p.draft for p in proposed(recorded(NEWEST, rename))]
    assert any("peer-remove 'n1; rm -rf {server}'" in line for line in draft.guidance)
