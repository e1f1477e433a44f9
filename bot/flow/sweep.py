"""Starts what nobody started, and ends what has run out: the reason why a crash between two phases loses nothing.

Every phase is started by id and idempotent, so sweeping twice, or beside a running phase, does no harm.
"""

from __future__ import annotations

from datetime import datetime

import structlog

from bot.errors import StoreError
from bot.flow.endings import end_proposal
from bot.flow.storm import Storms
from bot.flow.voiding import look_for_void
from bot.model import STORM, AuditDraft, Incident, IncidentId, IncidentState, Proposal, ProposalState
from bot.policy import escalates_at, groups_for, next_call, standing
from bot.ports import Chat, Clock, Engine, Phase, Store
from bot.settings import PolicySettings, ThreadSettings
from bot.settings.policy import REMINDER_SHARE

log = structlog.get_logger(__name__)

SWEEP_SECONDS = 5.0
"""An interrupted repair is resumed or escalated within 60 s of a restart (I7); expiry itself is checked at use."""


class Sweeper:
    """Runs beside the phases."""

    def __init__(
        self,
        *,
        store: Store,
        engine: Engine,
        clock: Clock,
        chat: Chat,
        threads: ThreadSettings,
        rules: PolicySettings,
    ) -> None:
        self._storms = Storms(threads, clock)
        self._rules = rules
        self._store = store
        self._engine = engine
        self._clock = clock
        self._chat = chat
        self.swept_at: datetime | None = None
        """When a sweep last came to its end."""

    async def run(self) -> None:
        """Sweep for ever; an error of the database is logged and the next sweep tries again."""
        while True:
            try:
                await self.sweep()
                self.swept_at = self._clock.now()
            except StoreError as error:
                log.warning("sweep postponed", error=str(error))
            await self._clock.sleep(SWEEP_SECONDS)

    async def sweep(self) -> None:
        """Sweep once."""
        await self._incidents()
        for execution in await self._store.unfinished_executions():
            await self._engine.start(Phase.EXECUTION, execution.id)
        await self._proposals()

    async def _incidents(self) -> None:
        """Start missing diagnoses, end storms that nothing joins any more, and silences whose time is over."""
        for storm in await self._store.incidents(open_only=True, source=STORM):
            if storm.state is IncidentState.OPEN and await self._storms.over(self._store, storm):
                self._chat.nudge(storm.id)
        for missing in await self._store.undiagnosed():
            await self._engine.start(Phase.DIAGNOSIS, f"{missing}/alert")
        now = self._clock.now()
        for incident in await self._store.silenced():
            if incident.silence is not None and now >= incident.silence.until:
                await self._let_speak(incident.id)

    async def _proposals(self) -> None:
        now = self._clock.now()
        for proposal in await self._store.proposals(active_only=True):
            if proposal.state is not ProposalState.PENDING:
                continue
            if now >= proposal.expires_at:
                await self._expire(proposal)
                continue
            if await look_for_void(self._store, proposal, self._rules):
                self._chat.nudge(proposal.incident_id)
            if (
                proposal.reminded_at is None
                and now >= proposal.created_at + (proposal.expires_at - proposal.created_at) * REMINDER_SHARE
            ):
                await self._remind(proposal)
            elif (
                due := escalates_at(proposal, groups_for(proposal, self._rules), self._rules)
            ) is not None and now >= due:
                await self._escalate(proposal)

    async def _expire(self, proposal: Proposal) -> None:
        reason = "Nobody with the authority approved it in time."
        async with self._store.begin() as tx:
            current = await tx.get(Proposal, proposal.id)
            if current is None or current.state is not ProposalState.PENDING:
                return
            await end_proposal(tx, current, ProposalState.EXPIRED, reason)
        self._chat.nudge(proposal.incident_id)

    async def _remind(self, proposal: Proposal) -> None:
        async with self._store.begin() as tx:
            current = await tx.get(Proposal, proposal.id)
            if current is None or current.state is not ProposalState.PENDING:
                return
            await tx.put(current.model_copy(update={"reminded_at": self._clock.now()}))
            await tx.touch(current.incident_id)
        self._chat.nudge(proposal.incident_id)

    async def _escalate(self, proposal: Proposal) -> None:
        """Call the next group, on record in the same transaction; one at a time, however late the sweep is."""
        async with self._store.begin() as tx:
            current = await tx.get(Proposal, proposal.id)
            if current is None or current.state is not ProposalState.PENDING:
                return
            missing = standing(current, await tx.approvals(current.id), self._rules).missing
            needed = groups_for(current, self._rules)
            call = next_call(current, needed, missing, self._rules, self._clock.now())
            if call is None:
                return
            await tx.put(current.model_copy(update={"escalations": (*current.escalations, call)}))
            await tx.touch(current.incident_id)
            await tx.audit(
                AuditDraft(
                    kind="proposal.escalated",
                    actor="bot",
                    incident_id=current.incident_id,
                    subject=current.id,
                    sentence=f"Nobody of {call.stands_for} decided in time; {call.group} is called and may approve in its place.",
                    data={"group": call.group, "stands_for": call.stands_for},
                )
            )
        self._chat.nudge(current.incident_id)

    async def _let_speak(self, incident_id: IncidentId) -> None:
        """End a silence whose time is over; the thread says so once."""
        now = self._clock.now()
        async with self._store.begin() as tx:
            current = await tx.get(Incident, incident_id)
            silence = current.silence if current is not None else None
            if current is None or silence is None or now < silence.until:
                return
            await tx.put(current.let_speak(now))
            sentence = f"The silence of {silence.person} is over; alerts that came in meanwhile: {silence.muted}."
            await tx.audit(
                AuditDraft(
                    kind="silence.over", actor="bot", incident_id=incident_id, subject=incident_id, sentence=sentence
                )
            )
        self._chat.nudge(incident_id)
