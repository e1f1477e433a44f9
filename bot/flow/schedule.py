"""A schedule that diagnoses a cluster again and again, and raises an alert where the verdict turns bad.

One pass gathers once and judges by every chosen runbook; the rules of what follows are in `flow/passes.py`. An alert bears the code of the runbook that
found something, so its incident is diagnosed by the same runbook. What is open stands in the store, so a restart loses nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

import structlog

from bot.errors import StoreError, Unreadable
from bot.flow.diagnosis import runbook_for
from bot.flow.examination import look, unreadable
from bot.flow.incoming import IncomingAlert
from bot.flow.intake import Intake
from bot.flow.notices import SCHEDULE, Notice, fingerprint_of
from bot.flow.passes import Decision, Judged, Passes, picture
from bot.flow.ranking import rank
from bot.model import AlertState, Diagnosis, Finding, Focus, Incident, IncidentState
from bot.ports import Clock, Readers, Store
from bot.runbook import Runbook, Thresholds
from bot.settings import ScheduleSettings

log = structlog.get_logger(__name__)

MOST_OPEN: Final = 1_000
"""Open incidents of all schedules: a runbook has one on each cluster."""


class Schedule:
    """Of one cluster."""

    def __init__(
        self,
        *,
        cluster: str,
        pace: ScheduleSettings,
        runbooks: Sequence[Runbook],
        thresholds: Mapping[str, Thresholds],
        readers: Readers,
        store: Store,
        clock: Clock,
        intake: Intake,
    ) -> None:
        self._cluster = cluster
        self._pace = pace
        self._runbooks = tuple(runbooks)
        self._thresholds = thresholds
        self._readers = readers
        self._store = store
        self._clock = clock
        self._intake = intake
        self._passes = Passes(pace.open_at)

    async def run(self) -> None:
        """Look for ever, the first time at once; an error of the database is logged, and the next pass tries again."""
        while True:
            started = self._clock.now()
            try:
                await self.pass_once()
            except StoreError as error:
                log.warning("scheduled diagnosis not stored", cluster=self._cluster, error=str(error))
            took = (self._clock.now() - started).total_seconds()
            await self._clock.sleep(self._pace.every - took % self._pace.every)

    async def pass_once(self) -> None:
        """Take one pass, unless a repair runs: what is half repaired looks broken. Raises `StoreError`."""
        if await self._repairing():
            return
        judged = await self._judge()
        if await self._repairing():
            return
        incidents = await self._incidents()
        decision = self._passes.decide(judged, frozenset(incidents))
        log.info(
            "scheduled diagnosis",
            cluster=self._cluster,
            firing=sorted(decision.firing),
            resolved=sorted(decision.resolved),
        )
        for notice in await self._notices(judged, decision, incidents):
            await self._intake.accept(SCHEDULE, notice.model_dump_json())

    async def _repairing(self) -> bool:
        running = [e.id for e in await self._store.unfinished_executions() if e.cluster == self._cluster]
        if running:
            log.info("scheduled diagnosis left out while a repair runs", cluster=self._cluster, execution=running[0])
        return bool(running)

    async def _judge(self) -> list[Judged]:
        try:
            _, judged = await look(self._readers, self._runbooks, self._thresholds, Focus())
        except Unreadable as error:
            blind = unreadable(self._cluster, error)
            # The broadest runbook comes first, so it is the one that speaks for a cluster that cannot be read.
            broadest = runbook_for("", self._runbooks)
            ordered = sorted(self._runbooks, key=lambda r: r is not broadest)
            return [Judged(runbook.code, (blind,)) for runbook in ordered]
        return [Judged(each.runbook.code, each.findings) for each in judged]

    async def _incidents(self) -> dict[str, Incident]:
        """Return the incidents of this schedule that are not closed, by runbook code."""
        incidents = await self._store.incidents(open_only=True, limit=MOST_OPEN, source=SCHEDULE)
        return {i.title: i for i in incidents if i.cluster == self._cluster}

    async def _notices(
        self, judged: Sequence[Judged], decision: Decision, incidents: Mapping[str, Incident]
    ) -> list[Notice]:
        notices: list[Notice] = []
        for each in judged:
            incident = incidents.get(each.code)
            if each.code in decision.firing:
                changed = incident is not None and await self._changed(incident, each)
                notices.append(self._notice(each, AlertState.FIRING, incident, changed=changed))
            elif each.code in decision.resolved and incident and incident.state is not IncidentState.CLEARED:
                notices.append(self._notice(each, AlertState.RESOLVED, incident, changed=False))
        return notices

    async def _changed(self, incident: Incident, judged: Judged) -> bool:
        """Say whether the incident's newest diagnosis, which its thread shows, has another picture than this pass."""
        if incident.last_diagnosis is None:
            return False
        diagnosis = await self._store.get(Diagnosis, incident.last_diagnosis)
        if diagnosis is None:
            return False
        return picture(diagnosis.findings, self._pace.open_at) != picture(judged.findings, self._pace.open_at)

    def _notice(self, judged: Judged, state: AlertState, incident: Incident | None, *, changed: bool) -> Notice:
        now = self._clock.now()
        ending = state is AlertState.RESOLVED
        goes_on = incident is not None and (ending or incident.state is IncidentState.OPEN)
        verdict = rank(judged.findings)
        # No account, stream or consumer among the labels: they would narrow the diagnosis to one of the things that are broken.
        labels = {"cluster": self._cluster, "runbook": judged.code}
        if verdict.root is not None:
            labels |= {"check": verdict.root.check, "subject": str(verdict.root.subject)}
        alert = IncomingAlert(
            fingerprint=fingerprint_of(self._cluster, judged.code),
            state=state,
            name=judged.code,
            labels=labels,
            annotations={"summary": verdict.sentence},
            starts_at=incident.starts_at if incident and goes_on else now,
            ends_at=now if ending else None,
        )
        evidence = {"severity": verdict.severity.value, "findings": dict(_severities(judged.findings))}
        return Notice(cluster=self._cluster, alert=alert, changed=changed, evidence=evidence)


def _severities(findings: Sequence[Finding]) -> Counter[str]:
    return Counter(finding.severity.value for finding in findings)
