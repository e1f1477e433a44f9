"""The readiness runbook on what was recorded: its verdicts, what it proposes, and that no answer breaks it."""

from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.flow.ranking import rank
from bot.model import Focus, Severity
from bot.model.groups import meta_standing
from bot.model.probes import ENABLED_ONLY, Depth, read_probe
from runbooks import _readiness_guidance as guidance
from runbooks.readiness import RUNBOOK
from tests.exhaustive import examples
from tests.unit.runbooks.audit_support import Change, put
from tests.unit.runbooks.meta_support import (
    BASE,
    GROUP,
    OLD,
    QUIET,
    VERSIONS,
    examined,
    followers,
    gaps,
    leader,
    proposed,
    replica,
    rounds,
    titles,
    worst,
)
from tests.unit.snapshots import Raw, answers, both, recorded

CODES = {"META_MARGIN", "META_PEERS", "META_GAP", "READINESS_PROBES", "AUDIT_JETSTREAM_MIX"}
"""Those of its checks that ask for no Kubernetes."""


@pytest.mark.parametrize("version", VERSIONS)
def test_a_quiet_cluster_is_healthy_and_nothing_is_proposed(version: str) -> None:
    snapshot = recorded(f"meta_healthy_{version}")
    assert {f.severity for f in examined(snapshot)} == {Severity.OK}
    assert {f.check for f in examined(snapshot)} == CODES
    assert proposed(snapshot) == []


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_quiet_cluster_is_healthy_after_any_number_of_readings(count: int) -> None:
    for name in (OLD, QUIET):
        assert {f.severity for f in examined(recorded(name, rounds(count)), settle=0.01)} == {Severity.OK}, name


def second_look(raw: Raw) -> None:
    """A change that leaves what a second look for META_GAP alone reads: everything once, and its trend in every round."""
    (gap,) = [check for check in RUNBOOK.checks if check.code == "META_GAP"]
    raw["samples"] = [s for s in raw["samples"] if s["round"] == 0 or s["endpoint"] in gap.trend]


@pytest.mark.parametrize("change", [None, second_look])
@pytest.mark.parametrize("version", ["2.10.26", "2.15.1"])
def test_a_recorded_hung_disk_is_one_stuck_follower(version: str, change: Change | None) -> None:
    snapshot = recorded(f"meta_stuck_{version}", change)
    root = rank(examined(snapshot)).root
    assert root is not None
    assert (root.check, root.severity, root.cause, root.evidence["trend"]) == (
        "META_GAP",
        Severity.CRITICAL,
        True,
        "stuck",
    )
    assert root.evidence["leader"] == meta_standing(snapshot).leader
    assert root.evidence["queue"]["in_progress"] == 1
    assert titles(snapshot) == [f"Restart server {root.subject.server}"]


def test_a_recorded_frozen_server_is_found_by_the_leaders_list() -> None:
    snapshot = recorded("meta_frozen_2.11.11")
    root = rank(examined(snapshot)).root
    assert root is not None
    assert (root.check, root.severity, root.evidence["frozen"]) == ("META_PEERS", Severity.CRITICAL, True)
    assert titles(snapshot) == [f"Restart server {root.subject.server}"]
    margin = worst(snapshot, "META_MARGIN")
    assert margin.severity is Severity.UNKNOWN
    assert "proves nothing" in next(f for f in examined(snapshot) if f.check == "META_MARGIN").sentence


@pytest.mark.parametrize("change", [None, second_look])
def test_recorded_churn_on_2_10_is_a_probe_that_is_too_strict_and_on_2_11_a_remark(change: Change | None) -> None:
    old, new = recorded("meta_churn_2.10.26", change), recorded("meta_churn_2.11.11", change)
    gap = worst(old, "META_GAP")
    assert (gap.severity, gap.evidence["trend"], gap.subject.server) == (Severity.WARNING, "comes and goes", None)
    assert gap.issue == "nats-server #5976, fixed by #5296 in 2.11.0"
    assert titles(old) == [
        "Let the readiness probe ask /healthz?js-enabled-only=true",
        "Upgrade nats-server to 2.11 or later",
        "Give the meta group less to do, or more to do it with",
    ]
    assert {f.severity for f in examined(new)} == {Severity.OK}
    assert "again and again" in worst(new, "META_GAP").sentence
    assert titles(new) == []


