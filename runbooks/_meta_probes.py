"""Which probes of the charts a server fails in its present state, because of its ports, of JetStream being off, or of the meta group. Pure.

The cluster audit passes on that a server is not healthy; here its exact text and its version say what Kubernetes makes of it (reference/nats.md 1.0).
"""

from __future__ import annotations

from bot.model import Endpoint, Finding, Focus, JsonObject, Layer, Severity, Snapshot, UnknownReason
from bot.model.groups import latest
from bot.model.probes import (
    BITNAMI_LIVENESS,
    OFFICIAL_CHART,
    Depth,
    Health,
    ProbeOutcome,
    health,
    probe_outcome,
    read_probe,
)
from bot.runbook import Thresholds
from runbooks._audit_versions import version_of
from runbooks._audit_views import Audit, known, on, read, why_not
from runbooks._consumer_views import listed
from runbooks._meta_views import meta_group

PROBES = Audit("READINESS_PROBES", Layer.CLIENTS)
"""In the last layer: a pod that leaves its Service is what clients feel of a cause further down."""


def no_probe_fails(snapshot: Snapshot, thresholds: Thresholds, focus: Focus) -> list[Finding]:  # noqa: ARG001 - the contract's parameters
    """No probe of the charts fails on any server, as far as it asks for less than every stream and consumer."""
    by_raftz = frozenset(s for s in known(snapshot) if _unasked(snapshot, s))
    facts = read(snapshot, Endpoint.HEALTHZ, known(snapshot) - by_raftz)
    states = {s: health(raw) for s, raw in facts.answers.items()} | {s: _by_raftz(snapshot, s) for s in by_raftz}
    for server, raw in facts.answers.items():
        facts.text(server, raw, "status")
    found = [_failing(snapshot, s, now) for s, now in sorted(states.items()) if now.failed and now.failed <= Depth.META]
    return PROBES.result(
        snapshot, found, [facts], f"No probe of the charts fails on {len(states)} servers because of the meta group."
    )


def _unasked(snapshot: Snapshot, server: str) -> bool:
    """True where HEALTHZ was not asked for the sake of an old server, whose Raft node tells part of it."""
    reason, _ = why_not(snapshot, server, Endpoint.HEALTHZ)
    return reason is UnknownReason.NOT_IN_VERSION and latest(snapshot, server, Endpoint.RAFTZ) is not None


def _by_raftz(snapshot: Snapshot, server: str) -> Health:
    group = meta_group(latest(snapshot, server, Endpoint.RAFTZ) or {})
    return health(None, group[1] if group else None)


def _failing(snapshot: Snapshot, server: str, now: Health) -> Finding:
    text = next((s.version for s in snapshot.servers if s.name == server), "")
    version = version_of(text)
    official = {kind: probe_outcome(read_probe(path, version), now) for kind, path in OFFICIAL_CHART.items()}
    fail = [f"{kind} ({OFFICIAL_CHART[kind]})" for kind, outcome in official.items() if outcome is ProbeOutcome.FAILS]
    rest = [kind.value for kind, outcome in official.items() if outcome is ProbeOutcome.PASSES]
    sentence = (
        f"Server {server} ({text or 'version unknown'}) says: {now.said}. It fails the official chart's {listed(fail)}"
    )
    sentence += f" and passes {listed(rest)}." if rest else "."
    if probe_outcome(read_probe(BITNAMI_LIVENESS, version), now) is ProbeOutcome.FAILS:
        sentence += (
            f" The Bitnami chart's liveness ({BITNAMI_LIVENESS}) fails too and kills the pod after about a minute."
        )
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
