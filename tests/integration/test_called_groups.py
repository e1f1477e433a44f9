"""People of a group that was called because nobody had decided, at the desk: refused before, heard after, and on record for whom they stood in."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.flow.approval import Answer, Form
from bot.model import Choice, Escalation, ProposalState, RiskClass
from bot.settings import GroupSettings, PolicySettings
from tests.integration import test_approval_desk as desk_support
from tests.integration.test_approval_desk import House

OWNER, OPERATOR = "U1", "U2"
"""Of the group that is called, and of one that decides anyway."""


@pytest.fixture(autouse=True)
def owners_are_called(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = PolicySettings(
        groups={name: GroupSettings(users=("U9",)) for name in ("operators", "heads", "owners")},
        approvers={RiskClass.DESTRUCTIVE: ("operators", "heads")},
        escalation={RiskClass.DESTRUCTIVE: ("owners",)},
    )
    monkeypatch.setattr(desk_support, "RULES", rules)


async def call(house: House, *missing: str) -> None:
    calls = tuple(Escalation(group="owners", stands_for=one, at=house.clock.now()) for one in missing or ("heads",))
    async with house.store.begin() as tx:
        await tx.put(house.proposal.model_copy(update={"escalations": calls}))


async def test_before_the_call_the_group_is_refused_and_after_it_the_record_says_in_whose_place(tmp_path: Path) -> None:
    async with desk_support.house(tmp_path) as h:
        early = await h.desk.open(h.click(OWNER))
        assert isinstance(early, Answer)
        assert "none of the groups that decide on destructive changes: operators, heads" in early.sentence
        assert not (await h.desk.decide(h.click(OWNER), "checked", "ORDERS")).accepted
        assert await h.refusals() == ["not_an_approver"] * 2
        await call(h)
        assert isinstance(await h.desk.open(h.click(OWNER)), Form)
        first = await h.desk.decide(h.click(OWNER), "checked", "ORDERS")
        assert first.sentence == "Recorded in place of heads: 1 of 2. Still missing: operators."
        assert (await h.desk.decide(h.click(OPERATOR), "me too", "ORDERS")).sentence.startswith("Recorded: 2 of 2.")
        assert await h.state() is ProposalState.APPROVED
        rows = [row.sentence for row in await h.store.audit_entries() if row.kind == "approval.recorded"]
        assert rows == ["U1 chose approve in place of heads: checked", "U2 chose approve: me too"]


async def test_a_second_of_the_called_group_is_not_needed(tmp_path: Path) -> None:
    async with desk_support.house(tmp_path) as h:
        await call(h)
        assert (await h.desk.decide(h.click(OWNER), "checked", "ORDERS")).accepted
        answer = await h.desk.decide(h.click("U3"), "me too", "ORDERS")
        assert (answer.accepted, await h.refusals()) == (False, ["groups_already_covered"])
        assert await h.state() is ProposalState.PENDING


async def test_who_is_called_for_two_groups_is_recorded_in_the_place_of_either(tmp_path: Path) -> None:
    async with desk_support.house(tmp_path) as h:
        await call(h, "operators", "heads")
        answer = await h.desk.decide(h.click(OWNER), "checked", "ORDERS")
        assert answer.sentence.startswith("Recorded in place of heads, operators: 1 of 2.")


async def test_whoever_is_called_may_deny_as_well_and_stands_for_nobody_then(tmp_path: Path) -> None:
    async with desk_support.house(tmp_path) as h:
        await call(h)
        assert (await h.desk.decide(h.click(OWNER, Choice.DENY), "not now", "")).accepted
        assert await h.state() is ProposalState.DENIED
        (row,) = [row for row in await h.store.audit_entries() if row.kind == "approval.recorded"]
        assert row.sentence == "U1 chose deny: not now"
