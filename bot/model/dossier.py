"""What is stored about one incident, as of one moment."""

from __future__ import annotations

from bot.model.approval import Approval
from bot.model.base import ExecutionId, Record
from bot.model.diagnosis import Diagnosis
from bot.model.execution import Execution
from bot.model.incident import Incident
from bot.model.proposal import Proposal


class Decided(Record):
    """A proposal, what people said to it, and its run."""

    proposal: Proposal
    approvals: tuple[Approval, ...] = ()
    """Oldest first."""
    execution: Execution | None = None


class Dossier(Record):
    """An incident with what was found, proposed, decided and done."""

    incident: Incident
    diagnoses: tuple[Diagnosis, ...] = ()
    """Oldest first."""
    decided: tuple[Decided, ...] = ()
    """Every proposal, decided or not, oldest first."""
    lock_holder: ExecutionId | None = None
    """The execution that holds the lock of the incident's cluster."""
