"""Probes of the NATS container: what is too strict, too short or absent, and which one kills servers now."""

from collections.abc import Callable

import pytest

from bot.flow.ranking import rank
from bot.model import Endpoint, Severity, Unknown, UnknownReason
from bot.model.kubernetes import Kind
from tests.unit.runbooks.deploy_support import DENIED, Raw, World, before, found, healthy, only, probe, says, told

OK, WARNING, CRITICAL, UNKNOWN = Severity.OK, Severity.WARNING, Severity.CRITICAL, Severity.UNKNOWN
SICK = "JetStream stream 'APP > ORDERS' is not current: group node missing"


def of_version(version: str) -> World:
    world = healthy()
    world.version = version
    world.everywhere(lambda c: c.update(image=f"nats:{version}-alpine"))
    return world


def set_probe(kind: str, made: Raw | None) -> Callable[[Raw], None]:
    return lambda container: container.update({f"{kind}Probe": made})


def bitnami() -> World:
    """Probes of the Bitnami chart from 8.2.2 (reference/nats.md 4.4)."""
    world = healthy()
    world.everywhere(set_probe("startup", None))
    world.everywhere(set_probe("readiness", probe("/", 5, 10, 6)))
    world.everywhere(set_probe("liveness", probe("/healthz", 30, 10, 6)))
    return world


def sick_on(world: World, number: int = 1) -> World:
    error = {"type": "STREAM", "account": "APP", "stream": "ORDERS", "error": SICK}
    world.answers[f"nats-{number}"][Endpoint.HEALTHZ] = {"status": "unavailable", "errors": [error]}
    return world


# As they are written.


@pytest.mark.parametrize(("version", "severity"), [("2.10.29", WARNING), ("2.11.0", OK), ("2.11.11", OK)])
def test_the_official_readiness_probe_is_too_strict_before_2_11(version: str, severity: Severity):
    finding = only(of_version(version), "DEPLOY_PROBES")
    assert finding.severity is severity
    if severity is WARNING:
        assert "readiness probe /healthz?js-server-only=true on 2.10.29 is too strict" in finding.sentence
        assert finding.evidence["expected"] == "/healthz?js-enabled-only=true"
        assert "#5976" in (finding.issue or "")


def test_the_issue_of_2_10_is_not_named_for_a_probe_that_asks_for_the_meta_group_on_purpose():
    world = healthy()
    world.everywhere(set_probe("readiness", probe("/healthz?js-meta-only=true", 10, 10, 3)))
    finding = only(world, "DEPLOY_PROBES")
    assert (finding.severity, finding.issue) == (WARNING, None)


def test_the_oldest_server_decides_while_versions_are_mixed():
    world = healthy()
    world.answers["nats-2"][Endpoint.VARZ] = {"version": "2.10.29"}
    assert says(world, "DEPLOY_PROBES", "on 2.10.29 is too strict") is WARNING


def test_a_strict_probe_says_on_which_pods_it_fails_now():
    world = of_version("2.10.29")
    behind = {"status": "unavailable", "error": "JetStream is not current with the meta leader"}
    world.answers["nats-1"][Endpoint.HEALTHZ] = behind
    finding = only(world, "DEPLOY_PROBES")
    assert "It fails now on nats-1." in finding.sentence
    assert finding.evidence["now"] == {"nats-0": "passes", "nats-1": "fails", "nats-2": "passes"}


def test_the_full_check_as_liveness_is_too_strict_on_every_version():
    finding = next(f for f in found(bitnami(), "DEPLOY_PROBES") if "liveness probe /healthz on" in f.sentence)
    assert finding.severity is WARNING
    assert "has more to catch up with" in finding.sentence
    assert "bitnami/charts" in (finding.issue or "")


def test_a_liveness_check_of_the_meta_group_is_too_strict_and_no_charts():
    world = healthy()
    world.everywhere(set_probe("liveness", probe("/healthz?js-meta-only=true", 10, 30, 3)))
    finding = only(world, "DEPLOY_PROBES")
    assert (finding.severity, finding.issue) == (WARNING, None)


