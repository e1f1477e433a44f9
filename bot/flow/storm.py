"""Many new incidents of one channel at once share one message: everything is stored as ever, and people get one table instead of a thousand threads.

A storm is an incident of its own (source `STORM`, fingerprint the channel), so that it is drawn, edited and found again as every thread is. Only the first
incidents of each alert name and cluster are diagnosed: the cluster that a storm is about must not be asked the same thing ten thousand times.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from bot.flow.sheet import Sheet
from bot.model import STORM, AuditDraft, Incident, IncidentId, IncidentState, StormMember, new_id
from bot.ports import Clock, Store, Transaction
from bot.settings import ThreadSettings

LINES_DIAGNOSED: Final = 20
"""Lines of a storm's table whose first incident is diagnosed; a sender that names each alert differently must not cause a look at the cluster for each."""
WORDS: Final = 100
"""Characters of an incident's labels that tell it from others; Slack shows 75 of an option."""
TITLE_LABELS: Final = frozenset({"alertname", "cluster", "severity"})
"""Labels that a storm's table shows already."""


class Storms:
    """Decides which new incidents share a message. Its state is in the store."""

    def __init__(self, rules: ThreadSettings, clock: Clock) -> None:
        self._rules = rules
        self._clock = clock

    async def place(self, sheet: Sheet, incident: Incident) -> tuple[Incident, bool]:
        """Put an incident that begins, or begins again without a thread, and return it with whether it is to be diagnosed by itself."""
        incident = incident.model_copy(update={"storm": None})
        storm = await sheet.open_storm(incident.channel) or await self._begin(sheet, incident)
        if storm is None:
            incident = await opened(sheet, incident)
            await sheet.put(incident)
            return incident, True
        size = await sheet.storm_size(storm.id, max(LINES_DIAGNOSED, self._rules.storm_pages))
        # Once the table has that many lines nobody asks any more whether this one is new.
        fresh = size.lines < LINES_DIAGNOSED and not await sheet.in_storm(
            storm.id, incident.cluster or "", incident.title
        )
        own = incident.page_worthy and size.threads < self._rules.storm_pages
        if not own:
            incident = incident.model_copy(update={"storm": storm.id})
        await sheet.put(incident)
        await sheet.join(self._member(incident, storm.id, own_thread=own), fresh=fresh)
        await sheet.put(storm.changed(self._clock.now(), firing_count=storm.firing_count + 1))
        return incident, own or fresh

    async def raised(self, tx: Transaction, incident: Incident) -> Incident:
        """Return an incident whose verdict is critical with a thread of its own, where the storm has not had too many of them yet."""
        most = self._rules.storm_pages
        if incident.storm is None or (await tx.storm_size(incident.storm, most))[1] >= most:
            return incident
        return await opened(tx, incident, page=True)

    async def over(self, store: Store, storm: Incident) -> bool:
        """Close a storm that no incident has joined for a while; say whether that happened."""
        lines = await store.storm_lines(storm.id)
        last = max((line.last for line in lines), default=storm.opened_at)
        if self._clock.now() - last < timedelta(seconds=self._rules.storm_window):
            return False
        async with store.begin() as tx:
            current = await tx.get(Incident, storm.id)
            if current is None or current.state is not IncidentState.OPEN or current.revision != storm.revision:
                return False
            await tx.put(current.to(IncidentState.CLOSED, self._clock.now()))
            count = sum(line.count for line in lines)
            sentence = f"The storm is over: {count} incidents of {len(lines)} kinds."
            await _audit(tx, "storm.over", storm.id, sentence)
        return True

    async def _begin(self, sheet: Sheet, incident: Incident) -> Incident | None:
        """Open a storm where this incident is one too many."""
        now, rules = self._clock.now(), self._rules
        recent = await sheet.threads_since(now - timedelta(seconds=rules.storm_window))
        here = [i for i in recent if i.channel == incident.channel and i.source != STORM and i.id != incident.id]
        if len(here) < rules.storm_incidents:
            return None
        storm = Incident(
            id=IncidentId(new_id("inc")),
            cluster=None,
            source=STORM,
            fingerprint=incident.channel,
            starts_at=now,
            opened_at=now,
            updated_at=now,
            state=IncidentState.OPEN,
            title="Alert storm",
            channel=incident.channel,
            labels={},
            annotations={},
            firing_count=0,
        )
        await sheet.put(storm)
        within = (
            f"More than {rules.storm_incidents} new incidents within {rules.storm_window:g} s in {incident.channel}"
        )
        await _audit(sheet, "storm.began", storm.id, f"{within}: those that are not page-worthy share one message now.")
        return storm

    def _member(self, incident: Incident, storm: IncidentId, *, own_thread: bool) -> StormMember:
        told = (f"{name}={value}" for name, value in sorted(incident.labels.items()) if name not in TITLE_LABELS)
        return StormMember(
            id=incident.id,
            storm=storm,
            cluster=incident.cluster or "",
            title=incident.title,
            words=", ".join(told)[:WORDS],
            page=incident.page_worthy,
            own_thread=own_thread,
            at=self._clock.now(),
        )


async def opened(tx: Transaction | Sheet, incident: Incident, *, page: bool = False) -> Incident:
    """Give an incident of a storm a thread of its own. Puts its membership; the caller puts the incident that is returned."""
    member = await tx.get(StormMember, incident.id)
    if member is None:
        return incident
    await tx.put(member.model_copy(update={"own_thread": True, "page": member.page or page}))
    await tx.touch(member.storm)
    return incident.model_copy(update={"storm": None})


async def _audit(tx: Transaction | Sheet, kind: str, storm: IncidentId, sentence: str) -> None:
    await tx.audit(AuditDraft(kind=kind, actor="bot", incident_id=storm, subject=storm, sentence=sentence))
