"""The open case: folds an alert's repeats, owns one thread, and says how far the bot has come."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final, Self

from bot.model.base import DiagnosisId, IncidentId, Moment, Record
from bot.model.person import SlackUser

STORM: Final = "natsmedic/storm"
"""Source of the incident that stands for a storm: one per channel, whose id is its fingerprint. No webhook can have such a name."""
PAGE_SEVERITIES: Final = frozenset({"critical", "page"})
"""Values of the label `severity` that wake people: Prometheus' convention (reference/nats.md 5), and the older one of the SRE book. A hint like every label."""
KEPT: Final = 20
"""Relapses that an incident remembers; older ones are in the audit log."""


def page_worthy(labels: Mapping[str, str]) -> bool:
    """Return whether the sender of an alert says that it must wake somebody."""
    return labels.get("severity", "").lower() in PAGE_SEVERITIES


class IncidentState(StrEnum):
    OPEN = "open"
    """The alert fires, or its repair is not verified."""
    CLEARED = "cleared"
    """The sender says resolved; the bot has not verified it itself."""
    VERIFIED = "verified"
    """The bot has read that the condition is gone."""
    CLOSED = "closed"
    """Nothing more is expected; a new episode opens a new incident."""


class Holder(Record):
    """Who has said that they look after an incident."""

    user: SlackUser
    person: str
    at: Moment


class Silence(Record):
    """A person's word that nothing new about an incident needs to be said for a while. What is stored and counted does not change."""

    user: SlackUser
    person: str
    reason: str
    at: Moment
    until: Moment
    muted: int = 0
    """Alerts that came in meanwhile."""
    ended_at: Moment | None = None
    ended_by: str = ""
    """Key of the person who ended it early; empty where it ended by itself."""

    def covers(self, at: datetime) -> bool:
        """Return whether something of this moment fell into it."""
        return self.at <= at and (self.ended_at is None or at < self.ended_at)


class Relapse(Record):
    """The alert fired again after it had been over."""

    number: int
    """1 for the first: the alert is there for the second time then."""
    at: Moment
    after: IncidentState
    """What the incident had been until then."""


class Incident(Record):
    """`revision` grows with every change a thread should show; the chat draws until its own revision has caught up."""

    id: IncidentId
    cluster: str | None
    """None where no configured cluster matches the alert's labels."""
    source: str
    fingerprint: str
    starts_at: Moment
    opened_at: Moment
    updated_at: Moment
    state: IncidentState
    title: str
    channel: str
    labels: dict[str, str]
    annotations: dict[str, str]
    firing_count: int = 1
    """Deliveries in which the alert was firing, repeats included."""
    truncated: int = 0
    last_diagnosis: DiagnosisId | None = None
    requested_by: str | None = None
    """Person key of whoever asked for it, where a person did; such a person approves no proposal of it (design/safety.md, Approving 2)."""
    note: str | None = None
    """One sentence about something the bot could not do, e.g. no cluster matches."""
    revision: int = 1
    settled_at: Moment | None = None
    """When it was cleared or verified, whichever came first; None while it is open."""
    relapses: tuple[Relapse, ...] = ()
    """The newest ones, oldest first."""
    previous: IncidentId | None = None
    """The incident of the same alert that was over too long to go on with."""
    holder: Holder | None = None
    silence: Silence | None = None
    """The one that holds: until it is recorded as ended, whatever the clock says."""
    silences: tuple[Silence, ...] = ()
    """Those that have ended, oldest first; each took a person's hand, so there are few."""
    storm: IncidentId | None = None
    """The storm in whose message it is shown; None where it has a thread of its own."""

    @property
    def page_worthy(self) -> bool:
        """Whether the sender of the alert says that it must wake somebody."""
        return page_worthy(self.labels)

    def hush(self, at: datetime) -> Silence | None:
        """Return the silence, ended or not, into which this moment fell."""
        held = (self.silence,) if self.silence is not None else ()
        return next((silence for silence in (*self.silences, *held) if silence.covers(at)), None)

    def over_for(self, now: datetime) -> timedelta | None:
        """Return how long it has been cleared, verified or closed; None while it is open."""
        return None if self.state is IncidentState.OPEN else now - (self.settled_at or self.updated_at)

    def to(self, state: IncidentState, now: datetime) -> Self:
        """Return it in another state, changed now."""
        settled = None if state is IncidentState.OPEN else (self.settled_at or now)
        return self.changed(now, state=state, settled_at=settled)

    def changed(self, now: datetime, **fields: object) -> Self:
        """Return it with other fields, changed now."""
        return self.model_copy(update={**fields, "updated_at": now, "revision": self.revision + 1})

    def let_speak(self, now: datetime, by: str = "") -> Self:
        """Return it with its silence ended by this person, or by itself."""
        if self.silence is None:
            return self
        ended = self.silence.model_copy(update={"ended_at": now, "ended_by": by})
        return self.changed(now, silence=None, silences=(*self.silences, ended))


class StormMember(Record):
    """One incident of a storm. `id` is the incident's."""

    id: IncidentId
    storm: IncidentId
    cluster: str
    """Empty where no configured cluster matches."""
    title: str
    words: str
    """Its labels, for people who choose among many of one title."""
    page: bool
    own_thread: bool
    """Shown in a thread of its own, as page-worthy or because a person asked for it."""
    at: Moment


class StormLine(Record):
    """One line of a storm's table: all its incidents of one alert name on one cluster."""

    cluster: str
    title: str
    count: int
    firing: int
    """Those that are open now."""
    page: bool
    """At least one of them is page-worthy."""
    first: Moment
    last: Moment
