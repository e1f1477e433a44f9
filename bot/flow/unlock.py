"""Gives a cluster's lock back after a person has looked: an outcome that stayed unknown keeps it, and nothing but a person releases it."""

from __future__ import annotations

from bot.errors import BadInput, Refused
from bot.flow.refusals import account
from bot.model import AuditDraft, Execution, SlackUser
from bot.ports import Store


async def unlock(store: Store, cluster: str, person: str, reason: str, *, by: SlackUser | None = None) -> str:
    """Release the lock of `cluster` and return a sentence. `person` is who says so, `by` the account behind them, for the audit log.

    Raises `BadInput` where there is no reason or no lock, and `Refused` while the execution that holds it still runs.
    """
    if not reason.strip():
        raise BadInput("A reason is needed: it is kept in the audit log. Say what you looked at.")
    async with store.begin() as tx:
        holder, fence = await store.fence(cluster)
        if holder is None:
            raise BadInput(f"Nothing holds cluster {cluster}: there is no lock to give back.")
        execution = await tx.get(Execution, holder)
        if execution is not None and not execution.state.terminal:
            raise Refused(
                f"Execution {holder} is {execution.state}: it holds cluster {cluster} because it still runs. Wait for its end."
            )
        await tx.release_lock(cluster, holder)
        sentence = f"{person} gave the lock of cluster {cluster} back: {reason.strip()}"
        await tx.audit(
            AuditDraft(
                kind="lock.released",
                actor=person,
                incident_id=execution.incident_id if execution else None,
                subject=holder,
                sentence=sentence,
                data={"cluster": cluster, "fence": fence} | account(by),
            )
        )
        if execution is not None:
            await tx.touch(execution.incident_id)
    return sentence
