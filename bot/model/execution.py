"""The run of an approved proposal: one record per stage, every outcome named, *unknown* among them."""

from __future__ import annotations

from enum import StrEnum

from bot.model.base import ExecutionId, IncidentId, JsonObject, Moment, OperationId, ProposalId, Record


class StageState(StrEnum):
    WAITING = "waiting"
    INTENDED = "intended"
    """Intent and audit row are committed; the request may or may not have been sent."""
    APPLIED = "applied"
    VERIFIED = "verified"
    NOT_APPLIED = "not_applied"
    """A definite answer says the change did not happen."""
    UNKNOWN = "unknown"
    """Sent, no answer, receipt not yet readable."""
    FAILED = "failed"
    """Applied, and reality does not show what was promised."""
    SKIPPED = "skipped"
    ROLLED_BACK = "rolled_back"


class Outcome(StrEnum):
    """How a verification ended."""

    VERIFIED = "verified"
    FAILED = "failed"
    CANNOT_TELL = "cannot_tell"


class Verification(Record):
    """One look at reality."""

    outcome: Outcome
    sentence: str
    numbers: dict[str, str | int | None] = {}
    final: bool = False
    """Whether a failure stays one, however long it is waited for: an image that does not exist."""


class StageRun(Record):
    """What happened to one stage."""

    index: int
    state: StageState
    operation_id: OperationId
    intended_at: Moment | None = None
    applied_at: Moment | None = None
    ended_at: Moment | None = None
    sent: int = 0
    """How often the request was sent, recoveries included."""
    before: dict[str, str | int | None] = {}
    after: dict[str, str | int | None] = {}
    before_image: JsonObject = {}
    """The object as it was, raw; rollback and a human's last resort."""
    sentence: str = ""


class ExecutionState(StrEnum):
    QUEUED = "queued"
    APPLYING = "applying"
    VERIFYING = "verifying"
    DONE = "done"
    FAILED = "failed"
    ROLLED_BACK = "rolled_back"
    UNKNOWN = "unknown"
    NEEDS_HUMAN = "needs_human"
    REFUSED = "refused"
    """Stopped before the first write: drift, lost authority, lock, limits."""

    @property
    def terminal(self) -> bool:
        """True when nothing more happens by itself."""
        return self not in {
            ExecutionState.QUEUED,
            ExecutionState.APPLYING,
            ExecutionState.VERIFYING,
            ExecutionState.UNKNOWN,
        }


class Execution(Record):
    """Exactly one per approved proposal; its id is derived from the proposal's so that a second start finds the first."""

    id: ExecutionId
    proposal_id: ProposalId
    incident_id: IncidentId
    cluster: str
    state: ExecutionState
    stages: tuple[StageRun, ...]
    fence: int = 0
    """The target lock's fence number under which it runs; re-read before every external call."""
    started_at: Moment
    ended_at: Moment | None = None
    sentence: str = ""