def test_a_probe_that_fails_on_every_server_is_critical():
    world = healthy()
    world.everywhere(set_probe("readiness", probe("/healthz/", 10, 10, 3)))
    assert says(world, "DEPLOY_PROBES", "too strict", "HTTP 404") is CRITICAL


@pytest.mark.parametrize("kind", ["readiness", "liveness"])
def test_an_absent_probe_is_a_warning(kind: str):
    world = healthy()
    world.everywhere(set_probe(kind, None))
    assert says(world, "DEPLOY_PROBES", f"has no {kind} probe") is WARNING


@pytest.mark.parametrize(("failures", "severity"), [(28, WARNING), (29, OK), (30, OK)])
def test_a_startup_probe_gives_five_minutes_to_recover(failures: int, severity: Severity):
    world = healthy()
    world.everywhere(set_probe("startup", probe("/healthz", 10, 10, failures)))
    assert says(world, "DEPLOY_PROBES", *(("290 s to recover",) if severity is WARNING else ())) is severity


@pytest.mark.parametrize(("delay", "severity"), [(209, WARNING), (210, OK)])
def test_without_a_startup_probe_the_liveness_probe_must_give_that_time(delay: int, severity: Severity):
    world = healthy()
    world.everywhere(set_probe("startup", None))
    world.everywhere(set_probe("liveness", probe("/healthz?js-enabled-only=true", delay, 30, 3)))
    words = ("There is no startup probe, and the liveness probe gives a server 299 s",) if severity is WARNING else ()
    assert says(world, "DEPLOY_PROBES", *words) is severity


def test_a_liveness_probe_that_asks_for_the_monitoring_port_only_needs_no_startup_probe():
    world = healthy()
    world.everywhere(set_probe("startup", None))
    world.everywhere(set_probe("liveness", probe("/", 5, 10, 3)))
    assert says(world, "DEPLOY_PROBES") is OK


@pytest.mark.parametrize(("failures", "severity"), [(2, WARNING), (3, OK)])
def test_a_liveness_probe_fails_for_half_a_minute_before_it_kills(failures: int, severity: Severity):
    world = healthy()
    world.everywhere(set_probe("liveness", probe("/healthz?js-enabled-only=true", 10, 10, failures)))
    assert says(world, "DEPLOY_PROBES", *(("for 20 s",) if severity is WARNING else ())) is severity


def test_a_probe_that_is_no_http_probe_is_not_accused():
    world = healthy()
    world.everywhere(set_probe("readiness", {"tcpSocket": {"port": "nats"}}))
    world.everywhere(set_probe("liveness", {"exec": {"command": ["true"]}, "periodSeconds": 30}))
    assert says(world, "DEPLOY_PROBES") is OK


# What they do.


def test_a_full_liveness_check_fails_on_a_server_with_one_sick_stream():
    world = sick_on(bitnami())
    finding = only(world, "DEPLOY_PROBE_KILLS")
    assert (finding.severity, finding.subject.server, finding.cause) == (WARNING, "nats-1", False)
    assert SICK in finding.sentence
    assert "When it fails for 60 s the server is killed" in finding.sentence


@pytest.mark.parametrize(("seconds", "severity"), [(86_400, CRITICAL), (86_401, WARNING)])
def test_where_the_server_ended_before_and_the_check_fails_again_it_is_what_kills(seconds: float, severity: Severity):
    world = sick_on(bitnami())
    last = {"terminated": {"reason": "Error", "exitCode": 1, "finishedAt": before(seconds)}}
    world.status(1).update(restartCount=1, lastState=last)
    finding = only(world, "DEPLOY_PROBE_KILLS")
    assert (finding.severity, finding.cause) == (severity, severity is CRITICAL)


def test_the_official_liveness_check_does_not():
    assert says(sick_on(healthy()), "DEPLOY_PROBE_KILLS") is OK


def crash_loop(world: World, number: int = 1, seconds: float = 60) -> World:
    last = {"terminated": {"reason": "Error", "exitCode": 1, "finishedAt": before(seconds)}}
    back_off = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 5m0s restarting failed container"}}
    world.unready(number)
    world.status(number).update(restartCount=9, lastState=last, state=back_off, ready=False, started=False)
    return world


