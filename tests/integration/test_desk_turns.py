"""Turns at the desk: what others decide meanwhile is seen before the cluster is read, and again in the transaction."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, cast

import pytest

from bot.flow.approval import Answer
from bot.model import Approval, Choice, Proposal, ProposalState
from tests.integration.store_records import NOW
from tests.integration.test_approval_desk import House, house
from tests.integration.test_desk_record import OPERATOR, OWNER, decide, refused, rows

DENIED = {"state": ProposalState.DENIED, "state_reason": "No."}


def meanwhile(h: House, *made: Any) -> None:
    """Have another replica store these records while the cluster is read for a click."""
    real = h.desk._stages.drift

    async def drift(*given: Any) -> tuple[str, ...]:
        async with h.store.begin() as tx:
            for record in made:
                await tx.put(record)
        return await real(*given)

    h.desk._stages.drift = cast("Any", drift)


async def test_what_is_refused_anyway_is_refused_before_the_cluster_is_read(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        assert (await decide(h)).accepted
        looks: list[str] = []

        async def look(readers: object, proposal: Proposal) -> tuple[str, ...]:
            looks.append(proposal.id)
            return ()

        async def stale(button: str) -> Proposal:
            return h.proposal

        h.desk._stages.drift = cast("Any", look)
        assert not (await decide(h)).accepted, "the same person again"
        h.store.proposal_by_button = cast("Any", stale)
        async with h.store.begin() as tx:
            await tx.put(h.proposal.model_copy(update=DENIED))
        assert (await decide(h, OWNER)).sentence == "This proposal is denied: No."
        assert looks == []


async def test_one_proposal_does_not_wait_for_the_turn_of_another(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        other = h.proposal.model_copy(update={"id": "prop_2", "button": "btn_2"})
        async with h.store.begin() as tx:
            await tx.put(other)
        read, done = asyncio.Event(), asyncio.Event()

        async def slow(readers: object, proposal: Proposal) -> tuple[str, ...]:
            if proposal.id == "prop_1":
                read.set()
                await done.wait()
            return ()

        h.desk._stages.drift = cast("Any", slow)
        first = asyncio.create_task(decide(h))
        await read.wait()
        async with asyncio.timeout(10):
            denied = await h.desk.decide(h.click(OPERATOR, Choice.DENY, button="btn_2"), "not now", "")
        done.set()
        assert (denied.accepted, (await first).accepted) == (True, True)


async def test_a_denial_meanwhile_is_seen_in_the_transaction(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        meanwhile(h, h.proposal.model_copy(update=DENIED))
        said = "This proposal is denied: No."
        assert await decide(h) == Answer(accepted=False, sentence=said)
        assert await rows(h) == [refused("not_pending", said)]
        assert await h.store.approvals("prop_1") == []


@pytest.mark.parametrize(("person", "code"), [(OPERATOR, "already_decided"), ("U4", "groups_already_covered")])
async def test_an_approval_meanwhile_is_seen_in_the_transaction(tmp_path: Path, person: str, code: str) -> None:
    async with house(tmp_path) as h:
        user = h.click(person).user
        given = Approval.model_validate(
            {
                "id": "app_1",
                "proposal_id": "prop_1",
                "proposal_digest": h.proposal.digest,
                "choice": Choice.APPROVE,
                "user": user,
                "person": person,
                "groups": ("operators",),
                "reason": "r",
                "at": NOW,
            }
        )
        meanwhile(h, given)
        assert not (await decide(h)).accepted
        assert await h.refusals() == [code]
        assert await h.store.approvals("prop_1") == [given]
