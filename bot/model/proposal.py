"""A proposal is data: ordered stages of action kind + typed parameters, bound to the world it was made for."""

from __future__ import annotations

from enum import StrEnum

from bot.model.base import (
    DiagnosisId,
    IncidentId,
    Json,
    JsonObject,
    Moment,
    ProposalId,
    Record,
    RiskClass,
    digest,
)
from bot.model.finding import Subject
from bot.model.tunable import Tunable

World = dict[str, str | int | bool | None]
"""Facts that make a proposal right, as flat `thing.field -> value`; compared field by field."""


class ProposalState(StrEnum):
    PROPOSED = "proposed"
    """Stored, not yet offered (mode observe never leaves this state)."""
    PENDING = "pending"
    APPROVED = "approved"
    APPLYING = "applying"
    VERIFYING = "verifying"
    DONE = "done"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    UNKNOWN = "unknown"
    NEEDS_HUMAN = "needs_human"
    DENIED = "denied"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    WITHDRAWN = "withdrawn"

    @property
    def terminal(self) -> bool:
        """Terminal states are final. `unknown` is not: its receipt is still being read."""
        return self in _TERMINAL


_TERMINAL = frozenset(
    {
        ProposalState.DONE,
        ProposalState.FAILED,
        ProposalState.ROLLED_BACK,
        ProposalState.NEEDS_HUMAN,
        ProposalState.DENIED,
        ProposalState.EXPIRED,
        ProposalState.SUPERSEDED,
        ProposalState.WITHDRAWN,
    }
)


class Preview(Record):
    """What people read before they approve a stage."""

    summary: str
    diff: str = ""
    """Unified diff of the object's configuration; empty where nothing is configured."""
    blast_radius: str
    effects: tuple[str, ...] = ()
    """Predicted consequences with numbers, e.g. `2 messages are delivered again (sequences 90 and 95)`."""
    way_back: str
    """How the stage is undone, or why it cannot be."""


class Patch(Record):
    """A file for people who make a change in its source, e.g. values of a Helm chart. It holds no secret."""

    name: str
    text: str


class Rung(Record):
    """What people must know of one repair among several for the same problem."""

    not_enough: str
    """Why it may not be enough."""
    go_on: str
    """When to go on to the next, more destructive one; empty for the last."""
    problem: str = ""
    """What it is against, where repairs of several problems are about the same thing; those of another problem stand on another ladder."""


class Stage(Record):
    """One action's turn. `params` is the JSON of the action's own parameter record."""

    kind: str
    params: JsonObject
    risk: RiskClass
    preview: Preview


class Escalation(Record):
    """One more group that was called because nobody had decided; from then on its people may approve in place of `stands_for`."""

    group: str
    stands_for: str
    at: Moment


class Proposal(Record):
    """Offered to people; `digest` covers everything that would run and the world it was made for."""

    id: ProposalId
    incident_id: IncidentId
    diagnosis_id: DiagnosisId
    cluster: str
    subject: Subject
    title: str
    why: str
    risk: RiskClass
    stages: tuple[Stage, ...]
    """Empty for manual guidance: `guidance` then holds the exact commands and nobody can approve it."""
    guidance: tuple[str, ...] = ()
    rung: Rung | None = None
    """None where there is nothing to choose between."""
    cautions: tuple[str, ...] = ()
    """Trade-offs an approver must know, e.g. that an application that re-creates the consumer will be refused."""
    patches: tuple[Patch, ...] = ()
    """Files that the guidance speaks of."""
    tunables: tuple[Tunable, ...] = ()
    """Values that a person may want otherwise: another value makes another proposal."""
    origin: str = ""
    """The `offer` of the proposal of a diagnosis that this one is an edit of; empty where it is that proposal itself."""
    world: World
    state: ProposalState
    state_reason: str = ""
    button: str
    """Opaque id carried by the buttons; says nothing and authorises nothing."""
    requested_by: str | None = None
    """Person key of whoever asked for or edited it; None where only the bot did."""
    created_at: Moment
    expires_at: Moment
    superseded_by: ProposalId | None = None
    reminded_at: Moment | None = None
    """When the thread was reminded, at half of the time, that this still waits."""
    escalations: tuple[Escalation, ...] = ()
    """Who was called after that, in order."""

    @property
    def approvable(self) -> bool:
        """True where there is something to run."""
        return bool(self.stages)

    @property
    def offer(self) -> str:
        """What makes two proposals the same offer: what runs, on what, in which world; of an edited one, what was edited."""
        told = {"subject", "stages", "world", "guidance", "title", "state"}
        return self.origin or digest(self.model_dump(mode="json", include=told))

    @property
    def digest(self) -> str:
        """SHA-256 over what runs, on what, in which world; approvals are bound to it."""
        body: Json = self.model_dump(
            mode="json",
            include={"id", "cluster", "subject", "risk", "stages", "world", "expires_at", "requested_by"},
        )
        return digest(body)
