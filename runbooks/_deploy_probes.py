"""Whether the probes of the NATS container suit what they do to a pod, and whether one kills servers now. Pure functions of snapshot and thresholds.

What a path asks of a server of one version is in bot.model.probes. A liveness probe that asks `/healthz` without narrowing it (the Bitnami chart's, from
8.2.2) kills every server on which one stream or consumer is not current: the CrashLoopBackOff of incident family E (reference/nats.md 4.4).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from bot.model import Finding, Focus, JsonObject, Layer, Severity, Snapshot, Unknown
from bot.model.kubernetes import ContainerState, Event, Pod
from bot.model.kubernetes import Probe as Declared
from bot.model.probes import (
    ENABLED_ONLY,
    RELAXED,
    Depth,
    Health,
    ProbeKind,
    ProbeOutcome,
    fit,
    probe_outcome,
)
from bot.runbook import Thresholds
from runbooks._audit_views import few
from runbooks._deploy_asked import Asked, answer_of, asked, health_of
from runbooks._deploy_pods import RECENT
from runbooks._deploy_views import Look, Topic, lasting

PROBES = Topic("DEPLOY_PROBES", Layer.CLIENTS)
"""In the last layer: a probe that might hurt explains nothing by itself, and must not hide what is wrong now."""
KILLS = Topic("DEPLOY_PROBE_KILLS", Layer.REACHABILITY)
"""In the first layer: a server that is killed again and again is what everything else follows from."""
ORDER = Topic("DEPLOY_START_ORDER", Layer.CLIENTS)

RECOVERY = "recovery"
"""Threshold: seconds that a server must be given to recover before a probe kills it."""

PATIENCE = "patience"
"""Threshold: seconds for which a liveness probe must fail before it kills."""

KILLERS: Final = (ProbeKind.LIVENESS, ProbeKind.STARTUP)
"""Probes that end a container."""

READINESS_ISSUE: Final = "nats-server #5976; #5296 is in 2.11.0 and in no 2.10 release"
STARTUP_ISSUE: Final = "nats-io/k8s #1140"
LIVENESS_ISSUE: Final = "the liveness probe of bitnami/charts nats 8.2.2 and later"


def probes_fit(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """Every probe is there, asks no more than its kind must, and waits long enough."""

    def judge(look: Look) -> None:
        probes = asked(look)
        for kind in (ProbeKind.READINESS, ProbeKind.LIVENESS):
            if kind not in probes:
                evidence = look.in_container(f"{kind.value}Probe", None, ENABLED_ONLY) | {"probe": kind.value}
                evidence |= {"absent": True}
                look.warn(_absent(look, kind), evidence)
        for probe in probes.values():
            _judge_path(look, probe)
        _judge_times(look, probes, thresholds)

    return PROBES.judge(snapshot, judge, "The probes ask no more than they must, and wait long enough.")


def probes_kill_nobody(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """No liveness or startup probe ends a server that would recover. Who was killed is told by the kubelet's events, or by what the probe answers now."""

    def judge(look: Look) -> None:
        for pod in look.pods():
            if pod.deleting:
                continue
            for kind in KILLERS:
                _judge_killer(look, pod, kind, thresholds)

    return KILLS.judge(snapshot, judge, "No probe kills a server that only catches up.")


