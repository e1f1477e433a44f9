"""All that is stored about an incident, asked for on one connection and as of one commit: it is what a thread, a report and Home show."""

from __future__ import annotations

from sqlalchemy import select
from sqlmodel import col

from bot.adapters.database.connection import Database
from bot.adapters.database.convert import record_of
from bot.adapters.database.rows import ApprovalRow, DiagnosisRow, ExecutionRow, IncidentRow, ProposalRow, TargetLockRow
from bot.model import Approval, Decided, Diagnosis, Dossier, Execution, ExecutionId, Incident, IncidentId, Proposal


class SqlDossiers:
    """Four questions, however many proposals there are; a fifth where the incident has a cluster."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def dossier(self, incident: IncidentId) -> Dossier | None:
        """Return what there is; None where there is no such incident."""
        found = select(col(IncidentRow.body)).where(col(IncidentRow.id) == incident)
        diagnoses = (
            select(col(DiagnosisRow.body))
            .where(col(DiagnosisRow.incident_id) == incident)
            .order_by(col(DiagnosisRow.started_at), col(DiagnosisRow.id))
        )
        proposals = (
            select(col(ProposalRow.body), col(ExecutionRow.body))
            .outerjoin(ExecutionRow, col(ExecutionRow.proposal_id) == col(ProposalRow.id))
            .where(col(ProposalRow.incident_id) == incident)
            .order_by(col(ProposalRow.created_at), col(ProposalRow.id))
        )
        approvals = (
            select(col(ApprovalRow.body))
            .join(ProposalRow, col(ProposalRow.id) == col(ApprovalRow.proposal_id))
            .where(col(ProposalRow.incident_id) == incident)
            .order_by(col(ApprovalRow.at), col(ApprovalRow.id))
        )
        async with self._database.read() as session:
            if (body := await session.scalar(found)) is None:
                return None
            itself = record_of(Incident, body)
            found_out = [record_of(Diagnosis, one) for one in await session.scalars(diagnoses)]
            runs = (await session.execute(proposals)).all()
            said = [record_of(Approval, one) for one in await session.scalars(approvals)]
            lock = None if itself.cluster is None else await session.get(TargetLockRow, itself.cluster)
        decided = [_decided(record_of(Proposal, plan), run, said) for plan, run in runs]
        holder = None if lock is None or lock.execution_id is None else ExecutionId(lock.execution_id)
        return Dossier(incident=itself, diagnoses=tuple(found_out), decided=tuple(decided), lock_holder=holder)


def _decided(proposal: Proposal, run: str | None, said: list[Approval]) -> Decided:
    return Decided(
        proposal=proposal,
        approvals=tuple(one for one in said if one.proposal_id == proposal.id),
        execution=None if run is None else record_of(Execution, run),
    )
