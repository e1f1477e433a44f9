"""The deployment runbook as a whole: a well-built cluster is clean, nobody is judged who is not on Kubernetes, and what could not be read is unknown."""

import json
import shlex
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bot.flow.examination import judge, report
from bot.model import Finding, Focus, JsonObject, Layer, Severity, Subject, canonical_json
from bot.model.kubernetes import Kind
from bot.model.probes import ENABLED_ONLY
from bot.runbook import Runbook
from runbooks import _deploy_settings as settings_guides
from runbooks._deploy_guidance import GUIDES
from runbooks._deploy_settings import TIMES
from runbooks._deploy_target import target_of
from runbooks.deployment import RUNBOOK
from runbooks.overload import RUNBOOK as OVERLOAD
from runbooks.readiness import RUNBOOK as READINESS
from runbooks.route_mesh import RUNBOOK as ROUTE_MESH
from tests.exhaustive import examples
from tests.unit.junk import spoiled
from tests.unit.runbooks.deploy_support import DENIED, found, healthy, proposed, told
from tests.unit.snapshots import recorded

CODES = [check.code for check in RUNBOOK.checks]


def test_a_well_built_cluster_of_the_official_chart_is_clean():
    findings = [f for same in told(healthy().snapshot()).values() for f in same]
    assert [f"{f.check}: {f.sentence}" for f in findings if f.severity is not Severity.OK] == []
    assert [f.check for f in findings] == CODES
    assert proposed(healthy()) == []


@pytest.mark.parametrize("code", CODES)
def test_a_cluster_that_is_not_on_kubernetes_is_not_judged(code: str):
    (check,) = [check for check in RUNBOOK.checks if check.code == code]
    elsewhere = replace(healthy().snapshot(), kubernetes=None)
    assert check.of_kubernetes
    assert check.reads[-1] == "Kubernetes"
    assert not check.applies(elsewhere)
    assert list(check.examine(elsewhere, RUNBOOK.values(), Focus())) == []


def test_among_others_the_runbook_stays_out_of_a_report_of_a_cluster_elsewhere():
    snapshot = recorded("healthy_2.15.1")
    judged = judge(snapshot, (RUNBOOK, READINESS), {}, Focus())
    assert [each.runbook.code for each in judged] == ["READINESS"]
    made = report(snapshot, judged, {})
    assert {f.check for f in made.findings}.isdisjoint(CODES)
    assert made.verdict.severity is Severity.OK


def test_asked_alone_about_a_cluster_elsewhere_it_says_that_it_can_not_tell():
    snapshot = recorded("healthy_2.15.1")
    (judged,) = judge(snapshot, (RUNBOOK,), {}, Focus())
    assert judged.verdict.severity is Severity.UNKNOWN
    assert "no `kubernetes` settings" in judged.verdict.sentence
    assert judged.proposed == ()


@pytest.mark.parametrize("runbook", [READINESS, ROUTE_MESH, OVERLOAD], ids=lambda r: r.code)
def test_shared_checks_are_asked_with_thresholds_of_their_own(runbook: Runbook):
    shared = [check for check in runbook.checks if check in RUNBOOK.checks]
    assert shared
    (judged,) = judge(healthy().snapshot(), (runbook,), {}, Focus())
    assert {f.severity for f in judged.findings if f.check in {c.code for c in shared}} == {Severity.OK}


@pytest.mark.parametrize("code", CODES)
def test_without_the_stateful_set_every_check_is_unknown_and_says_why(code: str):
    world = healthy()
    world.denied[Kind.STATEFUL_SET] = DENIED
    (finding,) = found(world, code)
    assert finding.severity is Severity.UNKNOWN
    assert DENIED.detail in finding.sentence


