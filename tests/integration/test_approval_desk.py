"""Clicks against a real database: who may decide, what is recorded, and that one decision is one decision."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import cast

from bot.adapters.database import SqlStore
from bot.errors import Unreadable
from bot.flow.approval import ApprovalDesk, Click, Form
from bot.flow.stages import Stages
from bot.limits import Limits
from bot.model import Choice, Execution, Person, Preview, Proposal, ProposalState, RiskClass, SlackUser, Stage
from bot.ports import Phase, Readers
from bot.settings import GroupSettings, LimitSettings, PolicySettings
from tests.integration import store_records as records
from tests.integration.execution_house import NoReaders, Quiet, SetValue, Target

RULES = PolicySettings(
    groups={"operators": GroupSettings(users=("U1",)), "owners": GroupSettings(users=("U2",))},
    approvers={RiskClass.DESTRUCTIVE: ("operators", "owners")},
)


class Everyone:
    """Everybody whose id ends in an even digit operates, the others own data; X may do nothing."""

    async def look_up(self, user: SlackUser, *, fresh: bool = False) -> Person:
        del fresh
        groups = (
            frozenset[str]()
            if user.user_id == "X"
            else frozenset({"operators" if int(user.user_id[1:]) % 2 == 0 else "owners"})
        )
        return Person(
            user=user,
            key=user.user_id,
            human=True,
            active=True,
            guest=False,
            home_workspace=True,
            groups=groups,
            looked_up_at=records.NOW,
        )


@dataclass
class House:
    store: SqlStore
    clock: records.FixedClock
    target: Target
    quiet: Quiet
    desk: ApprovalDesk
    proposal: Proposal

    def click(self, user: str, choice: Choice = Choice.APPROVE, button: str | None = None) -> Click:
        return Click(user=SlackUser(team_id="T1", user_id=user), button=button or self.proposal.button, choice=choice)

    async def state(self) -> ProposalState:
        found = await self.store.get(Proposal, self.proposal.id)
        assert found is not None
        return found.state

    async def refusals(self) -> list[str]:
        return [str(r.data["code"]) for r in await self.store.audit_entries() if r.kind == "click.refused"]


@asynccontextmanager
async def house(folder: Path, requested_by: str | None = None) -> AsyncGenerator[House]:
    clock, target, quiet = records.FixedClock(), Target(), Quiet()
    async with SqlStore.open(f"sqlite:///{folder / 'n.db'}", clock) as store:
        preview = Preview(summary="set", blast_radius="the test", way_back="delete it")
        stage = Stage(kind="test.set", params={"name": "a"}, risk=RiskClass.DESTRUCTIVE, preview=preview)
        proposal = records.proposal().model_copy(
            update={"stages": (stage,), "world": {"leader": "n0"}, "requested_by": requested_by}
        )
        async with store.begin() as tx:
            for record in (records.incident(), records.diagnosis(), proposal):
                await tx.put(record)
        desk = ApprovalDesk(
            store=store,
            directory=Everyone(),
            readers={"prod": cast("Readers", NoReaders())},
            stages=Stages({"test.set": SetValue(target)}),
            rules=RULES,
            limits=Limits(LimitSettings(), clock),
            engine=quiet,
            clock=clock,
            chat=quiet,
        )
        yield House(store, clock, target, quiet, desk, proposal)


async def test_two_people_start_exactly_one_execution(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        form = await h.desk.open(h.click("U2"))
        assert isinstance(form, Form)
        assert form.typed_name == "ORDERS"
        first = await h.desk.decide(h.click("U2"), "checked", "ORDERS")
        second = await h.desk.decide(h.click("U1"), "checked", "ORDERS")
        assert (first.accepted, second.accepted, await h.state()) == (True, True, ProposalState.APPROVED)
        execution = await h.store.execution_of(h.proposal.id)
        assert execution is not None
        assert h.quiet.started == [(Phase.EXECUTION, execution.id)]


async def test_a_hundred_submissions_of_ten_people_record_two_approvals_and_one_execution(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        clicks = [h.desk.decide(h.click(f"U{n % 10}"), "me too", "ORDERS") for n in range(100)]
        answers = await asyncio.gather(*clicks)
        assert sum(a.accepted for a in answers) == 2
        assert all(a.sentence for a in answers), "the other 98 are told why"
        assert len(await h.store.approvals(h.proposal.id)) == 2
        assert len([s for s in h.quiet.started if s[0] is Phase.EXECUTION]) == 1
        assert len(await h.refusals()) == 98


async def test_the_requester_may_not_approve_the_own_request(tmp_path: Path) -> None:
    async with house(tmp_path, requested_by="U2") as h:
        answer = await h.desk.open(h.click("U2"))
        assert not isinstance(answer, Form)
        assert not (await h.desk.decide(h.click("U2"), "checked", "ORDERS")).accepted
        assert await h.refusals() == ["own_request", "own_request"]


async def test_one_deny_is_final(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.desk.decide(h.click("U2"), "checked", "ORDERS")
        assert (await h.desk.decide(h.click("U1", Choice.DENY), "not now", "")).accepted
        assert await h.state() is ProposalState.DENIED
        assert not (await h.desk.decide(h.click("U3"), "but", "ORDERS")).accepted
        assert await h.store.execution_of(h.proposal.id) is None


async def test_an_unknown_button_and_a_stranger_are_refused_and_audited(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        assert not isinstance(await h.desk.open(h.click("U2", button="btn_forged")), Form)
        assert not isinstance(await h.desk.open(h.click("X")), Form)
        assert await h.refusals() == ["unknown_button", "not_an_approver"]


async def test_while_the_cluster_cannot_be_read_nothing_is_recorded(tmp_path: Path) -> None:
    async with house(tmp_path) as h:

        async def blind(readers: Readers, proposal: Proposal) -> tuple[str, ...]:
            del readers, proposal
            raise Unreadable("no server answers")

        h.desk._stages.drift = blind
        answer = await h.desk.decide(h.click("U2"), "checked", "ORDERS")
        assert not answer.accepted
        assert "no server answers" in answer.sentence
        assert await h.state() is ProposalState.PENDING


async def test_drift_at_the_click_voids_the_proposal_and_names_the_field(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        await h.desk.decide(h.click("U2"), "checked", "ORDERS")
        h.target.world["leader"] = "n2"
        answer = await h.desk.decide(h.click("U1"), "checked", "ORDERS")
        assert "leader was n0, now n2" in answer.sentence
        assert await h.state() is ProposalState.SUPERSEDED
        assert await h.store.get(Execution, "exec") is None
        assert [key for phase, key in h.quiet.started if phase is Phase.DIAGNOSIS] == [
            f"inc_1/drift of {h.proposal.id}"
        ]


async def test_a_click_that_another_replica_has_overtaken_does_not_void_what_runs_for_having_moved_the_world(
    tmp_path: Path,
) -> None:
    async with house(tmp_path) as h:

        async def overtaken(readers: Readers, proposal: Proposal) -> tuple[str, ...]:
            """Meanwhile the proposal is approved elsewhere, and its execution has changed what is compared."""
            del readers
            async with h.store.begin() as tx:
                await tx.put(proposal.model_copy(update={"state": ProposalState.APPLYING}))
            return ("leader was n0, now n2.",)

        h.desk._stages.drift = overtaken
        answer = await h.desk.decide(h.click("U2"), "checked", "ORDERS")
        assert not answer.accepted
        assert "applying" in answer.sentence
        assert await h.state() is ProposalState.APPLYING
        assert await h.refusals() == ["not_pending"]
        assert h.quiet.started == []


async def test_a_second_after_the_expiry_nobody_approves(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.clock.time += timedelta(minutes=10)
        assert not (await h.desk.decide(h.click("U2"), "checked", "ORDERS")).accepted
        assert await h.refusals() == ["expired"]
