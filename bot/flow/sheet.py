"""What one transaction of the intake knows and is going to write: read in a few statements, written in a few, whatever the number of alerts.

A statement of its own for each look and each record is what makes a storm slow. Here the incidents of all alerts are read at once, what is put is seen
by every later look, and `flush` writes it. Whatever asks the database itself flushes first.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime

from bot.errors import StoreError
from bot.model import STORM, AuditDraft, Incident, IncidentId, IncidentState, StormMember
from bot.ports import Clock, R, Stored, Transaction


@dataclass(frozen=True, slots=True)
class StormSize:
    """Counted up to the number that was asked for first."""

    lines: int
    threads: int


class Sheet:
    """Of one transaction; `flush` before it ends."""

    def __init__(self, tx: Transaction, clock: Clock) -> None:
        self._tx = tx
        self._clock = clock
        self._incidents: dict[tuple[str, str], Incident | None] = {}
        """Of each alert the incident that is not closed, or its newest one."""
        self._awaiting: frozenset[IncidentId] = frozenset()
        self._unwritten: dict[tuple[type, str], Stored] = {}
        self._unaudited: list[AuditDraft] = []
        self._threads: dict[IncidentId, Incident] | None = None
        self._sizes: dict[IncidentId, StormSize] = {}
        self._lines: set[tuple[IncidentId, str, str]] = set()

    async def load(self, source: str, fingerprints: Collection[str]) -> None:
        """Read what there is of these alerts. Do this before anything is put."""
        missing = {one for one in fingerprints if (source, one) not in self._incidents}
        if not missing:
            return
        self._incidents |= dict.fromkeys(((source, one) for one in missing), None)
        found = await self._tx.incidents_of(source, missing)
        self._incidents |= {(source, one.fingerprint): one for one in found}
        if found:
            self._awaiting |= await self._tx.awaiting([one.id for one in found])

    async def incident(self, source: str, fingerprint: str) -> Incident | None:
        """Return the incident of an alert that is not closed, or its newest one where all are."""
        await self.load(source, (fingerprint,))
        return self._incidents[source, fingerprint]

    async def incident_of_episode(self, source: str, fingerprint: str, starts_at: datetime) -> Incident | None:
        """Return the incident, closed or not, that this very episode belongs to."""
        if await self.incident(source, fingerprint) is None:
            return None
        return await (await self.written()).incident_of_episode(source, fingerprint, starts_at)

    async def open_storm(self, channel: str) -> Incident | None:
        """Return the storm that a channel has."""
        found = await self.incident(STORM, channel)
        return found if found is not None and found.state is not IncidentState.CLOSED else None

    async def threads_since(self, since: datetime) -> Sequence[Incident]:
        """Return the incidents with a thread of their own that were opened since then. `since` never goes back."""
        if self._threads is None:
            found = await (await self.written()).threads_since(since)
            self._threads = {one.id: one for one in found}
        return [one for one in self._threads.values() if one.opened_at >= since and one.storm is None]

    async def storm_size(self, storm: IncidentId, most: int) -> StormSize:
        """Return how many lines a storm's table has, and how many of its incidents have a thread of their own; each is counted up to `most`."""
        if storm not in self._sizes:
            self._sizes[storm] = StormSize(*await (await self.written()).storm_size(storm, most))
        return self._sizes[storm]

    async def in_storm(self, storm: IncidentId, cluster: str, title: str) -> bool:
        """Return whether the storm has an incident of this alert name on this cluster."""
        line = (storm, cluster, title)
        if line not in self._lines and await (await self.written()).in_storm(storm, cluster, title):
            self._lines.add(line)
        return line in self._lines

    async def join(self, member: StormMember, *, fresh: bool) -> None:
        """Put an incident into a storm whose size was asked for; `fresh` where it begins a line of the table."""
        size = self._sizes[member.storm]
        self._sizes[member.storm] = StormSize(size.lines + fresh, size.threads + member.own_thread)
        self._lines.add((member.storm, member.cluster, member.title))
        await self.put(member)

    async def get(self, kind: type[R], id: str) -> R | None:  # noqa: A002 - the port's word
        """Return a record as it is going to be."""
        if (kind, id) in self._unwritten:
            found = self._unwritten[kind, id]
            return found if isinstance(found, kind) else None
        return await self._tx.get(kind, id)

    async def put(self, record: Stored) -> None:
        """Write it later; every look sees it from now on. Of two incidents of one alert the older one is put first."""
        self._unwritten[type(record), record.id] = record
        if isinstance(record, Incident):
            self._incidents[record.source, record.fingerprint] = record
            if self._threads is not None:
                self._threads[record.id] = record

    async def touch(self, incident: IncidentId) -> None:
        """Raise the incident's revision, so that the chat draws it again. Raises StoreError where there is none."""
        found = await self.get(Incident, incident)
        if found is None:
            raise StoreError(f"There is no incident {incident} to touch.")
        await self.put(found.changed(self._clock.now()))

    async def audit(self, draft: AuditDraft) -> None:
        """Append it to the chain later, in this order."""
        self._unaudited.append(draft)

    def awaits(self, incident: IncidentId) -> bool:
        """Say whether an incident that was read has a proposal which people can still decide about."""
        return incident in self._awaiting

    async def flush(self) -> None:
        """Write what was put."""
        records, self._unwritten = list(self._unwritten.values()), {}
        drafts, self._unaudited = self._unaudited, []
        await self._tx.put_all(records)
        await self._tx.audit_all(drafts)

    async def written(self) -> Transaction:
        """Flush, and return the transaction for whatever a sheet can't do. What is changed there is read again with `tx.get` and put here."""
        await self.flush()
        return self._tx