@pytest.mark.parametrize("code", CODES)
def test_a_namespace_without_nats_makes_every_check_unknown(code: str):
    world = healthy()
    facts = world.facts()
    none = tuple(
        listing.model_copy(update={"items": ()}) if listing.kind is Kind.STATEFUL_SET else listing
        for listing in facts.listings
    )
    snapshot = replace(world.snapshot(), kubernetes=replace(facts, listings=none))
    (check,) = [check for check in RUNBOOK.checks if check.code == code]
    (finding,) = check.examine(snapshot, RUNBOOK.values(), Focus())
    assert finding.severity is Severity.UNKNOWN
    assert "has no StatefulSet that runs NATS" in finding.sentence


NEEDS = [
    (
        Kind.POD,
        {
            "DEPLOY_PODS",
            "DEPLOY_ROLLOUT",
            "DEPLOY_NODES",
            "DEPLOY_PROBE_KILLS",
            "DEPLOY_CONFIG",
            "DEPLOY_PLACEMENT",
            "DEPLOY_IMAGE",
        },
    ),
    (Kind.NODE, {"DEPLOY_NODES", "DEPLOY_PLACEMENT"}),
    (Kind.SERVICE, {"DEPLOY_SERVICE"}),
    (Kind.BUDGET, {"DEPLOY_BUDGET"}),
    (Kind.CLAIM, {"DEPLOY_STORAGE", "DEPLOY_VOLUMES"}),
    (Kind.VOLUME, {"DEPLOY_STORAGE"}),
]


@pytest.mark.parametrize(("kind", "codes"), NEEDS)
def test_what_a_missing_right_hides_is_unknown_and_nothing_else(kind: Kind, codes: set[str]):
    world = healthy()
    world.denied[kind] = DENIED
    findings = told(world.snapshot())
    unknown = {code for code, same in findings.items() if any(f.severity is Severity.UNKNOWN for f in same)}
    assert unknown == codes
    assert all(DENIED.detail in f.sentence for code in codes for f in findings[code])
    sick = {f.check for same in findings.values() for f in same if f.severity in {Severity.WARNING, Severity.CRITICAL}}
    assert sick == set()


def test_a_configuration_that_is_not_read_is_unknown_where_it_is_needed():
    world = healthy()
    world.conf_unknown = DENIED
    findings = told(world.snapshot())
    unknown = {code for code, same in findings.items() if any(f.severity is Severity.UNKNOWN for f in same)}
    assert unknown == {"DEPLOY_ROUTES", "DEPLOY_CONFIG", "DEPLOY_STORAGE", "DEPLOY_VOLUMES", "DEPLOY_SHUTDOWN"}


def test_servers_that_do_not_answer_leave_unknown_what_only_they_know():
    world = healthy()
    for answers in world.answers.values():
        answers.clear()
    findings = told(world.snapshot())
    unknown = {code: same[0].sentence for code, same in findings.items() if same[0].severity is Severity.UNKNOWN}
    assert unknown.keys() == {"DEPLOY_CONFIG", "DEPLOY_IMAGE"}
    assert "the version that runs in the pods of nats-0, nats-1, nats-2" in unknown["DEPLOY_IMAGE"]
    assert {f.severity for same in findings.values() for f in same} == {Severity.OK, Severity.UNKNOWN}


def test_a_pod_whose_server_can_not_run_is_no_fact_that_is_missing():
    world = healthy()
    world.answers["nats-0"].clear()
    world.status().update(state={"waiting": {"reason": "CrashLoopBackOff"}}, started=False)
    world.unready()
    findings = told(world.snapshot())
    assert {code for code, same in findings.items() if same[0].severity is not Severity.OK} == {"DEPLOY_PODS"}


def test_every_proposal_is_guidance_that_names_the_object_safely():
    world = healthy()
    world.spec["replicas"] = 4
    world.container["lifecycle"] = {}
    world.budgets.clear()
    world.container["resources"] = {}
    world.stateful_set["metadata"]["name"] = "nats; rm -rf /"
    drafts = [p.draft for p in proposed(world)]
    assert drafts
    assert all(draft.guidance and not draft.stages for draft in drafts)
    lines = [line for draft in drafts for line in draft.guidance if "kubectl" in line and "rm -rf" in line]
    assert lines
    assert all("'statefulset/nats; rm -rf /'" in line for line in lines)


