"""The second factor is switched on while approvals without it are on record: they are void at the desk, in the sweep and right before the write."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from pyotp.totp import TOTP

from bot.flow.approval import ApprovalDesk
from bot.flow.stages import Stages
from bot.flow.sweep import Sweeper
from bot.limits import Limits
from bot.model import AuditEntry, Choice, ExecutionState, ProposalState
from bot.policy import WITHOUT_CODE
from bot.ports import Readers, Store
from bot.settings import LimitSettings, PolicySettings, ThreadSettings
from bot.settings.policy import FactorSettings
from tests.integration import execution_house
from tests.integration import test_approval_desk as desk_support
from tests.integration.execution_house import NoReaders, SetValue
from tests.integration.test_approval_desk import House

SECRETS = {"U2": "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP", "U1": "KRSXG5CTMVRXEZLUKRSXG5CTMVRXEZLU"}
FACTOR = FactorSettings.model_validate({"secrets": SECRETS})


def asking(rules: PolicySettings) -> PolicySettings:
    return rules.model_copy(update={"second_factor": FACTOR})


def restarted(h: House) -> ApprovalDesk:
    """The desk of the next start, whose settings ask for a code."""
    return ApprovalDesk(
        store=h.store,
        directory=desk_support.Everyone(),
        readers={"prod": cast("Readers", NoReaders())},
        stages=Stages({"test.set": SetValue(h.target)}),
        rules=asking(desk_support.RULES),
        limits=Limits(LimitSettings(), h.clock),
        engine=h.quiet,
        clock=h.clock,
        chat=h.quiet,
    )


async def voided(store: Store) -> list[AuditEntry]:
    return [row for row in await store.audit_entries() if row.kind == "approval.void"]


async def test_the_last_approval_starts_nothing_where_the_one_before_it_has_no_code(tmp_path: Path) -> None:
    async with desk_support.house(tmp_path) as h:
        assert (await h.desk.decide(h.click("U2"), "checked", "ORDERS")).accepted
        desk = restarted(h)
        code = TOTP(SECRETS["U1"]).at(h.clock.now())
        answer = await desk.decide(h.click("U1"), "me too", "ORDERS", code)
        assert answer.sentence == "Recorded: 1 of 2. Still missing: operators."
        assert await h.state() is ProposalState.PENDING
        (row,) = await voided(h.store)
        assert row.sentence == f"The approval of U2 counts for nothing any more: it was {WITHOUT_CODE}."
        assert (row.subject, row.data["person"]) == (h.proposal.id, "U2")
        code = TOTP(SECRETS["U2"]).at(h.clock.now())
        again = await desk.decide(h.click("U2"), "still checked", "ORDERS", code)
        assert again.sentence == "Recorded: 2 of 2. It starts now."
        assert await h.state() is ProposalState.APPROVED
        kept = {one.person: (one.factor, one.void) for one in await h.store.approvals(h.proposal.id)}
        assert kept == {"U1": (True, ""), "U2": (True, "")}
        assert len(await voided(h.store)) == 1


async def test_the_sweep_voids_it_once_and_has_its_message_drawn_anew(tmp_path: Path) -> None:
    async with desk_support.house(tmp_path) as h:
        assert (await h.desk.decide(h.click("U2"), "checked", "ORDERS")).accepted
        seen: list[tuple[int, bool]] = []
        for rules in (desk_support.RULES, *[asking(desk_support.RULES)] * 2):
            before = await h.store.behind()
            sweeper = Sweeper(
                store=h.store, engine=h.quiet, clock=h.clock, chat=h.quiet, threads=ThreadSettings(), rules=rules
            )
            await sweeper.sweep()
            seen.append((len(await voided(h.store)), await h.store.behind() != before))
        assert seen == [(0, False), (1, True), (1, False)]
        (given,) = await h.store.approvals(h.proposal.id)
        assert given.void == WITHOUT_CODE


async def test_a_denial_needs_no_code_and_is_never_void(tmp_path: Path) -> None:
    async with desk_support.house(tmp_path) as h:
        assert (await h.desk.decide(h.click("U2"), "checked", "ORDERS")).accepted
        desk = restarted(h)
        deny = h.click("U1", Choice.DENY)
        assert (await desk.decide(deny, "not now", "")).accepted
        assert await h.state() is ProposalState.DENIED


@pytest.mark.parametrize("coded", [(), ("U1",), ("U1", "U2")])
async def test_right_before_the_first_write_an_approval_without_a_code_stops_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coded: tuple[str, ...]
) -> None:
    monkeypatch.setattr(execution_house, "RULES", asking(execution_house.RULES))
    async with execution_house.house(tmp_path, "a") as h:
        given = await h.store.approvals(h.proposal.id)
        async with h.store.begin() as tx:
            for one in given:
                await tx.put(one.model_copy(update={"factor": one.user.user_id in coded}))
        run = await h.run()
        lacking = [one for one in given if one.user.user_id not in coded]
        assert len(await voided(h.store)) == len(lacking) == 2 - len(coded)
        if not lacking:
            assert run.state is ExecutionState.DONE
            return
        assert (run.state, await h.state()) == (ExecutionState.REFUSED, ProposalState.WITHDRAWN)
        assert h.target.effects == []
        (row,) = [row for row in await h.store.audit_entries() if row.kind == "execution.refused"]
        assert f"{2 - len(lacking)} of 2 approvals are still valid" in row.sentence
        assert all(f"That of {one.person} was {WITHOUT_CODE}." in row.sentence for one in lacking)
