"""One person's approve or deny of one proposal, bound to the digest it was given for."""

from __future__ import annotations

from enum import StrEnum

from bot.model.base import ApprovalId, Moment, ProposalId, Record
from bot.model.person import SlackUser


class Choice(StrEnum):
    APPROVE = "approve"
    DENY = "deny"


class Approval(Record):
    """Unique per (proposal, person): one person, one proposal, one decision."""

    id: ApprovalId
    proposal_id: ProposalId
    proposal_digest: str
    choice: Choice
    user: SlackUser
    person: str
    groups: tuple[str, ...]
    """The policy groups the person was in at the click."""
    reason: str
    typed_name: str = ""
    break_glass: bool = False
    """Given alone, without the second person (design/safety.md, Approving 5)."""
    factor: bool = False
    """Given with a code of the person's second factor."""
    void: str = ""
    """Why it counts for nothing any more; empty where it counts. Final: only a new decision of the same person takes its place."""
    at: Moment