def pods_start_together(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """Pods do not wait for each other before they start: the first would wait for a quorum that the others make."""

    def judge(look: Look) -> None:
        workload = look.workload
        if workload.replicas < 2 or workload.pod_management_policy != "OrderedReady":
            return
        quorum = [p for p in asked(look).values() if p.kind is not ProbeKind.LIVENESS and p.reaches >= Depth.META]
        evidence = look.seen(workload, "spec.podManagementPolicy", "OrderedReady", "Parallel")
        if quorum:
            named = few([f"{p.place} {p.words}" for p in quorum])
            look.warn(
                f"StatefulSet {look.name} starts its pods one after another (OrderedReady), and {named} waits for a meta leader, which one pod alone "
                "can't elect: after all pods have stopped the cluster does not start again.",
                evidence | {"probes": [p.words for p in quorum]},
            )
            return
        service = workload.headless
        if service is None or isinstance(service, Unknown):
            if isinstance(service, Unknown):
                look.complain(service.detail)
            return
        if not service.publishes_not_ready:
            look.warn(
                f"StatefulSet {look.name} starts its pods one after another (OrderedReady), and Service {service.name} gives a pod its name only when it is "
                "ready: a first pod that is not ready blocks the others and can't be found by them.",
                evidence | {"publishNotReadyAddresses": False},
            )

    return ORDER.judge(snapshot, judge, "Pods start without waiting for each other.")


# The probes as they are written.


def _absent(look: Look, kind: ProbeKind) -> str:
    if kind is ProbeKind.READINESS:
        return f"Container {look.nats.name} has no readiness probe: its pod gets clients before the server takes any."
    return f"Container {look.nats.name} has no liveness probe: a server that hangs, or has turned its JetStream off, stays as it is."


def _judge_path(look: Look, probe: Asked) -> None:
    if probe.asks is None:
        return
    judged = fit(probe.kind, probe.asks)
    if not judged.too_strict:
        return
    broken = probe.asks.always is ProbeOutcome.FAILS
    now = _outcomes(look, probe.kind)
    failing = [name for name, outcome in now.items() if outcome is ProbeOutcome.FAILS]
    version = look.version()
    of = f" on {'.'.join(map(str, version))}" if version else ""
    note = f" ({probe.asks.note})" if probe.asks.note and not broken else ""
    sentence = f"The {probe.kind.value} probe {probe.words}{of} is too strict{note}. {judged.why}"
    sentence += f" It fails now on {few(failing)}." if failing else ""
    evidence = look.in_container(f"{probe.place}.httpGet.path", probe.declared.path, judged.better)
    evidence |= {"now": {name: outcome.value for name, outcome in now.items()}, "probe": probe.kind.value}
    strict_before_211 = probe.kind is ProbeKind.READINESS and probe.asks.depth is Depth.META
    issue = READINESS_ISSUE if strict_before_211 and version and version < RELAXED else None
    issue = LIVENESS_ISSUE if probe.kind is ProbeKind.LIVENESS and probe.asks.depth is Depth.ASSETS else issue
    look.tell(Severity.CRITICAL if broken else Severity.WARNING, sentence, evidence, issue=issue)


def _outcomes(look: Look, kind: ProbeKind) -> dict[str, ProbeOutcome]:
    """What the probe answers at this moment in each pod, as far as its server tells."""
    pods = look.workload.pods
    found = {pod.name: answer_of(look, pod, kind) for pod in (() if isinstance(pods, Unknown) else pods)}
    return {
        name: outcome for name, (probe, outcome, _) in found.items() if probe is not None and probe.asks is not None
    }


def _judge_times(look: Look, probes: Mapping[ProbeKind, Asked], thresholds: Thresholds) -> None:
    """A server that recovers opens its ports late: what kills it meanwhile must wait. The monitoring port answers before (server/server.go, Start)."""
    startup, liveness = probes.get(ProbeKind.STARTUP), probes.get(ProbeKind.LIVENESS)
    recovery, patience = thresholds[RECOVERY], thresholds[PATIENCE]
    first = startup or liveness
    if first is not None and (startup is not None or first.reaches >= Depth.PORTS):
        given = first.declared.initial_delay + first.declared.patience
        if given < recovery:
            alone = "" if startup is not None else "There is no startup probe, and "
            sentence = (
                f"{alone}{'T' if startup else 't'}he {first.kind.value} probe gives a server {given} s to recover ({_times(first.declared)}), and then "
                f"kills it, which begins anew; less than {recovery:g} s is little for large streams."
            )
            evidence = look.in_container(first.place, _numbers(first.declared), {"seconds": recovery})
            look.warn(sentence, evidence | {"probe": "startup", "absent": startup is None, "seconds": given})
    if liveness is not None and liveness.declared.patience < patience:
        sentence = (
            f"The liveness probe kills a server that does not answer for {liveness.declared.patience} s ({_times(liveness.declared)}); "
            f"less than {patience:g} s is a pause that a busy node or a slow disk makes."
        )
        evidence = look.in_container(liveness.place, _numbers(liveness.declared), {"seconds": patience})
        look.warn(sentence, evidence | {"probe": "liveness", "seconds": liveness.declared.patience})


def _times(probe: Declared) -> str:
    delay = f"initialDelaySeconds {probe.initial_delay} + " if probe.initial_delay else ""
    return f"{delay}periodSeconds {probe.period} x failureThreshold {probe.failure_threshold}"


def _numbers(probe: Declared) -> JsonObject:
    return {
        "initialDelaySeconds": probe.initial_delay,
        "periodSeconds": probe.period,
        "failureThreshold": probe.failure_threshold,
    }


# What they do.


def _judge_killer(look: Look, pod: Pod, kind: ProbeKind, thresholds: Thresholds) -> None:
    probes, status = asked(look, pod), pod.statuses.get(look.nats.name)
    probe = probes.get(kind)
    if probe is None or probe.asks is None or status is None or probe.reaches < Depth.META:
        return
    # Until the startup probe has succeeded once it is the only one that is asked, and never afterwards.
    starting = ProbeKind.STARTUP in probes and not status.started
    active = status.state is ContainerState.RUNNING and starting is (kind is ProbeKind.STARTUP)
    last = status.last_termination
    age = look.age(last.finished_at) if last and not last.oom_killed else None
    ended = age is not None and age <= thresholds[RECENT]
    killing = look.known(_killing(look, pod, kind)) if ended else None
    now = health_of(look, pod)
    answer = probe_outcome(probe.asks, now) if active else ProbeOutcome.PASSES
    if answer is ProbeOutcome.UNKNOWN:
        look.complain(f"what {probe.words}, the {kind.value} probe of {pod.name}, answers now")
    if killing:
        _tell_killed(look, pod, probe, killing[-1], now.said if answer is ProbeOutcome.FAILS else "")
    elif answer is ProbeOutcome.FAILS:
        _tell_failing(look, pod, probe, now, again=ended)


def _killing(look: Look, pod: Pod, kind: ProbeKind) -> tuple[Event, ...] | Unknown:
    """The kubelet's words that it ends the container for this probe's sake (pkg/kubelet/kuberuntime/kuberuntime_manager.go, computePodActions)."""
    events = look.workload.events
    if isinstance(events, Unknown):
        return events
    words = f"failed {kind.value} probe"
    return tuple(e for e in events if e.object_name == pod.name and e.reason == "Killing" and words in e.message)


def _tell_killed(look: Look, pod: Pod, probe: Asked, event: Event, server_says: str) -> None:
    restarts = pod.statuses[look.nats.name].restarts
    sentence = f"The {probe.kind.value} probe {probe.words} kills the server of pod {pod.name} ({restarts} restarts): {_what_it_asks(probe)}."
    sentence += f" The server says: {server_says}." if server_says else ""
    sentence += f" {_why(probe)}"
    evidence = _killer(look, pod, probe) | {"restarts": restarts, "event": event.message, "said": server_says}
    look.tell(Severity.CRITICAL, sentence, evidence, pod, cause=True, issue=_issue(probe))


def _tell_failing(look: Look, pod: Pod, probe: Asked, now: Health, *, again: bool) -> None:
    """One reading is no kill: after a scale-up a group is not healthy for seconds. A server that ended before and fails `again` is one that is killed."""
    restarts = pod.statuses[look.nats.name].restarts
    evidence = _killer(look, pod, probe) | {"said": now.said, "restarts": restarts}
    evidence |= {"depth": now.failed.name.lower() if now.failed is not None else None}
    declared = probe.declared
    if probe.kind is ProbeKind.STARTUP:
        wait = declared.initial_delay + declared.patience
        look.tell(
            Severity.WARNING,
            f"Pod {pod.name} counts as starting, since its startup probe {probe.words} fails: {now.said}. It is killed {lasting(wait)} after its start, "
            f"and a rollout waits for it meanwhile. {_why(probe)}",
            evidence,
            pod,
            issue=_issue(probe),
        )
        return
    look.tell(
        Severity.CRITICAL if again else Severity.WARNING,
        f"The liveness probe {probe.words} fails on pod {pod.name}: {now.said}. When it fails for {lasting(declared.patience)} the server is killed "
        f"({restarts} restarts so far). {_why(probe)}",
        evidence,
        pod,
        cause=again,
        issue=_issue(probe),
    )


def _what_it_asks(probe: Asked) -> str:
    if probe.reaches is Depth.ASSETS:
        return "it fails as soon as one stream or consumer on the server is not current"
    return "it fails as soon as the server is not current with the meta leader"


def _why(probe: Asked) -> str:
    if probe.kind is ProbeKind.STARTUP:
        return "A restart does not mend it: the server has to catch up all the same."
    return "A restart does not mend that, it only makes the server catch up from further behind (CrashLoopBackOff)."


def _issue(probe: Asked) -> str:
    return STARTUP_ISSUE if probe.kind is ProbeKind.STARTUP else LIVENESS_ISSUE


def _killer(look: Look, pod: Pod, probe: Asked) -> JsonObject:
    field = f"spec.containers[name={look.nats.name}].{probe.place}.httpGet.path"
    return look.seen(pod, field, probe.declared.path, ENABLED_ONLY) | {"probe": probe.kind.value}
