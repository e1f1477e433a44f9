"""Phase 1: a webhook delivery becomes a durable row, its alerts become incidents, repeats fold into the open one.

An alert is a hint. Its labels choose the cluster, the thread and what to look at first; nothing else is believed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

import structlog

from bot import crashpoints
from bot.crashpoints import Point
from bot.errors import BadInput, StoreError
from bot.flow.endings import end_proposal
from bot.model import (
    Alert,
    AlertId,
    AlertState,
    AuditDraft,
    Delivery,
    DeliveryId,
    Incident,
    IncidentId,
    IncidentState,
    ProposalState,
    Record,
    new_id,
)
from bot.ports import Chat, Clock, Engine, Phase, Steps, Store, Transaction
from bot.settings import ClusterSettings

log = structlog.get_logger(__name__)


class QueueFull(StoreError):
    """More deliveries wait than the configured cap; the sender must try again later."""

    retry_helps = True


class IncomingAlert(Record):
    """One alert as its source's parser read it. Every text is untrusted."""

    fingerprint: str
    state: AlertState
    name: str
    labels: dict[str, str]
    annotations: dict[str, str]
    starts_at: datetime
    ends_at: datetime | None


class ParsedDelivery(Record):
    """One webhook body; `truncated` is how many alerts the sender left out."""

    alerts: tuple[IncomingAlert, ...]
    truncated: int = 0
    cluster: str | None = None
    """The cluster it is about, where the source knows that of itself; labels choose it otherwise."""
    changed: bool = False
    """What is wrong is not what the source said before, so an incident that is open is diagnosed again."""
    asked_by: str | None = None
    """Person key, where a person asked for a look at the cluster: what is asked is diagnosed in every case, and its proposals bear that name."""
    event: str | None = None
    """The sender's id of this very event, where it has one: a second delivery of it is a repeat or a replay, and has no effect."""


Parser = Callable[[str], ParsedDelivery]
"""Reads a body; raises `BadInput` with one sentence that does not repeat the body."""


def match_cluster(clusters: Sequence[ClusterSettings], labels: Mapping[str, str]) -> ClusterSettings | None:
    """Return the cluster an alert is about: the one whose `match` labels all agree, or the only one there is."""
    for cluster in clusters:
        if cluster.match and all(labels.get(k) == v for k, v in cluster.match.items()):
            return cluster
    return clusters[0] if len(clusters) == 1 else None


