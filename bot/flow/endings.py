"""Ends a proposal before anything of it has run: the state, the reason people read and the audit entry, in the caller's transaction."""

from __future__ import annotations

from bot.model import AuditDraft, JsonObject, Proposal, ProposalState
from bot.ports import Transaction


async def end_proposal(
    tx: Transaction,
    proposal: Proposal,
    state: ProposalState,
    reason: str,
    *,
    actor: str = "bot",
    data: JsonObject | None = None,
) -> None:
    """Put `proposal` into a terminal `state` with its reason; does nothing where it is final already."""
    current = await tx.get(Proposal, proposal.id)
    if current is None or current.state.terminal:
        return
    await tx.put(
        current.model_copy(update={"state": state, "state_reason": reason, "superseded_by": proposal.superseded_by})
    )
    await tx.touch(current.incident_id)
    await tx.audit(
        AuditDraft(
            kind=f"proposal.{state}",
            actor=actor,
            incident_id=current.incident_id,
            subject=current.id,
            sentence=reason,
            data=data or {},
        )
    )
