"""The account of an incident, read from a real database: whole, in the order of time, and with what the chain is worth."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from bot.adapters.database import SqlStore
from bot.flow.incident_report import Account, account_of
from bot.model import Checkpoint, IncidentId
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


async def account(path: Path, *, before: int, own: int, kept: int | None, forged: bool = False) -> Account:
    """The account of an incident whose `own` rows come after `before` others, with a checkpoint of row `kept`."""
    async with SqlStore.open(f"sqlite:///{path}/db", FixedClock()) as store:
        async with store.begin() as tx:
            await tx.put(incident())
            for number in range(before):
                await tx.audit(draft(f"{number}").model_copy(update={"incident_id": "inc_2"}))
            for number in range(own):
                await tx.audit(draft(f"{number}"))
        line = await store.audit_line(kept) if kept is not None else None
        checkpoint = Checkpoint(seq=line.seq, hash="f" * 64 if forged else line.hash) if line is not None else None
        found = await account_of(store, ID, whole_chain=False, checkpoint=checkpoint)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        (None, "Rows 6 to 8 verify; "),
        (2, "Rows 3 to 8 verify, and row 2 matches the checkpoint; "),
        (5, "Rows 6 to 8 verify, and row 5 matches the checkpoint; "),
        (6, "Rows 6 to 8 verify, and row 6 matches the checkpoint; "),
        (8, "Rows 6 to 8 verify, and row 8 matches the checkpoint; "),
    ],
)
async def test_the_chain_is_verified_from_the_incidents_first_row_or_an_earlier_checkpoint_on(
    tmp_path: Path, kept: int | None, said: str
) -> None:
    chain = (await account(tmp_path, before=5, own=3, kept=kept)).chain
    assert chain.intact
    assert chain.reason.startswith(said)
    assert chain.rows == 8


@pytest.mark.parametrize(("kept", "bad"), [(2, 3), (5, 6), (6, 6), (8, 8)])
async def test_a_checkpoint_of_another_row_is_told(tmp_path: Path, kept: int, bad: int) -> None:
    chain = (await account(tmp_path, before=5, own=3, kept=kept, forged=True)).chain
    assert chain.first_bad_seq == bad


async def test_an_incident_of_the_first_row_is_verified_from_the_beginning(tmp_path: Path) -> None:
    assert (await account(tmp_path, before=0, own=2, kept=None)).chain.reason == "All 2 rows verify."
