"""Looks at a cluster and judges what was seen: one runbook for an incident, or several at once for a report that needs neither store nor chat.

Judging is pure, so that it can be repeated offline; `look` is the one place that decides what is read, and what is read again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import structlog

from bot.errors import NatsmedicError
from bot.flow.ranking import rank
from bot.model import (
    Again,
    Endpoint,
    Finding,
    Focus,
    JsonObject,
    Layer,
    Moment,
    Patch,
    Record,
    RiskClass,
    Rung,
    Severity,
    Snapshot,
    SnapshotId,
    Subject,
    UnknownReason,
    Verdict,
)
from bot.model.kubernetes import ONLY_KUBERNETES
from bot.ports import Readers
from bot.runbook import Check, Proposed, Runbook, Thresholds

log = structlog.get_logger(__name__)


class Judgement(NamedTuple):
    """What one runbook says about one snapshot; no snapshot where nothing could be read."""

    snapshot: Snapshot | None
    runbook: Runbook
    findings: tuple[Finding, ...]
    verdict: Verdict
    proposed: tuple[Proposed, ...]


class PlannedAction(Record):
    """One action that a proposal would run."""

    kind: str
    params: JsonObject


class Offer(Record):
    """A proposal as a report shows it: nothing is stored and nobody can approve it here."""

    title: str
    why: str
    risk: RiskClass
    """`read` where it is guidance only."""
    actions: tuple[PlannedAction, ...]
    guidance: tuple[str, ...]
    """What a person does, in order, and then what to know before approving the actions."""
    patches: tuple[Patch, ...] = ()
    """Files that the guidance speaks of."""
    rung: Rung | None = None


class UnknownFact(Record):
    """One fact that could not be read; of the whole cluster where `server` is None."""

    fact: str
    server: str | None
    reason: str


class Report(Record):
    """One examination of one snapshot."""

    cluster: str
    gathered_at: Moment
    verdict: Verdict
    findings: tuple[Finding, ...]
    """The worst first, then by layer."""
    proposals: tuple[Offer, ...]
    unknown: tuple[UnknownFact, ...]


def needs_of(runbooks: Sequence[Runbook]) -> frozenset[Endpoint]:
    """Return everything that these runbooks look at."""
    return frozenset(endpoint for r in runbooks for endpoint in r.needs)


async def look(
    readers: Readers,
    runbooks: Sequence[Runbook],
    overrides: Mapping[str, Thresholds],
    focus: Focus,
    *,
    also: frozenset[Endpoint] = frozenset(),
) -> tuple[Snapshot, tuple[Judgement, ...]]:
    """Gather what these runbooks need, and the endpoints `also`, in one pass and judge it. Only what the first look leaves open is read again.

    Raises `Unreadable` where nothing could be read.
    """
    first: dict[SnapshotId, tuple[Judgement, ...]] = {}

    def again(snapshot: Snapshot) -> Again | None:
        first[snapshot.id] = judge(snapshot, runbooks, overrides, focus)
        return unsettled(first[snapshot.id], overrides)

    # Subscriptions are a long answer that only a question about a subject needs.
    about = frozenset({Endpoint.SUBSZ} if focus.subject else ())
    snapshot = await readers.gather(needs_of(runbooks) | also | about, again=again)
    judged = first.get(snapshot.id)
    return snapshot, judged or await asyncio.to_thread(judge, snapshot, runbooks, overrides, focus)


def judge(
    snapshot: Snapshot, runbooks: Sequence[Runbook], overrides: Mapping[str, Thresholds], focus: Focus
) -> tuple[Judgement, ...]:
    """Judge a snapshot by each of these runbooks. One that looks at nothing this cluster has is left out of several, and alone it is unknown."""
    asked = [r for r in runbooks if r.applies(snapshot)] or runbooks
    return tuple(examine(snapshot, r, r.values(overrides.get(r.code)), focus) for r in asked)


def unsettled(judged: Sequence[Judgement], overrides: Mapping[str, Thresholds]) -> Again | None:
    """Return what must be read again: what the checks that are not content with the first look compare over time; None for nothing."""
    endpoints: set[Endpoint] = set()
    doubtful: list[Runbook] = []
    for judgement in judged:
        not_ok = {f.check for f in judgement.findings if f.severity is not Severity.OK}
        trends = {e for check in judgement.runbook.checks if check.code in not_ok for e in check.trend}
        if trends and judgement.runbook.rounds > 1:
            endpoints |= trends
            doubtful.append(judgement.runbook)
    if not doubtful:
        return None
    # What a runbook judges is the time from its first look to its last: the longest holds for all, and the rounds share it.
    rounds = max(r.rounds for r in doubtful)
    longest = max((r.rounds - 1) * interval(r, overrides.get(r.code)) for r in doubtful)
    return Again(frozenset(endpoints), rounds, longest / (rounds - 1))


def interval(runbook: Runbook, overrides: Thresholds | None) -> float:
    """Return the seconds between rounds: a runbook that waits for a state to settle looks again just then."""
    return runbook.values(overrides).get("settle", runbook.interval)


def examine(snapshot: Snapshot, runbook: Runbook, thresholds: Thresholds, focus: Focus) -> Judgement:
    """Judge a snapshot by one runbook. A check that breaks is an unknown fact, named as such, and never hides the others."""
    silent = silence(snapshot)
    findings = [silent] if silent else []
    if not runbook.applies(snapshot):
        findings.append(without_kubernetes(snapshot, runbook))
    for check in (c for c in runbook.checks if c.applies(snapshot)):
        try:
            findings += _as_far_as_read(snapshot, check, check.examine(snapshot, thresholds, focus))
        except Exception as error:  # a broken check must not hide what the others found; it is reported as unknown
            log.exception("a check failed", check=check.code, snapshot=snapshot.id)
            findings.append(
                Finding(
                    check=check.code,
                    layer=check.layer,
                    subject=Subject(cluster=snapshot.cluster),
                    severity=Severity.UNKNOWN,
                    sentence=f"Check {check.code} failed on this snapshot ({type(error).__name__}), so its answer is unknown.",
                )
            )
    try:
        proposed = tuple(runbook.propose(snapshot, findings, thresholds, focus))
    except Exception as error:  # what was found is worth more than what could be done about it
        log.exception("a runbook can't propose", runbook=runbook.code, snapshot=snapshot.id)
        proposed = ()
        findings.append(
            Finding(
                check=f"{runbook.code}_PROPOSALS",
                layer=Layer.CLIENTS,
                subject=Subject(cluster=snapshot.cluster),
                severity=Severity.UNKNOWN,
                sentence=f"Runbook {runbook.code} could not say what to do about this ({type(error).__name__}); what it found stands.",
            )
        )
    return Judgement(snapshot, runbook, tuple(findings), rank(findings), proposed)


def unreadable(cluster: str, error: NatsmedicError) -> Finding:
    """Return the finding for a cluster of which nothing could be read."""
    return Finding(
        check="CLUSTER_READABLE",
        layer=Layer.REACHABILITY,
        subject=Subject(cluster=cluster),
        severity=Severity.UNKNOWN,
        sentence=f"Nothing could be read from cluster {cluster}: {error}",
        evidence={"needs": [e.value for e in Endpoint]},
    )


def silence(snapshot: Snapshot) -> Finding | None:
    """Return the finding for a cluster of which Kubernetes says something and no server of NATS does; None where a server was read."""
    if snapshot.via != ONLY_KUBERNETES:
        return None
    why = next((unknown.detail for unknown in snapshot.unknown), "no server answered")
    return Finding(
        check="CLUSTER_READABLE",
        layer=Layer.REACHABILITY,
        subject=Subject(cluster=snapshot.cluster),
        severity=Severity.UNKNOWN,
        sentence=f"No server of {snapshot.cluster} could be read, only what Kubernetes says of it: {why}",
        evidence={"via": snapshot.via},
    )


def without_kubernetes(snapshot: Snapshot, runbook: Runbook) -> Finding:
    """Return the finding of a runbook that judges nothing but Kubernetes, for a cluster of which that side was not read."""
    return Finding(
        check="KUBERNETES_READABLE",
        layer=Layer.REACHABILITY,
        subject=Subject(cluster=snapshot.cluster),
        severity=Severity.UNKNOWN,
        sentence=(
            f"{runbook.code} judges what Kubernetes says of a cluster, and for {snapshot.cluster} that was not read: "
            "the cluster has no `kubernetes` settings, or the archive was gathered without them."
        ),
        evidence={"via": snapshot.via},
    )


def report(snapshot: Snapshot, judged: Sequence[Judgement], risks: Mapping[str, RiskClass]) -> Report:
    """Return what several runbooks together say about a snapshot. `risks` is the risk class of each action kind.

    A finding that several of them make (same check, same subject) counts once, as its worst; so does a proposal.
    """
    findings: dict[tuple[str, Subject], list[Finding]] = {}
    offers: dict[tuple[str, Subject], Offer] = {}
    for found in (_unseen(snapshot), *(j.findings for j in judged)):
        for key, same in _by_subject(found).items():
            if key not in findings or _worst(same) > _worst(findings[key]):
                findings[key] = same
    for proposed in (p for j in judged for p in j.proposed):
        offers.setdefault((proposed.draft.title, proposed.subject), _offer(proposed, risks))
    ordered = sorted((f for same in findings.values() for f in same), key=lambda f: (-f.severity.rank, f.layer))
    return Report(
        cluster=snapshot.cluster,
        gathered_at=snapshot.taken_at,
        verdict=rank(ordered),
        findings=tuple(ordered),
        proposals=tuple(offers.values()),
        unknown=unknown_facts(snapshot, needs_of([j.runbook for j in judged])),
    )


def unknown_facts(snapshot: Snapshot, needs: frozenset[Endpoint]) -> tuple[UnknownFact, ...]:
    """Return every fact that is needed and not known, once however often it was asked for."""
    found: dict[tuple[str, str | None], UnknownFact] = {}

    def add(fact: str, server: str | None, reason: str) -> None:
        found.setdefault((fact, server), UnknownFact(fact=fact, server=server, reason=reason))

    for number, unknown in enumerate(snapshot.unknown, start=1):
        add(f"cluster:{number}", None, f"{unknown.reason.value}: {unknown.detail}")
    for sample in snapshot.samples:
        if sample.unknown is not None and sample.endpoint in needs:
            add(sample.endpoint.value, sample.server, f"{sample.unknown.reason.value}: {sample.unknown.detail}")
    for server, complaint in _complaints(snapshot) if Endpoint.JSZ in needs else ():
        where, _, what = complaint.partition(": ")
        add(f"{Endpoint.JSZ.value} {where}", server, f"{UnknownReason.UNREADABLE.value}: {what}")
    for server in sorted(snapshot.expected | {s.name for s in snapshot.servers}):
        for endpoint in sorted(needs):
            if snapshot.sample(server, endpoint) is None:
                add(endpoint.value, server, "not_gathered: the snapshot holds no answer of it")
    return tuple(
        fact.model_copy(update={"fact": "cluster"}) if fact.server is None else fact for fact in found.values()
    )


def _as_far_as_read(snapshot: Snapshot, check: Check, findings: Sequence[Finding]) -> list[Finding]:
    """A check that had not one answer to look at, or one with fields that are not what they must be, has seen nothing wrong, and nothing right either.

    Checks of the Kubernetes side have that to look at where no server answers, and name themselves what they miss of the servers.
    """
    complaints = _complaints(snapshot) if Endpoint.JSZ in check.needs else []
    asked = check.needs and not check.of_kubernetes
    if asked and not any(sample.data is not None and sample.endpoint in check.needs for sample in snapshot.samples):
        why = f"No server's {', '.join(sorted(check.needs))} could be read"
    elif complaints:
        server, complaint = complaints[0]
        more = f" and {len(complaints) - 1} more fields" if len(complaints) > 1 else ""
        why = f"{Endpoint.JSZ} of {server} could not be read completely ({complaint}{more})"
    else:
        return list(findings)
    blind = {
        "severity": Severity.UNKNOWN,
        "sentence": f"{why}, so nobody knows whether this holds: {check.healthy}",
    }
    return [f.model_copy(update=blind) if f.severity is Severity.OK else f for f in findings]


def _complaints(snapshot: Snapshot) -> list[tuple[str, str]]:
    """Return the wrong fields of all rounds, each once."""
    return snapshot.once(
        "complaints", lambda: list(dict.fromkeys(c for n in range(snapshot.rounds) for c in snapshot.complaints(n)))
    )


def _by_subject(findings: Sequence[Finding]) -> dict[tuple[str, Subject], list[Finding]]:
    """Group findings by check and subject; one check may have several things to say about one subject."""
    grouped: dict[tuple[str, Subject], list[Finding]] = {}
    for finding in findings:
        grouped.setdefault((finding.check, finding.subject), []).append(finding)
    return grouped


def _worst(findings: Sequence[Finding]) -> int:
    return max(f.severity.rank for f in findings)


def _unseen(snapshot: Snapshot) -> list[Finding]:
    """A snapshot without any server's own answer makes no cluster healthy, whatever a check concludes from nothing."""
    if any(sample.data is not None for sample in snapshot.samples):
        return []
    why = "; ".join(unknown.detail for unknown in snapshot.unknown) or "it holds no server's answer"
    return [
        Finding(
            check="SERVERS_VISIBLE",
            layer=Layer.REACHABILITY,
            subject=Subject(cluster=snapshot.cluster),
            severity=Severity.UNKNOWN,
            sentence=f"What the servers of {snapshot.cluster} hold can't be seen over the {snapshot.via}: {why}.",
            evidence={"via": snapshot.via, "read": len(snapshot.api)},
        )
    ]


def _offer(proposed: Proposed, risks: Mapping[str, RiskClass]) -> Offer:
    draft = proposed.draft
    # An action that is not registered is refused at start; a draft's worst action decides.
    known = [risks.get(kind, RiskClass.DESTRUCTIVE) for kind, _ in draft.stages]
    return Offer(
        title=draft.title,
        why=draft.why,
        risk=max(known, key=lambda r: r.rank, default=RiskClass.READ),
        actions=tuple(PlannedAction(kind=kind, params=params) for kind, params in draft.stages),
        guidance=(*draft.guidance, *draft.cautions),
        patches=draft.patches,
        rung=draft.rung,
    )
