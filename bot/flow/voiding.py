"""Voids approvals that policy does not take any more: the proposal's message says so, and each is a row of the audit log."""

from __future__ import annotations

from bot.model import AuditDraft, Choice, Proposal
from bot.policy import WITHOUT_CODE, asks_code, lacks_code
from bot.ports import Store, Transaction
from bot.settings import PolicySettings


async def void_without_code(tx: Transaction, proposal: Proposal, rules: PolicySettings) -> None:
    """Void what was approved before policy asked for a second factor, once each."""
    for approval in await tx.approvals(proposal.id):
        if approval.void or not lacks_code(approval, proposal, rules):
            continue
        await tx.put(approval.model_copy(update={"void": WITHOUT_CODE}))
        await tx.touch(proposal.incident_id)
        await tx.audit(
            AuditDraft(
                kind="approval.void",
                actor="bot",
                incident_id=proposal.incident_id,
                subject=proposal.id,
                sentence=f"The approval of {approval.person} counts for nothing any more: it was {WITHOUT_CODE}.",
                data={"approval": approval.id, "person": approval.person},
            )
        )


async def look_for_void(store: Store, proposal: Proposal, rules: PolicySettings) -> bool:
    """Do the same in a transaction of its own, where there is something to void; return whether there was."""
    if not asks_code(proposal, Choice.APPROVE, rules):
        return False
    given = await store.approvals(proposal.id)
    if not any(lacks_code(one, proposal, rules) and not one.void for one in given):
        return False
    async with store.begin() as tx:
        await void_without_code(tx, proposal, rules)
    return True