def test_what_the_kubelet_says_makes_the_probe_the_root_of_a_crash_loop():
    world = crash_loop(bitnami())
    world.event("Pod", "nats-1", "Killing", "Container nats failed liveness probe, will be restarted")
    finding = only(world, "DEPLOY_PROBE_KILLS")
    assert finding.severity is CRITICAL
    assert "kills the server of pod nats-1 (9 restarts)" in finding.sentence
    findings = [f for same in told(world.snapshot()).values() for f in same]
    verdict = rank(findings)
    assert verdict.root == finding
    assert "DEPLOY_PODS" in {f.check for f in verdict.consequences}


@pytest.mark.parametrize(("seconds", "severity"), [(86_400, CRITICAL), (86_401, OK)])
def test_a_kill_counts_for_a_day(seconds: float, severity: Severity):
    world = crash_loop(bitnami(), seconds=seconds)
    world.event("Pod", "nats-1", "Killing", "Container nats failed liveness probe, will be restarted")
    assert says(world, "DEPLOY_PROBE_KILLS") is severity


def test_a_crash_loop_of_another_cause_is_not_the_probes():
    world = crash_loop(bitnami())
    world.event("Pod", "nats-1", "BackOff", "Back-off restarting failed container")
    world.event("Pod", "nats-0", "Killing", "Container nats failed liveness probe, will be restarted")
    assert says(world, "DEPLOY_PROBE_KILLS") is OK


def test_a_server_that_was_killed_for_its_memory_was_not_killed_by_the_probe():
    world = crash_loop(bitnami())
    world.status(1)["lastState"]["terminated"]["reason"] = "OOMKilled"
    world.event("Pod", "nats-1", "Killing", "Container nats failed liveness probe, will be restarted")
    assert says(world, "DEPLOY_PROBE_KILLS") is OK


def test_without_events_nobody_knows_who_killed():
    world = crash_loop(bitnami())
    world.denied[Kind.EVENT] = DENIED
    assert says(world, "DEPLOY_PROBE_KILLS", DENIED.detail) is UNKNOWN


def test_what_a_strict_probe_answers_is_unknown_where_the_servers_health_is():
    world = bitnami()
    world.answers["nats-2"][Endpoint.HEALTHZ] = Unknown(reason=UnknownReason.TIMED_OUT, detail="no answer")
    assert says(world, "DEPLOY_PROBE_KILLS", "the liveness probe of nats-2") is UNKNOWN


def test_a_startup_probe_that_waits_for_one_stream_holds_up_the_rollout():
    world = sick_on(healthy())
    world.unready(1)
    world.status(1).update(started=False, ready=False)
    finding = only(world, "DEPLOY_PROBE_KILLS")
    assert (finding.severity, finding.issue) == (WARNING, "nats-io/k8s #1140")
    assert "It is killed 15 min after its start" in finding.sentence


def test_a_startup_probe_that_killed_is_critical():
    world = crash_loop(sick_on(healthy()))
    world.event("Pod", "nats-1", "Killing", "Container nats failed startup probe, will be restarted")
    assert says(world, "DEPLOY_PROBE_KILLS", "The startup probe /healthz kills") is CRITICAL


# The order of the start.


def ordered(world: World) -> World:
    world.spec["podManagementPolicy"] = "OrderedReady"
    return world


def test_an_ordered_start_waits_for_a_quorum_that_one_pod_can_not_make():
    finding = only(ordered(healthy()), "DEPLOY_START_ORDER")
    assert finding.severity is WARNING
    assert "startupProbe /healthz waits for a meta leader" in finding.sentence


def test_an_ordered_start_with_easy_probes_needs_names_for_pods_that_are_not_ready():
    world = ordered(bitnami())
    assert says(world, "DEPLOY_START_ORDER") is OK
    world.services[0]["spec"]["publishNotReadyAddresses"] = False
    assert says(world, "DEPLOY_START_ORDER", "a first pod that is not ready blocks the others") is WARNING
    world.denied[Kind.SERVICE] = DENIED
    assert says(world, "DEPLOY_START_ORDER", DENIED.detail) is UNKNOWN


def test_one_pod_alone_has_no_order():
    world = ordered(healthy())
    world.spec["replicas"] = 1
    assert says(world, "DEPLOY_START_ORDER") is OK
