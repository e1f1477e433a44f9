"""JetStream is not current with the meta leader (family A, nats-server #5976): is it a server that catches up, one that is stuck, or a probe too strict?

The three look alike in one reading, so the gap is read several times: shrinking means wait, flat with a leader known means a stuck server, coming and going
before 2.11 means that the readiness probe asks too much. Without a meta leader the probes are right (reference/nats.md 1.A).

What a probe path checks is in bot.model.probes. Where Kubernetes is read the real probes are judged too, by checks of the deployment runbook.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from bot.actions import meta_peer_remove
from bot.actions.kubernetes_probe import ProbeChange
from bot.actions.meta_step_down import ACTION as STEP_DOWN
from bot.actions.meta_step_down import step_down_stage, whole_meta
from bot.errors import Refused
from bot.model import Endpoint, Finding, Focus, Rung, Severity, Snapshot, Subject
from bot.model.absence import absence
from bot.model.probes import ENABLED_ONLY, ProbeKind
from bot.runbook import Draft, Proposed, Runbook, Threshold, Thresholds, Unit
from runbooks import _deploy_guidance as deploy
from runbooks import _readiness_guidance as guidance
from runbooks._audit_shared import JETSTREAM_RUNS
from runbooks._audit_versions import MIX
from runbooks._deploy_checks import KILLS, PROBE_THRESHOLDS
from runbooks._deploy_checks import PROBES as DECLARED_PROBES
from runbooks._deploy_offers import drafts, probe_way, restart_way, upgrade_way, workload_of
from runbooks._meta_gap import GAP, followers_keep_up
from runbooks._meta_margin import AWAY, MARGIN, meta_has_margin
from runbooks._meta_peers import EXPECTED, PEERS, SEEN, members_are_heard
from runbooks._meta_probes import PROBES, no_probe_fails
from runbooks._meta_views import LAG, SETTLE, YOUNG, Trend
from runbooks._readiness_charts import readiness_charts

PASSING = frozenset({Trend.CATCHING_UP, Trend.UNSETTLED})
LOAD = frozenset({Trend.COMES_AND_GOES, Trend.LAGGING})


def propose(snapshot: Snapshot, findings: Sequence[Finding], thresholds: Thresholds, focus: Focus) -> list[Proposed]:  # noqa: ARG001 - the contract's parameters
    """Return what helps in order of risk: wait, another leader, the probe, one restart, an upgrade, resources. Without a meta leader only to bring it back."""
    where = Subject(cluster=snapshot.cluster)
    nobody = [f for f in findings if f.check == MARGIN.code and f.evidence.get("quorum") is False]
    if nobody:
        return [Proposed(where, guidance.leave_probes(nobody[0]))]
    sick = [f for f in findings if f.severity in {Severity.WARNING, Severity.CRITICAL}]
    stuck = {
        f.subject.server: f
        for f in reversed(sick)
        if f.severity is Severity.CRITICAL and f.check in {GAP.code, PEERS.code} and f.cause
    }
    strict = next((f for f in sick if f.evidence.get("too strict on")), None)
    load = next((f for f in sick if f.evidence.get("trend") in LOAD), None)
    passing = [f for f in sick if _passes(f, stuck.keys(), too_strict=strict is not None)]
    removed = [f for f in sick if f.check == MIX.code]
    whole = not stuck and not any(f.check == MARGIN.code for f in sick)
    proposed = [Proposed(where, guidance.wait(snapshot, passing, thresholds))] if passing else []
    proposed += [Proposed(f.subject, _stepped_down(snapshot, f)) for f in stuck.values() if f.evidence.get("leads")]
    proposed += [p for f in sick if f.check == MARGIN.code for p in _removals(snapshot, f, thresholds)]
    proposed += [Proposed(f.subject, guidance.take_back(f)) for f in removed]
    if strict and whole:
        proposed += [Proposed(where, draft) for draft in _relaxed(snapshot, guidance.relax_probe(strict))]
    for server, finding in sorted(stuck.items(), key=lambda item: item[0] or ""):
        # Who answers us and not its leader lacks a route, which a restart may or may not bring back.
        if server and finding.evidence.get("frozen") is not False:
            guide = guidance.restart(finding, absence(snapshot, server))
            proposed += [Proposed(finding.subject, draft) for draft in _restarted(snapshot, server, guide)]
    if strict:
        guide = guidance.upgrade(strict, sorted({s.version for s in snapshot.servers}))
        proposed += [Proposed(where, draft) for draft in _upgraded(snapshot, guide)]
    if load:
        proposed.append(Proposed(where, guidance.resources(snapshot, load)))
    # A probe that kills is one to change in any case; one that is strict only where the gap comes and goes, which is told above.
    return deploy.guidance(snapshot, [f for f in findings if f.check == KILLS.code]) + proposed


def _stepped_down(snapshot: Snapshot, finding: Finding) -> Draft:
    """Another meta leader, by natsmedic itself where the other members are current."""
    guide = guidance.step_down(finding)
    try:
        whole_meta(snapshot)
    except Refused as refused:
        return guide.model_copy(
            update={"guidance": (*guide.guidance, *(f"Not offered: {why}" for why in refused.reasons))}
        )
    stage = (STEP_DOWN.kind, step_down_stage(snapshot).model_dump(mode="json"))
    return guide.model_copy(update={"stages": (stage,), "guidance": ()})


def _removals(snapshot: Snapshot, finding: Finding, thresholds: Thresholds) -> list[Proposed]:
    """Servers that are away for so long that nothing speaks for their life any more."""
    long = max(thresholds[AWAY], meta_peer_remove.GONE)
    found: list[Proposed] = []
    for server in finding.evidence.get("absent", ()):
        if meta_peer_remove.speaks_against(snapshot, server, long):
            continue
        stage = meta_peer_remove.remove_stage(snapshot, server, long).model_dump(mode="json")
        draft = Draft(
            title=f"Remove server {server} from the meta group",
            why=f"{finding.sentence} It is away for more than {long:.0f} s, and no stream or consumer has it as a member.",
            stages=((meta_peer_remove.ACTION.kind, stage),),
            rung=Rung(
                not_enough="The group is smaller then, and what its other members lack stays.",
                go_on="",
                problem="margin",
            ),
            cautions=(
                f"Only where {server} is gone for good: a server that is down for a while comes back by itself.",
            ),
        )
        found.append(Proposed(Subject(cluster=snapshot.cluster, server=server), draft))
    return found


def _relaxed(snapshot: Snapshot, guide: Draft) -> tuple[Draft, ...]:
    workload = workload_of(snapshot)
    if workload is None:
        return (guide,)
    change = ProbeChange(path=ENABLED_ONLY)
    return drafts(workload, [probe_way(snapshot, workload, ProbeKind.READINESS, change)], guide)


def _restarted(snapshot: Snapshot, server: str, guide: Draft) -> tuple[Draft, ...]:
    workload = workload_of(snapshot)
    way = restart_way(snapshot, workload, server) if workload is not None else None
    return (guide,) if way is None else drafts(workload, [way], guide)


def _upgraded(snapshot: Snapshot, guide: Draft) -> tuple[Draft, ...]:
    workload = workload_of(snapshot)
    way = upgrade_way(snapshot, workload) if workload is not None else None
    return (guide,) if way is None else drafts(workload, [way], guide)


def _passes(finding: Finding, stuck: Collection[str | None], *, too_strict: bool) -> bool:
    """True for what time may mend: a gap that shrinks, a server that starts or is away; not for what another proposal is about."""
    seen = finding.evidence
    if finding.severity is Severity.CRITICAL or finding.subject.server in stuck:
        return False
    match finding.check:
        case GAP.code:
            return seen.get("trend") in PASSING
        case MARGIN.code:
            return bool(set(seen.get("absent", ())) - set(stuck))
        case PROBES.code:
            return seen.get("depth") == "ports" or (seen.get("depth") == "meta" and not too_strict)
        case _:
            return finding.check == PEERS.code


_META = frozenset({Endpoint.JSZ})
_GAP = frozenset({Endpoint.RAFTZ, Endpoint.IPQUEUESZ})

RUNBOOK = Runbook(
    code="READINESS",
    title="JetStream is not current with the meta leader",
    alerts=frozenset(
        {
            "NatsReadinessFlapping",
            "NatsNotReady",
            "NatsNotCurrentWithMetaLeader",
            "NatsMetaNotCurrent",
            "NatsMetaLagging",
            "NatsMetaFollowerStuck",
            "NatsMetaPeerNotCurrent",
            "NatsMetaNoLeader",
            # Our own sources are the advisories $JS.EVENT.ADVISORY.DOMAIN.LEADER_ELECTED and SERVER.REMOVED.
            "NatsMetaLeaderElectionStorm",
            "NatsServerRemoved",
        }
    ),
    thresholds=(
        Threshold(
            SETTLE,
            5.0,
            Unit.SECONDS,
            "How far two readings lie apart; what does not move in three of them is called stuck.",
        ),
        Threshold(
            YOUNG,
            300.0,
            Unit.SECONDS,
            "How long after its start a server that does not move may still be replaying; the official chart waits 900 s.",
        ),
        Threshold(
            SEEN,
            10.0,
            Unit.SECONDS,
            "Since when the meta leader may not have heard from a member; Raft itself gives up after 10 s.",
        ),
        Threshold(
            LAG, 200, Unit.COUNT, "How many entries a member may be behind, as in `nats server check jetstream`."
        ),
        Threshold(
            AWAY,
            900.0,
            Unit.SECONDS,
            "How long a member may be away before that is no restart; the official chart waits 900 s.",
        ),
        Threshold(EXPECTED, 0, Unit.COUNT, "How many members the meta group must have; 0 does not ask."),
        *PROBE_THRESHOLDS,
    ),
    checks=(
        MARGIN.check("The meta group has a leader and can spare a member.", _META, meta_has_margin, _META),
        PEERS.check(
            "The meta leader hears every member.", _META | {Endpoint.VARZ, Endpoint.ROUTEZ}, members_are_heard, _META
        ),
        GAP.check(
            "Every server applies what the meta leader commits.",
            _META | _GAP | {Endpoint.VARZ, Endpoint.HEALTHZ},
            followers_keep_up,
            _GAP,
        ),
        PROBES.check(
            "No readiness or liveness probe of the official chart fails.",
            frozenset({Endpoint.HEALTHZ, Endpoint.RAFTZ}),
            no_probe_fails,
        ),
        # What a server that was removed shows afterwards: its JetStream is off.
        JETSTREAM_RUNS,
        KILLS,
        DECLARED_PROBES,
    ),
    propose=propose,
    rounds=4,
    interval=5.0,
    sources=(
        "nats-server #5976: JetStream is not current with the meta leader",
        "nats-server #5296: from 2.11.0 on js-server-only asks for the ports only",
        "nats-server server/monitor.go: order of the health checks",
        "nats server check meta",
    ),
    charts=readiness_charts,
)