class Intake:
    """Accepts deliveries and folds their alerts."""

    def __init__(
        self,
        *,
        store: Store,
        engine: Engine,
        clock: Clock,
        chat: Chat,
        clusters: Sequence[ClusterSettings],
        parsers: Mapping[str, Parser],
        max_queue: int,
    ) -> None:
        self._store = store
        self._engine = engine
        self._clock = clock
        self._chat = chat
        self._clusters = clusters
        self._parsers = parsers
        self._max_queue = max_queue

    async def accept(self, source: str, body: str) -> DeliveryId:
        """Make a delivery durable and start its intake. Returning means stored; an event that was stored before returns its first delivery.

        Raises BadInput for a body the source's parser cannot read, QueueFull or StoreBusy where the sender must retry.
        """
        parsed = self._parsers[source](body)
        if await self._store.count_unprocessed() >= self._max_queue:
            raise QueueFull(f"{self._max_queue} deliveries wait to be processed; the sender must retry.")
        delivery = Delivery(id=DeliveryId(new_id("dlv")), source=source, received_at=self._clock.now(), body=body)
        crashpoints.reached(Point.P01)
        async with self._store.begin() as tx:
            if parsed.event is not None:
                first = await tx.first_delivery(source, parsed.event, delivery.id)
                if first != delivery.id:
                    log.info("an event was delivered again", source=source, delivery=first)
                    return first
            await tx.put(delivery)
        crashpoints.reached(Point.P02)
        await self._engine.start(Phase.INTAKE, delivery.id)
        return delivery.id

    async def run(self, key: str, steps: Steps) -> None:
        """Fold the alerts of delivery `key` into incidents, then start a diagnosis where one is due."""

        async def fold() -> str:
            return "\n".join(await self._fold(DeliveryId(key)))

        for wanted in filter(None, (await steps.run("fold", fold)).split("\n")):
            incident = IncidentId(wanted.partition("/")[0])
            self._chat.nudge(incident)
            await self._engine.start(Phase.DIAGNOSIS, wanted)

    async def _fold(self, delivery_id: DeliveryId) -> list[str]:
        """Fold in one transaction; return the diagnosis keys (`<incident>/<reason>`) that are due."""
        due: list[str] = []
        async with self._store.begin() as tx:
            delivery = await tx.get(Delivery, delivery_id)
            if delivery is None or delivery.processed_at is not None:
                return due
            try:
                parsed = self._parsers[delivery.source](delivery.body)
            except (BadInput, KeyError) as error:
                log.exception("a stored delivery is not readable", delivery=delivery_id, source=delivery.source)
                await tx.audit(
                    AuditDraft(
                        kind="delivery.unreadable",
                        actor=delivery.source,
                        sentence=f"Delivery {delivery_id} is not readable: {error}",
                    )
                )
                parsed = ParsedDelivery(alerts=())
            for incoming in parsed.alerts:
                due += await self._fold_one(tx, delivery, incoming, parsed)
            await tx.put(delivery.model_copy(update={"processed_at": self._clock.now()}))
        return list(dict.fromkeys(due))

    async def _fold_one(
        self, tx: Transaction, delivery: Delivery, incoming: IncomingAlert, parsed: ParsedDelivery
    ) -> list[str]:
        truncated = parsed.truncated
        firing = incoming.state is AlertState.FIRING
        incident = await tx.open_incident(delivery.source, incoming.fingerprint)
        due: list[str] = []
        if incident is None:
            incident = await tx.incident_of_episode(delivery.source, incoming.fingerprint, incoming.starts_at)
            if incident is None and firing:
                incident = self._open(delivery, incoming, parsed)
                due.append(f"{incident.id}/{_asked(parsed, delivery) or 'alert'}")
        elif firing:
            reopened = incident.state is not IncidentState.OPEN and incoming.starts_at > incident.starts_at
            incident = incident.model_copy(
                update={
                    "firing_count": incident.firing_count + 1,
                    "updated_at": self._clock.now(),
                    "revision": incident.revision + 1,
                    "truncated": truncated,
                    **({"state": IncidentState.OPEN, "starts_at": incoming.starts_at} if reopened else {}),
                    **({"requested_by": parsed.asked_by} if reopened else {}),
                }
            )
            if asked := _asked(parsed, delivery):
                due.append(f"{incident.id}/{asked}")
            elif reopened:
                due.append(f"{incident.id}/relapse {delivery.id}")
            elif parsed.changed and incident.state is IncidentState.OPEN:
                due.append(f"{incident.id}/changed {delivery.id}")
        elif incident.state is not IncidentState.CLEARED:
            incident = await self._clear(tx, incident)
            if incident.state is IncidentState.CLEARED:
                due.append(f"{incident.id}/sender resolved {delivery.id}")
        await self._record(tx, delivery, incoming, incident, parsed)
        return due

    def _open(self, delivery: Delivery, incoming: IncomingAlert, parsed: ParsedDelivery) -> Incident:
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
            note=None
            if cluster
            else f"No configured cluster matches this alert's labels, so nothing was diagnosed. Configured: {known}.",
        )

    async def _clear(self, tx: Transaction, incident: Incident) -> Incident:
        """The sender says resolved. That withdraws what waits for approval; it verifies nothing (design/safety.md, Approving 4)."""
        for proposal in await tx.proposals(incident.id):
            if proposal.state in {ProposalState.PENDING, ProposalState.PROPOSED}:
                reason = "The sender of the alert says it is resolved."
                await end_proposal(tx, proposal, ProposalState.WITHDRAWN, reason, actor=incident.source)
        incident = await tx.get(Incident, incident.id) or incident  # ending a proposal has raised its revision
        state = IncidentState.CLOSED if incident.state is IncidentState.VERIFIED else IncidentState.CLEARED
        return incident.model_copy(
            update={"state": state, "updated_at": self._clock.now(), "revision": incident.revision + 1}
        )

    async def _record(
        self,
        tx: Transaction,
        delivery: Delivery,
        incoming: IncomingAlert,
        incident: Incident | None,
        parsed: ParsedDelivery,
    ) -> None:
        if incident is not None:
            await tx.put(incident)
        await tx.put(
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
        await tx.audit(
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
