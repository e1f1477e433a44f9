"""Phase 2: gather once, examine, rank, propose. Reads only; ends in a stored Diagnosis and, where something can be repaired, proposals."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta

from bot import crashpoints
from bot.crashpoints import Point
from bot.errors import Unreadable
from bot.flow.aftermath import rescues
from bot.flow.endings import end_proposal
from bot.flow.examination import Judgement, look, unreadable
from bot.flow.illustration import illustrate
from bot.flow.ladder import climb
from bot.flow.ranking import rank
from bot.flow.stages import Stages
from bot.flow.storm import Storms
from bot.flow.turns import Turns
from bot.limits import Limits
from bot.model import (
    AuditDraft,
    Diagnosis,
    DiagnosisId,
    Focus,
    Incident,
    IncidentId,
    IncidentState,
    Proposal,
    ProposalId,
    ProposalState,
    Severity,
    digest,
    new_id,
)
from bot.model.subjects import PATTERN, SUBJECT_LABEL
from bot.ports import Chat, Clock, Readers, Steps, Store, Transaction
from bot.runbook import Proposed, Runbook, Thresholds
from bot.settings import Mode, PolicySettings, ThreadSettings

FOCUS_LABELS: Mapping[str, tuple[str, ...]] = {
    "account": ("account", "account_name"),
    "stream": ("stream", "stream_name"),
    "consumer": ("consumer", "consumer_name"),
    "server": ("server_name",),
    "subject": (SUBJECT_LABEL,),
}
"""Labels of prometheus-nats-exporter and nats-surveyor that name the thing (reference/nats.md 5.1, 5.2)."""


AT_ONCE = 2
"""Diagnoses of one cluster at once: a storm brings a score of them, each some 0.2 s of work, and webhooks and clicks share the processor with them. Each
cluster has turns of its own, so that a slow one delays no other."""
GUIDANCE_SECONDS = 86_400
"""Guidance waits for nobody's approval; a day later the cluster it was written for is another one."""


def focus_of(labels: Mapping[str, str]) -> Focus:
    """Return what an alert's labels point at. A hint: every target acted on is read from the cluster."""
    found = {
        field: next((labels[name] for name in names if labels.get(name)), None) for field, names in FOCUS_LABELS.items()
    }
    if found["subject"] and not PATTERN.fullmatch(found["subject"]):
        found["subject"] = None
    return Focus(**found)


def runbook_for(alert: str, runbooks: Sequence[Runbook]) -> Runbook:
    """Return the runbook that answers this alert name, or whose code it is; an unknown alert gets the one whose checks cover the most."""
    found = (r for r in runbooks if alert in r.alerts or alert == r.code)
    return next(found, max(runbooks, key=lambda r: len(r.checks)))


