"""How a proposal ends before anything of it has run: once, on record, and with what people read."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bot.adapters.database import SqlStore
from bot.flow.approval import supersede_drifted
from bot.flow.endings import end_proposal
from bot.model import Incident, Proposal, ProposalId, ProposalState
from tests.integration import store_records as records

PENDING = records.proposal()


@asynccontextmanager
async def stored(folder: Path) -> AsyncGenerator[SqlStore]:
    async with SqlStore.open(f"sqlite:///{folder / 'n.db'}", records.FixedClock()) as store:
        async with store.begin() as tx:
            for record in (records.incident(), records.diagnosis(), PENDING):
                await tx.put(record)
        yield store


async def end(store: SqlStore, proposal: Proposal = PENDING, **more: Any) -> None:
    async with store.begin() as tx:
        await end_proposal(tx, proposal, ProposalState.WITHDRAWN, "It is over.", **more)


async def left(store: SqlStore) -> tuple[Proposal | None, int, list[tuple[object, ...]]]:
    """Return what is stored of the proposal, how often its incident was touched, and the audit log."""
    incident = await store.get(Incident, "inc_1")
    assert incident is not None
    rows = [(r.kind, r.actor, r.incident_id, r.subject, r.sentence, r.data) for r in await store.audit_entries()]
    return await store.get(Proposal, PENDING.id), incident.revision - 1, list(rows)


async def test_an_end_is_kept_with_its_reason_and_what_came_instead_and_nothing_else_changes(tmp_path: Path) -> None:
    async with stored(tmp_path) as store:
        await end(store, PENDING.model_copy(update={"superseded_by": "prop_2", "title": "what the caller knew"}))
        over = {"state": ProposalState.WITHDRAWN, "state_reason": "It is over.", "superseded_by": "prop_2"}
        row = ("proposal.withdrawn", "bot", "inc_1", PENDING.id, "It is over.", {})
        assert await left(store) == (PENDING.model_copy(update=over), 1, [row])


async def test_what_is_final_ends_no_second_time_and_everything_else_ends(tmp_path: Path) -> None:
    async with stored(tmp_path) as store:
        for state in ProposalState:
            before = PENDING.model_copy(update={"state": state})
            async with store.begin() as tx:
                await tx.put(before)
            _, revision, rows = await left(store)
            await end(store)
            now = await left(store)
            if state.terminal:
                assert now == (before, revision, rows)
            else:
                assert now[0] is not None
                assert (now[0].state, now[1], len(now[2])) == (ProposalState.WITHDRAWN, revision + 1, len(rows) + 1)


async def test_what_was_never_stored_does_not_end(tmp_path: Path) -> None:
    async with stored(tmp_path) as store:
        await end(store, PENDING.model_copy(update={"id": ProposalId("prop_9")}))
        assert await left(store) == (PENDING, 0, [])


async def test_who_ended_it_and_what_belongs_to_it_is_on_record(tmp_path: Path) -> None:
    async with stored(tmp_path) as store:
        await end(store, actor="ada", data={"team": "T1"})
        assert (await left(store))[2] == [
            ("proposal.withdrawn", "ada", "inc_1", PENDING.id, "It is over.", {"team": "T1"})
        ]


async def test_a_world_that_has_moved_ends_a_proposal_and_says_what_moved(tmp_path: Path) -> None:
    async with stored(tmp_path) as store:
        assert await supersede_drifted(store, PENDING, ("leader was n0, now n2.", "peers was 3, now 2."))
        reason = "The world has moved: leader was n0, now n2. peers was 3, now 2."
        found, _, rows = await left(store)
        assert found == PENDING.model_copy(update={"state": ProposalState.SUPERSEDED, "state_reason": reason})
        drift = {"drift": ["leader was n0, now n2.", "peers was 3, now 2."]}
        assert rows == [("proposal.superseded", "bot", "inc_1", PENDING.id, reason, drift)]


@pytest.mark.parametrize("other", [{"state": ProposalState.APPROVED}, {"id": "prop_9"}])
async def test_what_went_on_meanwhile_or_is_gone_does_not_end_for_a_world_that_has_moved(
    tmp_path: Path, other: dict[str, object]
) -> None:
    async with stored(tmp_path) as store:
        assert not await supersede_drifted(store, PENDING.model_copy(update=other), ("leader was n0, now n2.",))
        assert await left(store) == (PENDING, 0, [])