def test_a_recorded_loss_of_quorum_leaves_the_probes_alone() -> None:
    snapshot = recorded("meta_leaderless_2.10.26")
    root = rank(examined(snapshot)).root
    assert root is not None
    assert (root.check, root.severity, root.counterpart) == ("META_MARGIN", Severity.CRITICAL, "META_002")
    assert titles(snapshot) == ["Bring the meta leader back and leave the probes alone"]
    assert {worst(snapshot, check).severity for check in ("META_PEERS", "META_GAP")} == {Severity.UNKNOWN}


def test_a_stuck_server_is_not_restarted_while_another_member_is_missing() -> None:
    name = "meta_stuck_2.15.1"
    sick = next(f.subject.server for f in examined(recorded(name)) if f.severity is Severity.CRITICAL)
    assert sick is not None
    other = next(s for s in followers(name) if s != sick)
    snapshot = recorded(name, replica(name, other, current=False, offline=True))
    (draft,) = [p.draft for p in proposed(snapshot) if "Restart" in p.draft.title]
    assert draft.title == f"Restart server {sick}: not now"
    assert (
        draft.guidance[0]
        == f"Without {sick} would have no quorum: the meta group (1 of 3 members would be left ({other} offline))."
    )
    assert not any("SIGTERM" in line for line in draft.guidance)


def test_a_restart_names_what_is_away_meanwhile() -> None:
    name = "meta_stuck_2.15.1"
    sick = next(f.subject.server for f in examined(recorded(name)) if f.severity is Severity.CRITICAL)

    def single(raw: Raw) -> None:
        for jsz in answers(raw, "JSZ"):
            for account in jsz["account_details"]:
                for stream in account["stream_detail"]:
                    for consumer in stream["consumer_detail"]:
                        consumer["config"]["num_replicas"] = 1
                        consumer["cluster"] = {"name": "lab", "leader": sick}

    (draft,) = [p.draft for p in proposed(recorded(name, single)) if "Restart" in p.draft.title]
    assert any("APP > ORDERS > worker" in caution for caution in draft.cautions)


def test_the_probe_is_left_alone_while_a_member_is_missing_or_a_server_is_stuck() -> None:
    name = "meta_churn_2.10.26"
    one = followers(name)[0]
    missing = recorded(name, replica(name, one, current=False, offline=True))
    assert [title for title in titles(missing) if "probe" in title] == []
    assert "Upgrade nats-server to 2.11 or later" in titles(missing)


def test_the_values_are_yaml_and_ask_for_what_no_version_takes_for_the_meta_group() -> None:
    official = yaml.safe_load(guidance.OFFICIAL_VALUES)
    bitnami = yaml.safe_load(guidance.BITNAMI_VALUES)
    paths = (
        official["container"]["merge"]["readinessProbe"]["httpGet"]["path"],
        bitnami["customLivenessProbe"]["httpGet"]["path"],
    )
    assert paths == (ENABLED_ONLY, ENABLED_ONLY)
    assert {read_probe(path, None).depth for path in paths} == {Depth.ENABLED}
    assert official["container"]["merge"]["readinessProbe"]["httpGet"].keys() == {"path"}
    assert bitnami["customLivenessProbe"]["httpGet"]["port"] == "monitoring"