class Diagnoser:
    """Runs diagnoses. Holds Readers only."""

    def __init__(
        self,
        *,
        store: Store,
        clock: Clock,
        chat: Chat,
        readers: Mapping[str, Readers],
        runbooks: Sequence[Runbook],
        stages: Stages,
        rules: PolicySettings,
        limits: Limits,
        mode: Mode,
        writable: Collection[str],
        thresholds: Mapping[str, Thresholds],
        threads: ThreadSettings,
    ) -> None:
        self._store = store
        self._clock = clock
        self._chat = chat
        self._readers = readers
        self._runbooks = runbooks
        self._stages = stages
        self._rules = rules
        self._limits = limits
        self._mode = mode
        self._writable = writable
        self._thresholds = thresholds
        self._storms = Storms(threads, clock)
        self._turns = {cluster: Turns(AT_ONCE) for cluster in readers}

    async def run(self, key: str, steps: Steps) -> None:
        """Diagnose for `key` = `<incident id>/<reason>`; the same key never diagnoses twice."""
        incident_id, _, reason = key.partition("/")

        async def work() -> str:
            return await self._run(IncidentId(incident_id), reason, DiagnosisId(f"diag_{digest(key)[:26]}"))

        await steps.run("diagnose", work)
        self._chat.nudge(IncidentId(incident_id))

    async def _run(self, incident_id: IncidentId, reason: str, diagnosis_id: DiagnosisId) -> str:
        incident = await self._store.get(Incident, incident_id)
        if incident is None or incident.cluster is None or await self._store.get(Diagnosis, diagnosis_id) is not None:
            return "nothing to do"
        async with self._turns[incident.cluster].turn(_rank(incident, reason)):
            return await self._diagnose(incident, reason, diagnosis_id)

    async def _diagnose(self, incident: Incident, reason: str, diagnosis_id: DiagnosisId) -> str:
        started = self._clock.now()
        focus = focus_of(incident.labels)
        judged = await self._judge(incident, focus)
        crashpoints.reached(Point.P05)
        charts = await asyncio.to_thread(illustrate, judged, self._thresholds.get(judged.runbook.code), focus)
        snapshot_digest = await self._store.save_snapshot(judged.snapshot) if judged.snapshot else None
        diagnosis = Diagnosis(
            id=diagnosis_id,
            incident_id=incident.id,
            runbook=judged.runbook.code,
            snapshot_id=judged.snapshot.id if judged.snapshot else None,
            snapshot_digest=snapshot_digest,
            started_at=started,
            ended_at=self._clock.now(),
            verdict=judged.verdict,
            findings=judged.findings,
            reason=reason,
            charts=charts,
        )
        lost = await rescues(self._store, self._stages, self._readers[incident.cluster or ""], incident.id)
        proposals = [await self._proposal(incident, diagnosis, one) for one in (*lost, *judged.proposed)]
        async with self._store.begin() as tx:
            await self._commit(tx, diagnosis, proposals)
        crashpoints.reached(Point.P06)
        return diagnosis.verdict.severity

    async def _judge(self, incident: Incident, focus: Focus) -> Judgement:
        cluster = incident.cluster or ""
        runbook = runbook_for(incident.title, self._runbooks)
        try:
            _, (judgement,) = await look(self._readers[cluster], (runbook,), self._thresholds, focus)
        except Unreadable as error:
            finding = unreadable(cluster, error)
            return Judgement(None, runbook, (finding,), rank([finding]), ())
        return judgement

    async def _proposal(self, incident: Incident, diagnosis: Diagnosis, proposed: Proposed) -> Proposal:
        readers = self._readers[incident.cluster or ""]
        draft = proposed.draft
        plan = await self._stages.plan(readers, draft)
        now = self._clock.now()
        expiry = self._rules.for_cluster(incident.cluster or "").expiry_seconds
        reason = self._why_not_offered(incident.cluster or "") if plan.stages else ""
        return Proposal(
            id=ProposalId(new_id("prop")),
            incident_id=incident.id,
            diagnosis_id=diagnosis.id,
            cluster=incident.cluster or "",
            subject=proposed.subject,
            title=draft.title,
            why=draft.why,
            risk=plan.risk,
            stages=plan.stages,
            guidance=(*draft.guidance, *plan.guidance),
            rung=draft.rung,
            cautions=draft.cautions,
            patches=draft.patches,
            tunables=plan.tunables,
            world=plan.world,
            state=ProposalState.PENDING if plan.stages and not reason else ProposalState.PROPOSED,
            state_reason=reason,
            button=new_id("btn"),
            requested_by=incident.requested_by,
            created_at=now,
            expires_at=now + timedelta(seconds=expiry.get(plan.risk, GUIDANCE_SECONDS)),
        )

    def _why_not_offered(self, cluster: str) -> str:
        """Return why what natsmedic would do waits for nobody's approval; empty where it can be approved."""
        if self._mode is Mode.OBSERVE:
            return "Mode observe: natsmedic shows what it would do and changes nothing."
        if cluster not in self._writable:
            return f"natsmedic holds no writing credential for cluster {cluster}, so it shows what it would do and changes nothing."
        return ""

    async def _with_limits(self, tx: Transaction, proposal: Proposal) -> Proposal:
        """A proposal that may not start yet says so, and its time to be approved begins when it may."""
        ruling = await self._limits.start(tx, proposal)
        if ruling.allowed or proposal.state is not ProposalState.PENDING:
            return proposal
        wait = max((ruling.opens_at or self._clock.now()) - self._clock.now(), timedelta())
        return proposal.model_copy(
            update={"cautions": (ruling.sentence, *proposal.cautions), "expires_at": proposal.expires_at + wait}
        )

    async def _commit(self, tx: Transaction, diagnosis: Diagnosis, proposals: Sequence[Proposal]) -> None:
        incident = await tx.get(Incident, diagnosis.incident_id)
        if incident is None:
            return
        before = await tx.proposals(incident.id)
        proposals = climb(proposals, before)
        old = [p for p in before if p.state in {ProposalState.PENDING, ProposalState.PROPOSED}]
        kept = {p.offer for p in old} & {p.offer for p in proposals}
        fresh = [p for p in proposals if p.offer not in kept]
        for proposal in old:
            if proposal.offer not in kept:
                by = fresh[0].id if fresh else None
                reason = (
                    "A newer diagnosis proposes something else." if by else "A newer diagnosis no longer proposes it."
                )
                replaced = proposal.model_copy(update={"superseded_by": by})
                await end_proposal(tx, replaced, ProposalState.SUPERSEDED, reason)
        await tx.put(diagnosis)
        for offered in fresh:
            proposal = await self._with_limits(tx, offered)
            await tx.put(proposal)
            await tx.audit(
                AuditDraft(
                    kind="proposal.created",
                    actor="bot",
                    incident_id=incident.id,
                    subject=proposal.id,
                    sentence=f"Proposed: {proposal.title}",
                    data={"digest": proposal.digest, "proposal": proposal.model_dump(mode="json", exclude={"button"})},
                )
            )
        incident = await tx.get(Incident, incident.id) or incident  # ending a proposal has raised its revision
        stands = incident.model_copy(update={"last_diagnosis": diagnosis.id})
        if diagnosis.verdict.severity is Severity.CRITICAL:
            stands = await self._storms.raised(tx, stands)
        await tx.put(stands.to(_state_after(incident, diagnosis), self._clock.now()))
        await tx.audit(
            AuditDraft(
                kind="diagnosis.done",
                actor="bot",
                incident_id=incident.id,
                subject=diagnosis.id,
                sentence=diagnosis.verdict.sentence,
                data={
                    "snapshot": diagnosis.snapshot_digest,
                    "severity": diagnosis.verdict.severity,
                    "reason": diagnosis.reason,
                },
            )
        )


def _rank(incident: Incident, reason: str) -> int:
    """What people wait for first: an answer, or whether a repair has helped; then what must wake somebody."""
    if reason.startswith(("asked ", "after ", "drift ")):
        return 0
    return 1 if incident.page_worthy else 2


def _state_after(incident: Incident, diagnosis: Diagnosis) -> IncidentState:
    """A warning does not keep a verified repair from being one; a critical or an unknown fact does."""
    content = diagnosis.verdict.severity is Severity.OK and all(f.severity is Severity.OK for f in diagnosis.findings)
    repaired = diagnosis.verdict.severity in {Severity.OK, Severity.WARNING} and not any(
        f.severity is Severity.UNKNOWN for f in diagnosis.findings
    )
    if repaired and incident.state is IncidentState.CLEARED:
        return IncidentState.CLOSED
    if diagnosis.reason.startswith("asked ") and incident.requested_by is not None and content:
        return IncidentState.CLOSED  # no sender will ever say that it is over
    if repaired and diagnosis.reason.startswith("after "):
        return IncidentState.VERIFIED
    return incident.state
