"""What an alert does to the incidents there are: it opens one, goes on in one, is counted in one or clears one.

An alert is a hint. Its labels choose the cluster, the thread and what to look at first; nothing else is believed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta

from bot.flow.endings import end_proposal
from bot.flow.incoming import IncomingAlert, ParsedDelivery
from bot.flow.sheet import Sheet
from bot.flow.storm import Storms
from bot.model import (
    KEPT,
    Alert,
    AlertId,
    AlertState,
    AuditDraft,
    Delivery,
    Incident,
    IncidentId,
    IncidentState,
    ProposalState,
    Relapse,
    new_id,
)
from bot.ports import Clock
from bot.settings import ClusterSettings, ThreadSettings


def match_cluster(clusters: Sequence[ClusterSettings], labels: Mapping[str, str]) -> ClusterSettings | None:
    """Return the cluster an alert is about: the one whose `match` labels all agree, or the only one there is."""
    for cluster in clusters:
        if cluster.match and all(labels.get(k) == v for k, v in cluster.match.items()):
            return cluster
    return clusters[0] if len(clusters) == 1 else None


class Folder:
    """Folds one alert after the other into a sheet."""

    def __init__(self, clusters: Sequence[ClusterSettings], threads: ThreadSettings, clock: Clock) -> None:
        self._clusters = clusters
        self._clock = clock
        self._reopen_within = timedelta(seconds=threads.reopen_within)
        self._storms = Storms(threads, clock)

    async def fold(
        self, sheet: Sheet, delivery: Delivery, incoming: IncomingAlert, parsed: ParsedDelivery
    ) -> list[str]:
        """Fold one alert; return the diagnosis keys (`<incident>/<reason>`) that are due."""
        firing = incoming.state is AlertState.FIRING
        last = await sheet.incident(delivery.source, incoming.fingerprint)
        incident = last if last is not None and last.state is not IncidentState.CLOSED else None
        due: list[str] = []
        if incident is None:
            incident = await sheet.incident_of_episode(delivery.source, incoming.fingerprint, incoming.starts_at)
            if incident is None and firing:
                incident, due = await self._begins(sheet, delivery, incoming, parsed, last)
        elif firing and incident.state is not IncidentState.OPEN and incoming.starts_at > incident.starts_at:
            incident, due = await self._begins(sheet, delivery, incoming, parsed, incident)
        elif firing:
            incident = self._counted(incident, parsed)
            await sheet.put(incident)
            if asked := _asked(parsed, delivery):
                due.append(f"{incident.id}/{asked}")
            elif parsed.changed and incident.state is IncidentState.OPEN and incident.storm is None:
                due.append(f"{incident.id}/changed {delivery.id}")
        elif incident.state is not IncidentState.CLEARED:
            incident = await self._clear(sheet, incident)
            if incident.storm is not None:
                await sheet.touch(incident.storm)  # its table counts what still fires
            elif incident.state is IncidentState.CLEARED:
                due.append(f"{incident.id}/sender resolved {delivery.id}")
        await self._record(sheet, delivery, incoming, incident, parsed)
        return due

    async def _begins(
        self,
        sheet: Sheet,
        delivery: Delivery,
        incoming: IncomingAlert,
        parsed: ParsedDelivery,
        last: Incident | None,
    ) -> tuple[Incident, list[str]]:
        """A new episode: the alert's last incident goes on where it was over a short while ago or is silenced, and a new one is opened otherwise."""
        now = self._clock.now()
        goes_on = last is not None and self._goes_on(last, now)
        if last is not None and goes_on:
            begun = await self._again(sheet, delivery, incoming, parsed, last)
            reason = f"relapse {delivery.id}"
        else:
            if last is not None and last.state is not IncidentState.CLOSED:
                await sheet.put(last.to(IncidentState.CLOSED, now))
            begun, reason = self._open(delivery, incoming, parsed, last), "alert"
        if asked := _asked(parsed, delivery):
            await sheet.put(begun)
            return begun, [f"{begun.id}/{asked}"]
        if goes_on and begun.storm is None:
            await sheet.put(begun)
            return begun, [f"{begun.id}/{reason}"]
        begun, diagnosed = await self._storms.place(sheet, begun)
        return begun, [f"{begun.id}/{reason}"] if diagnosed else []

    async def _again(
        self, sheet: Sheet, delivery: Delivery, incoming: IncomingAlert, parsed: ParsedDelivery, last: Incident
    ) -> Incident:
        """Return the incident that goes on."""
        now = self._clock.now()
        relapse = Relapse(number=1 + (last.relapses[-1].number if last.relapses else 0), at=now, after=last.state)
        sentence = f"The alert fires again after its incident was {last.state}. Returns so far: {relapse.number}."
        await sheet.audit(
            AuditDraft(
                kind="incident.reopened",
                actor=delivery.source,
                incident_id=last.id,
                subject=last.id,
                sentence=sentence,
            )
        )
        update = {
            "starts_at": incoming.starts_at,
            "requested_by": parsed.asked_by,
            "relapses": (*last.relapses, relapse)[-KEPT:],
        }
        return self._counted(last, parsed).to(IncidentState.OPEN, now).model_copy(update=update)

    def _goes_on(self, last: Incident, now: datetime) -> bool:
        """A new thread would break a silence, so while one holds the old thread goes on however long it was over."""
        over = last.over_for(now)
        return over is not None and (over <= self._reopen_within or last.silence is not None)

    def _counted(self, incident: Incident, parsed: ParsedDelivery) -> Incident:
        """The alert fires once more; while it is silenced that is counted, too."""
        muted = incident.silence
        if muted is not None:
            muted = muted.model_copy(update={"muted": muted.muted + 1})
        count = incident.firing_count + 1
        return incident.changed(self._clock.now(), firing_count=count, truncated=parsed.truncated, silence=muted)

    def _open(
        self, delivery: Delivery, incoming: IncomingAlert, parsed: ParsedDelivery, last: Incident | None
    ) -> Incident:
        if parsed.cluster is None:
            cluster = match_cluster(self._clusters, incoming.labels)
        else:
            cluster = next((c for c in self._clusters if c.name == parsed.cluster), None)
        known = ", ".join(c.name for c in self._clusters)
        return Incident(
            id=IncidentId(new_id("inc")),
            cluster=cluster.name if cluster else None,
            source=delivery.source,
            fingerprint=incoming.fingerprint,
            starts_at=incoming.starts_at,
            opened_at=self._clock.now(),
            updated_at=self._clock.now(),
            state=IncidentState.OPEN,
            title=incoming.name,
            channel=(cluster or self._clusters[0]).channel,
            labels=incoming.labels,
            annotations=incoming.annotations,
            truncated=parsed.truncated,
            requested_by=parsed.asked_by,
            previous=last.id if last is not None else None,
            note=None
            if cluster
            else f"No configured cluster matches this alert's labels, so nothing was diagnosed. Configured: {known}.",
        )

    async def _clear(self, sheet: Sheet, incident: Incident) -> Incident:
        """The sender says resolved. That withdraws what waits for approval; it verifies nothing (design/safety.md, Approving 4)."""
        if sheet.awaits(incident.id):
            tx = await sheet.written()
            for proposal in await tx.proposals(incident.id):
                if proposal.state in {ProposalState.PENDING, ProposalState.PROPOSED}:
                    reason = "The sender of the alert says it is resolved."
                    await end_proposal(tx, proposal, ProposalState.WITHDRAWN, reason, actor=incident.source)
            incident = await tx.get(Incident, incident.id) or incident  # ending a proposal has raised its revision
        state = IncidentState.CLOSED if incident.state is IncidentState.VERIFIED else IncidentState.CLEARED
        incident = incident.to(state, self._clock.now())
        await sheet.put(incident)
        return incident

    async def _record(
        self,
        sheet: Sheet,
        delivery: Delivery,
        incoming: IncomingAlert,
        incident: Incident | None,
        parsed: ParsedDelivery,
    ) -> None:
        await sheet.put(
            Alert(
                id=AlertId(new_id("alert")),
                delivery_id=delivery.id,
                incident_id=incident.id if incident else None,
                source=delivery.source,
                received_at=delivery.received_at,
                truncated=parsed.truncated,
                **dict(incoming),
            )
        )
        await sheet.audit(
            AuditDraft(
                kind=f"alert.{incoming.state}",
                actor=parsed.asked_by or delivery.source,
                incident_id=incident.id if incident else None,
                subject=incoming.name,
                sentence=f"Alert {incoming.name!r} is {incoming.state}"
                + ("." if incident else " and belongs to no open incident: it was never seen firing."),
                data={"fingerprint": incoming.fingerprint, "delivery": delivery.id},
            )
        )


def _asked(parsed: ParsedDelivery, delivery: Delivery) -> str:
    """The reason of a diagnosis that a person asked for; empty where nobody did."""
    return f"asked {delivery.id}" if parsed.asked_by is not None else ""
