"""The account of an incident, read from a real database: whole, in the order of time, and with what the chain is worth."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from bot.adapters.database import SqlStore
from bot.flow.incident_report import account_of
from bot.model import IncidentId
from tests.integration.store_records import (
    NOW,
    FixedClock,
    alert,
    approval,
    delivery,
    diagnosis,
    draft,
    execution,
    incident,
    proposal,
)

ID = IncidentId("inc_1")


async def test_an_account_holds_everything_of_its_incident_in_the_order_of_time(tmp_path: Path) -> None:
    late = {"started_at": NOW + timedelta(minutes=1), "ended_at": NOW + timedelta(minutes=2)}
    async with SqlStore.open(f"sqlite:///{tmp_path}/db", FixedClock()) as store:
        async with store.begin() as tx:
            await tx.put(incident())
            await tx.put(delivery())
            await tx.put(alert(incident_id=ID))
            await tx.put(diagnosis("a").model_copy(update=late))
            await tx.put(diagnosis("b"))
            await tx.put(proposal())
            await tx.put(approval())
            await tx.put(execution())
            await tx.audit(draft("Of this incident."))
            await tx.audit(draft("Of another.").model_copy(update={"incident_id": "inc_2"}))
        account = await account_of(store, ID)
        assert await account_of(store, IncidentId("inc_9")) is None
    assert account is not None
    assert account.incident == incident()
    assert account.alerts == (alert(incident_id=ID),)
    assert [one.id for one in account.diagnoses] == ["dia_b", "dia_a"]
    (decided,) = account.decided
    assert (decided.proposal, decided.approvals, decided.execution) == (proposal(), (approval(),), execution())
    assert [row.sentence for row in account.rows] == ["Of this incident."]
    assert (account.chain.intact, account.chain.rows, account.gap, account.unreadable) == (True, 2, "", "")
