"""What a person must write to decide, and what is wrong with what they wrote."""

from __future__ import annotations

from typing import Final

from bot.model import Choice, Proposal, RiskClass
from bot.policy.decision import Reason

SAY_WHY: Final = "Say why; the reason is kept in the audit log."


def typed_name(proposal: Proposal) -> str | None:
    """Return the object name an approver must type, None below destructive."""
    if proposal.risk is not RiskClass.DESTRUCTIVE:
        return None
    subject = proposal.subject
    return subject.consumer or subject.stream or subject.server or subject.cluster


def check_form(proposal: Proposal, choice: Choice, reason: str, typed: str) -> dict[str, tuple[Reason, str]]:
    """Return what is wrong with a submitted form, by field."""
    wrong: dict[str, tuple[Reason, str]] = {}
    if not reason.strip():
        wrong["reason"] = (Reason.NO_REASON, SAY_WHY)
    name = typed_name(proposal)
    if choice is Choice.APPROVE and name is not None and typed.strip() != name:
        wrong["typed_name"] = (Reason.WRONG_NAME, "That is not the name of the object this changes. Type it exactly.")
    return wrong