def test_the_values_stand_in_the_guidance_line_by_line() -> None:
    (draft,) = [p.draft for p in proposed(recorded("meta_churn_2.10.26")) if "readiness probe" in p.draft.title]
    assert any(line.endswith(guidance.OFFICIAL_VALUES) for line in draft.guidance)
    assert any(line.endswith(guidance.BITNAMI_VALUES) for line in draft.guidance)
    assert any("all pods are restarted" in caution for caution in draft.cautions)
    assert not any("\n" in line for line in (*draft.guidance, *draft.cautions))


def test_a_system_account_with_a_hostile_name_stays_in_its_quotes() -> None:
    evil = "$(touch x)' & `id`"

    def renamed(raw: Raw) -> None:
        for raftz in answers(raw, "RAFTZ"):
            raftz[evil] = raftz.pop("SYS")

    snapshot = recorded(QUIET, both(gaps(QUIET, {followers(QUIET)[0]: [90, 50, 10]}), renamed))
    (draft,) = [p.draft for p in proposed(snapshot)]
    line = next(line for line in draft.guidance if "raftz" in line)
    assert line.endswith("'http://<server>:8222/raftz?acc=%24%28touch%20x%29%27%20%26%20%60id%60&group=_meta_'")


@pytest.mark.parametrize("check", ["META_MARGIN", "META_PEERS"])
def test_a_meta_cluster_that_is_no_object_is_unknown_by_name(check: str) -> None:
    found = worst(recorded(QUIET, put("JSZ", "meta_cluster", True)), check)
    assert (found.severity, "no object meta_cluster" in found.sentence) == (Severity.UNKNOWN, True)


@pytest.mark.parametrize("field", ["committed", "applied", "id", "state", "leader"])
def test_a_raft_field_of_another_type_is_unknown_by_name(field: str) -> None:
    one = followers(QUIET)[0]
    found = worst(recorded(QUIET, put("RAFTZ", f"{GROUP}.{field}", [], one)), "META_GAP")
    assert (found.severity, field in found.sentence) == (Severity.UNKNOWN, True)


NASTY = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=5),
    st.just([]),
    st.just([None]),
    st.just({}),
    st.just({"x": 1}),
)
FIELDS = (
    ("RAFTZ", "SYS"),
    ("RAFTZ", GROUP),
    ("RAFTZ", f"{GROUP}.committed"),
    ("RAFTZ", f"{GROUP}.applied"),
    ("RAFTZ", f"{GROUP}.id"),
    ("RAFTZ", f"{GROUP}.leader"),
    ("RAFTZ", f"{GROUP}.state"),
    ("RAFTZ", f"{GROUP}.catching_up"),
    ("RAFTZ", f"{GROUP}.wal"),
    ("RAFTZ", f"{GROUP}.wal.last_ts"),
    ("JSZ", "meta_cluster"),
    ("JSZ", "meta_cluster.leader"),
    ("JSZ", "meta_cluster.cluster_size"),
    ("JSZ", "meta_cluster.replicas"),
    ("JSZ", "disabled"),
    ("VARZ", "start"),
    ("VARZ", "now"),
    ("HEALTHZ", "status"),
    ("HEALTHZ", "errors"),
    ("HEALTHZ", "error"),
    ("ROUTEZ", "routes"),
    ("IPQUEUESZ", "[ACC:SYS] RAFT '_meta_' committedEntry"),
)


@settings(max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.sampled_from(FIELDS),
    NASTY,
    st.sampled_from(["meta_stuck_2.10.26", "meta_frozen_2.11.11", "meta_healthy_2.15.1"]),
    st.booleans(),
)
def test_no_answer_makes_a_check_or_a_proposal_break(
    field: tuple[str, str], value: Any, name: str, everybody: bool
) -> None:
    endpoint, path = field
    change: Callable[[Raw], None] = put(endpoint, path, value, None if everybody else leader(name))
    snapshot = recorded(name, change)
    findings = examined(snapshot)
    RUNBOOK.propose(snapshot, findings, RUNBOOK.values(BASE), Focus())
    assert {f.check for f in findings} == CODES
