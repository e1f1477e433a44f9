"""What people do with an incident besides deciding on proposals: take it, silence it, let it speak again, give it a thread.

Authority is looked up at the moment of use; every gesture is one audit entry, a refused one as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Final

from bot.flow.approval import INCOMPLETE, Answer
from bot.flow.refusals import refusal
from bot.flow.storm import opened
from bot.model import AuditDraft, Holder, Incident, IncidentId, IncidentState, Person, Silence, SlackUser
from bot.policy import Decision, may_freeze, may_run
from bot.ports import Chat, Clock, Directory, Engine, Phase, Store, Transaction
from bot.settings import PolicySettings

SILENCES: Final[Mapping[str, timedelta]] = {
    "1h": timedelta(hours=1),
    "4h": timedelta(hours=4),
    "1d": timedelta(days=1),
}
"""How long a silence lasts; a longer one is forgotten by whoever set it."""
UNKNOWN: Final = "This button belongs to no incident natsmedic knows."

Rule = Callable[[Person, PolicySettings], Decision]


class CaseDesk:
    """Serves these gestures."""

    def __init__(
        self,
        *,
        store: Store,
        directory: Directory,
        rules: PolicySettings,
        engine: Engine,
        clock: Clock,
        chat: Chat,
    ) -> None:
        self._store = store
        self._directory = directory
        self._rules = rules
        self._engine = engine
        self._clock = clock
        self._chat = chat

    async def take(self, user: SlackUser, incident_id: IncidentId) -> Answer:
        """Make the person the incident's holder; whoever held it before is named in the audit entry."""
        person, refusal = await self._allowed(user, incident_id, may_run, "take")
        if person is None:
            return refusal
        async with self._store.begin() as tx:
            incident = await tx.get(Incident, incident_id)
            former = incident.holder if incident is not None else None
            why_not = _why_not(incident)
            if former is not None and former.person == person.key:
                why_not = why_not or "You hold this incident already."
            if incident is None or why_not:
                return await self._stays(tx, user, person, incident, "take", why_not)
            now = self._clock.now()
            await tx.put(incident.changed(now, holder=Holder(user=user, person=person.key, at=now)))
            sentence = f"{person.key} takes it over from {former.person}." if former else f"{person.key} takes it."
            await _audit(tx, "incident.taken", person.key, incident_id, sentence)
        self._chat.nudge(incident_id)
        return Answer(accepted=True, sentence="You hold this incident now.")

    async def may_silence(self, user: SlackUser, incident_id: IncidentId) -> Answer:
        """Answer the button before its form is shown."""
        return (await self._allowed(user, incident_id, may_freeze, "silence"))[1]

    async def silence(self, user: SlackUser, incident_id: IncidentId, lasts: str, reason: str) -> Answer:
        """Say nothing new about this alert for a while; `lasts` is a key of `SILENCES`. `errors` by field (`lasts`, `reason`)."""
        person, refusal = await self._allowed(user, incident_id, may_freeze, "silence")
        if person is None:
            return refusal
        wrong = {} if reason.strip() else {"reason": "Say why; the reason is shown and kept in the audit log."}
        if lasts not in SILENCES:
            wrong["lasts"] = f"Choose one of {', '.join(SILENCES)}."
        if wrong:
            async with self._store.begin() as tx:
                incident = await tx.get(Incident, incident_id)
                await _refused(tx, user, person.key, incident, "silence", "incomplete", INCOMPLETE)
            return Answer(accepted=False, sentence="", errors=wrong)
        now = self._clock.now()
        made = Silence(user=user, person=person.key, reason=reason.strip(), at=now, until=now + SILENCES[lasts])
        async with self._store.begin() as tx:
            incident = await tx.get(Incident, incident_id)
            why_not = _why_not(incident)
            if incident is not None and incident.silence is not None:
                why_not = why_not or "This incident is silenced already."
            if incident is None or why_not:
                return await self._stays(tx, user, person, incident, "silence", why_not)
            await tx.put(incident.changed(now, silence=made))
            sentence = f"{person.key} silences it until {made.until:%Y-%m-%d %H:%M} UTC: {made.reason}"
            await _audit(tx, "silence.set", person.key, incident_id, sentence)
        self._chat.nudge(incident_id)
        return Answer(accepted=True, sentence=f"Silenced until {made.until:%Y-%m-%d %H:%M} UTC.")

    async def end_silence(self, user: SlackUser, incident_id: IncidentId) -> Answer:
        """Let the incident be heard again before its silence is over."""
        person, refusal = await self._allowed(user, incident_id, may_freeze, "end_silence")
        if person is None:
            return refusal
        async with self._store.begin() as tx:
            incident = await tx.get(Incident, incident_id)
            silence = incident.silence if incident is not None else None
            if incident is None or silence is None:
                why_not = "This incident is not silenced." if incident is not None else UNKNOWN
                return await self._stays(tx, user, person, incident, "end_silence", why_not)
            await tx.put(incident.let_speak(self._clock.now(), person.key))
            sentence = (
                f"{person.key} ends the silence of {silence.person}; alerts that came in meanwhile: {silence.muted}."
            )
            await _audit(tx, "silence.ended", person.key, incident_id, sentence)
        self._chat.nudge(incident_id)
        return Answer(accepted=True, sentence="The silence is over.")

    async def open_thread(self, user: SlackUser, incident_id: IncidentId, storm: IncidentId) -> Answer:
        """Give an incident of this storm a thread of its own, and a diagnosis where it has none."""
        person, refusal = await self._allowed(user, incident_id, may_run, "open_thread")
        if person is None:
            return refusal
        async with self._store.begin() as tx:
            incident = await tx.get(Incident, incident_id)
            if incident is None or incident.storm != storm:
                why_not = "This incident has a thread of its own already." if incident is not None else UNKNOWN
                return await self._stays(tx, user, person, incident, "open_thread", why_not)
            incident = (await opened(tx, incident)).changed(self._clock.now())
            await tx.put(incident)
            await _audit(tx, "storm.opened", person.key, incident_id, f"{person.key} gives it a thread of its own.")
        self._chat.nudge(incident_id)
        if incident.last_diagnosis is None and incident.cluster is not None:
            await self._engine.start(Phase.DIAGNOSIS, f"{incident_id}/alert")
        return Answer(accepted=True, sentence="It gets a thread of its own.")

    async def refuse(self, user: SlackUser, gesture: str, sentence: str) -> None:
        """Audit a gesture that is wrong in itself: a button on a message that is not its own."""
        async with self._store.begin() as tx:
            actor = f"{user.team_id}/{user.user_id}"
            await _refused(tx, user, actor, None, gesture, "wrong_message", sentence)

    async def _allowed(
        self, user: SlackUser, incident_id: IncidentId, rule: Rule, gesture: str
    ) -> tuple[Person | None, Answer]:
        person = await self._directory.look_up(user)
        decision = rule(person, self._rules)
        if decision.allowed:
            return person, Answer(accepted=True, sentence="")
        async with self._store.begin() as tx:
            incident = await tx.get(Incident, incident_id)
            await _refused(tx, user, person.key, incident, gesture, decision.reason, decision.sentence)
        return None, Answer(accepted=False, sentence=decision.sentence)

    async def _stays(
        self, tx: Transaction, user: SlackUser, person: Person, incident: Incident | None, gesture: str, why_not: str
    ) -> Answer:
        await _refused(tx, user, person.key, incident, gesture, "not_now", why_not)
        return Answer(accepted=False, sentence=why_not)


def _why_not(incident: Incident | None) -> str:
    if incident is None:
        return UNKNOWN
    return "This incident is closed." if incident.state is IncidentState.CLOSED else ""


async def _audit(tx: Transaction, kind: str, actor: str, incident: IncidentId, sentence: str) -> None:
    await tx.audit(AuditDraft(kind=kind, actor=actor, incident_id=incident, subject=incident, sentence=sentence))


async def _refused(
    tx: Transaction, user: SlackUser, actor: str, incident: Incident | None, gesture: str, code: str, sentence: str
) -> None:
    known = incident.id if incident is not None else None
    await tx.audit(refusal(user, actor, sentence, incident=known, subject=known or "", code=code, gesture=gesture))
