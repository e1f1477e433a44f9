"""Which probes of the charts a server fails in its present state, because of its ports, of JetStream being off, or of the meta group. Pure.

The cluster audit passes on that a server is not healthy; here its exact text and its version say what Kubernetes makes of it (reference/nats.md 1.0).
"""

from __future__ import annotations

from bot.model import Endpoint, Finding, Focus, JsonObject, Layer, Severity, Snapshot, UnknownReason
from bot.model.groups import latest, meta_group
from bot.model.probes import (
    BITNAMI_LIVENESS,
    FULL,
    OFFICIAL_CHART,
    Depth,
    Health,
    ProbeKind,
    ProbeOutcome,
    health,
    probe_outcome,
    read_probe,
)
from bot.runbook import Thresholds
from runbooks._audit_versions import version_of
from runbooks._audit_views import Audit, few, known, on, read, why_not
from runbooks._consumer_views import listed

RUNNING = (ProbeKind.READINESS, ProbeKind.LIVENESS)
"""Probes of a pod that has started."""

PROBES = Audit("READINESS_PROBES", Layer.CLIENTS)
"""In the last layer: a pod that leaves its Service is what clients feel of a cause further down."""


def no_probe_fails(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """No readiness or liveness probe of the official chart fails on any server. What fails less than these is a remark: one reading is no rollout."""
    by_raftz = frozenset(s for s in known(snapshot) if _unasked(snapshot, s))
    facts = read(snapshot, Endpoint.HEALTHZ, known(snapshot) - by_raftz)
    states = {s: health(raw) for s, raw in facts.answers.items()} | {s: _by_raftz(snapshot, s) for s in by_raftz}
    for server, raw in facts.answers.items():
        facts.text(server, raw, "status")
    sick = [
        (s, now, _official(snapshot, s, now))
        for s, now in sorted(states.items())
        if now.failed and now.failed <= Depth.META
    ]
    found = [
        _failing(snapshot, s, now, fails)
        for s, now, fails in sick
        if any(fails[k] is ProbeOutcome.FAILS for k in RUNNING)
    ]
    ready = [f"{s} ({now.said})" for s, now, fails in sick if all(fails[k] is not ProbeOutcome.FAILS for k in RUNNING)]
    healthy = f"The official chart's readiness and liveness probes do not fail on {len(states)} servers."
    if ready:
        healthy += f" That does not mean that JetStream answers: {few(ready)}; {FULL}, the Bitnami chart's liveness, fails there."
    return PROBES.result(snapshot, found, [facts], healthy)


def _official(snapshot: Snapshot, server: str, now: Health) -> dict[ProbeKind, ProbeOutcome]:
    version = version_of(_version(snapshot, server))
    return {kind: probe_outcome(read_probe(path, version), now) for kind, path in OFFICIAL_CHART.items()}


def _version(snapshot: Snapshot, server: str) -> str:
    return next((s.version for s in snapshot.servers if s.name == server), "")


def _unasked(snapshot: Snapshot, server: str) -> bool:
    """True where HEALTHZ was not asked for the sake of an old server, whose Raft node tells part of it."""
    reason, _ = why_not(snapshot, server, Endpoint.HEALTHZ)
    return reason is UnknownReason.NOT_IN_VERSION and latest(snapshot, server, Endpoint.RAFTZ) is not None


def _by_raftz(snapshot: Snapshot, server: str) -> Health:
    group = meta_group(latest(snapshot, server, Endpoint.RAFTZ) or {})
    return health(None, group[1] if group else None)


def _failing(snapshot: Snapshot, server: str, now: Health, official: dict[ProbeKind, ProbeOutcome]) -> Finding:
    fail = [f"{kind} ({OFFICIAL_CHART[kind]})" for kind, outcome in official.items() if outcome is ProbeOutcome.FAILS]
    rest = [kind.value for kind, outcome in official.items() if outcome is ProbeOutcome.PASSES]
    text = _version(snapshot, server) or "version unknown"
    sentence = f"Server {server} ({text}) says: {now.said}. It fails the official chart's {listed(fail)}"
    sentence += f" and passes {listed(rest)}." if rest else "."
    sentence += f" The Bitnami chart's liveness ({BITNAMI_LIVENESS}) fails too and kills the pod after about a minute."
    if now.failed is Depth.PORTS:
        sentence += (
            " A server says so while it opens its ports after a start, and in lame duck mode before its end: wait."
        )
    evidence: JsonObject = {
        "said": now.said,
        "depth": now.failed.name.lower() if now.failed else None,
        "probes": {kind.value: outcome.value for kind, outcome in official.items()},
    }
    return PROBES.finding(on(snapshot, server), Severity.WARNING, sentence, evidence)