def test_every_check_has_its_guide_in_both_charts_words_where_a_value_exists():
    assert {code for codes, _ in GUIDES for code in codes} == set(CODES)
    target = target_of(healthy().snapshot())
    assert target is not None
    where = Subject(cluster="lab")
    for codes, guide in GUIDES:
        about = [
            Finding(
                check=code, layer=Layer.CLIENTS, subject=where, severity=Severity.WARNING, sentence=f"{code} says so."
            )
            for code in sorted(codes)
        ]
        draft = guide(target, about)
        assert draft.why == about[0].sentence
        assert draft.guidance[-1].startswith("Then diagnose again")
        assert not draft.stages


@pytest.mark.parametrize(
    ("evidence", "probe"),
    [
        ({"probe": "liveness"}, {"httpGet": {"path": ENABLED_ONLY}}),
        ({"probe": "startup", "seconds": 90}, TIMES["startup"]),
        (
            {"probe": "startup", "absent": True, "seconds": 90},
            {"httpGet": {"path": ENABLED_ONLY, "port": "monitor"}} | TIMES["startup"],
        ),
    ],
)
def test_a_probe_gets_what_it_lacks_and_keeps_the_rest(evidence: JsonObject, probe: JsonObject):
    target = target_of(healthy().snapshot())
    assert target is not None
    finding = Finding(
        check="DEPLOY_PROBES",
        layer=Layer.CLIENTS,
        subject=Subject(cluster="lab"),
        severity=Severity.WARNING,
        sentence="x",
        evidence=evidence,
    )
    name = f"{evidence['probe']}Probe"
    official, _, patched = settings_guides.probes(target, [finding]).guidance[:3]
    assert json.loads(official.removeprefix("Official chart: ")) == {"container": {"merge": {name: probe}}}
    body = shlex.split(patched.removeprefix("Without a chart: "))[8]
    container = {"name": "nats", name: probe}
    assert json.loads(body) == {"spec": {"template": {"spec": {"containers": [container]}}}}


def test_what_the_owner_would_revert_is_told_first():
    world = healthy()
    world.stateful_set["metadata"]["annotations"] = {"meta.helm.sh/release-name": "queue"}
    world.budgets.clear()
    (only,) = proposed(world)
    assert only.draft.title == "Let one pod go at a time"
    assert only.draft.guidance[0].startswith("The StatefulSet belongs to helm queue")


@settings(
    max_examples=examples(150), deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(data=st.data())
def test_no_spoiled_object_or_answer_breaks_a_check(data: st.DataObject):
    world = healthy()
    world.event("Pod", "nats-0", "Unhealthy", "Liveness probe failed")
    raws = [
        world.stateful_set,
        *world.pods,
        *world.services,
        *world.claims,
        *world.volumes,
        *world.budgets,
        *world.nodes,
    ]
    raws += [*world.events, *(a for given in world.answers.values() for a in given.values() if isinstance(a, dict))]
    for _ in range(data.draw(st.integers(1, 4))):
        data.draw(spoiled(data.draw(st.sampled_from(raws))))
    snapshot = world.snapshot()
    for check in RUNBOOK.checks:
        findings = check.examine(snapshot, RUNBOOK.values(), Focus())
        assert findings, f"{check.code} says nothing"
        for finding in findings:
            canonical_json(finding.model_dump(mode="json"))
    for offer in judge(snapshot, (RUNBOOK,), {}, Focus())[0].proposed:
        assert offer.draft.guidance


def test_a_servers_name_is_found_by_its_configuration():
    world = healthy()
    world.everywhere(lambda c: c["env"].__setitem__(1, {"name": "SERVER_NAME", "value": "east-$(POD_NAME)"}))
    world.answers = {f"east-{name}": answers for name, answers in world.answers.items()}
    world.pods[0]["status"]["phase"] = "Failed"
    findings = told(world.snapshot())
    assert findings["DEPLOY_PODS"][0].subject.server == "east-nats-0"
    assert any("kubectl describe pod nats-0 -n queues" in line for line in proposed(world)[0].draft.guidance)
