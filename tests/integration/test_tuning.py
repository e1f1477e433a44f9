"""Another value than was proposed: what it makes, what it ends, who may ask for it, and what no text can do. On a real database."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from bot.actions._limits import limit_tunables
from bot.actions.clients_shed import ShedParams
from bot.actions.kubernetes_limit import LimitParams
from bot.actions.leaders_move import LeadersMove, MoveParams
from bot.actions.nats_load_limit import LoadLimitParams
from bot.adapters.database import SqlStore
from bot.flow.tuning import SAME, Tuning, TuningForm
from bot.limits import Limits
from bot.model import (
    Approval,
    ApprovalId,
    Choice,
    IncidentId,
    Proposal,
    ProposalState,
)
from bot.model.limits import Setting, Value
from bot.policy import decide, standing
from bot.settings import LimitSettings
from tests.integration.knob import KNOB, knob_proposal, stages
from tests.integration.slack_adapter_support import incident
from tests.integration.store_records import FixedClock
from tests.integration.test_cases import RULES, Everyone, who

BUTTON = "btn_opaque"
SETTABLE: dict[Setting, Value] = {
    Setting.DEFAULT_MAX_CONSUMERS: 1_000,
    Setting.MQTT_CONSUMER_INACTIVE_THRESHOLD: "24h",
}


class Nudged:
    def __init__(self) -> None:
        self.incidents: list[IncidentId] = []

    def nudge(self, incident: IncidentId) -> None:
        self.incidents.append(incident)


@dataclass
class Desk:
    store: SqlStore
    clock: FixedClock
    tuning: Tuning
    chat: Nudged
    directory: Everyone

    async def propose(self, pace: str, user: str = "U1", button: str = BUTTON) -> str:
        """Return the sentence, or what stands under the field."""
        answer = await self.tuning.propose(who(user), button, {"pace": pace})
        return answer.sentence or answer.errors["pace"]

    async def one(self, id: str) -> Proposal:  # noqa: A002
        found = await self.store.get(Proposal, id)
        assert found is not None
        return found

    async def edited(self) -> Proposal:
        (found,) = [one for one in await self.store.proposals() if one.id != "prop_1"]
        return found


@asynccontextmanager
async def desk(folder: Path) -> AsyncGenerator[Desk]:
    clock = FixedClock()
    async with SqlStore.open(f"sqlite:///{folder / 'n.db'}", clock) as store:
        async with store.begin() as tx:
            await tx.put(incident())
            times = {"created_at": clock.now(), "expires_at": clock.now() + timedelta(minutes=10)}
            await tx.put(knob_proposal().model_copy(update=times))
        chat, directory = Nudged(), Everyone(clock)
        tuning = Tuning(
            store=store,
            directory=directory,
            readers=cast("Any", {"prod": None}),
            stages=stages(),
            rules=RULES,
            limits=Limits(LimitSettings(), clock),
            clock=clock,
            chat=chat,
        )
        yield Desk(store, clock, tuning, chat, directory)


async def test_another_value_is_a_new_proposal_with_a_fresh_preview_in_place_of_the_old_one(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        before = await d.one("prop_1")
        d.clock.time += timedelta(minutes=5)
        assert "Proposed with Pace 5 instead of 2" in await d.propose("5")
        old, new = await d.one("prop_1"), await d.edited()
        assert (old.state, old.superseded_by) == (ProposalState.SUPERSEDED, new.id)
        assert old.state_reason == "person-U1 asks for another value: Pace 5 instead of 2."
        assert new.state is ProposalState.PENDING
        assert (new.stages[0].params, new.stages[0].preview.summary) == (
            {"pace": 5.0, "name": "ORDERS"},
            "Turn it to 5",
        )
        assert (new.title, new.requested_by) == ("Turn the knob (Pace 5 instead of 2)", "person-U1")
        assert new.digest != before.digest
        assert new.button != before.button
        assert new.expires_at == d.clock.now() + timedelta(minutes=15)
        assert (new.tunables[0].value, new.origin) == ("5", before.offer)
        assert d.chat.incidents == ["inc_1"]


async def test_who_asked_for_the_value_cannot_approve_it_and_another_can(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.propose("5")
        new = await d.edited()
        allowed = [
            decide(new, (), await d.directory.look_up(who(user)), Choice.APPROVE, RULES, d.clock.now()).allowed
            for user in ("U1", "U2")
        ]
        assert allowed == [False, True]


async def test_approvals_of_the_old_one_count_for_nothing(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        old = await d.one("prop_1")
        given = Approval(
            id=ApprovalId("app_1"),
            proposal_id=old.id,
            proposal_digest=old.digest,
            choice=Choice.APPROVE,
            user=who("U2"),
            person="person-U2",
            groups=("operators",),
            reason="fine",
            at=d.clock.now(),
        )
        async with d.store.begin() as tx:
            await tx.put(given)
        await d.propose("5")
        new = await d.edited()
        assert await d.store.approvals(new.id) == []
        assert not standing(new, [given], RULES).satisfied


@pytest.mark.parametrize("typed", ["0.5", "50", " 5 "])
async def test_values_at_the_bounds_are_proposed(tmp_path: Path, typed: str) -> None:
    async with desk(tmp_path) as d:
        await d.propose(typed)
        assert (await d.edited()).stages[0].params["pace"] == float(typed)


@pytest.mark.parametrize("typed", ["0.49", "50.1", "", "fast", "nan", "1;rm -rf /", "٥", "1" * 400])
async def test_a_value_outside_is_an_error_under_its_field_and_changes_nothing(tmp_path: Path, typed: str) -> None:
    async with desk(tmp_path) as d:
        assert "expected a number, from 0.5 to 50" in await d.propose(typed)
        assert [one.state for one in await d.store.proposals()] == [ProposalState.PENDING]


async def test_the_value_that_is_proposed_already_makes_no_proposal(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        assert await d.propose("2") == SAME
        assert len(await d.store.proposals()) == 1


async def test_a_field_that_is_no_tunable_reaches_no_parameter(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.tuning.propose(who("U1"), BUTTON, {"pace": "5", "name": "PAYMENTS"})
        assert (await d.edited()).stages[0].params == {"pace": 5.0, "name": "ORDERS"}


async def test_what_the_check_refuses_is_not_proposed_and_the_old_one_stays(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        assert "A pace of 13 brings bad luck." in await d.propose("13")
        assert [one.state for one in await d.store.proposals()] == [ProposalState.PENDING]


@pytest.mark.parametrize(("user", "because"), [("U3", "Only who asked for it"), ("U9", "Guests")])
async def test_who_may_not_take_it_back_may_not_replace_it_and_that_is_a_row(
    tmp_path: Path, user: str, because: str
) -> None:
    async with desk(tmp_path) as d:
        opened = await d.tuning.open(who(user), BUTTON)
        assert not isinstance(opened, TuningForm)
        assert because in opened.sentence
        assert because in await d.propose("5", user)
        assert len(await d.store.proposals()) == 1
        refused = [one for one in await d.store.audit_entries() if one.kind == "click.refused"]
        assert [one.actor for one in refused] == [f"person-{user}"] * 2


@pytest.mark.parametrize("state", [one for one in ProposalState if one is not ProposalState.PENDING])
async def test_only_what_waits_for_a_decision_is_replaced(tmp_path: Path, state: ProposalState) -> None:
    async with desk(tmp_path) as d:
        async with d.store.begin() as tx:
            await tx.put((await d.one("prop_1")).model_copy(update={"state": state}))
        await d.propose("5")
        assert [one.state for one in await d.store.proposals()] == [state]


@pytest.mark.parametrize(("after", "made"), [(timedelta(minutes=9, seconds=59), 2), (timedelta(minutes=10), 1)])
async def test_what_has_expired_is_not_replaced(tmp_path: Path, after: timedelta, made: int) -> None:
    async with desk(tmp_path) as d:
        d.clock.time += after
        await d.propose("5")
        assert len(await d.store.proposals()) == made


async def test_of_two_who_ask_at_once_one_is_too_late(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        assert "Proposed" in await d.propose("5")
        assert "superseded" in await d.propose("6", "U2")
        assert len(await d.store.proposals()) == 2


async def test_an_unknown_button_is_refused_and_recorded(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        assert "no proposal natsmedic knows" in await d.propose("5", button="btn_other")
        assert [one.kind for one in await d.store.audit_entries()] == ["click.refused"]


async def test_the_new_proposal_is_one_row_with_who_asked_and_what_it_replaces(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.propose("5")
        new = await d.edited()
        (row,) = [one for one in await d.store.audit_entries() if one.kind == "proposal.created"]
        assert (row.actor, row.subject, row.data["instead_of"]) == ("person-U1", new.id, "prop_1")
        assert row.data["digest"] == new.digest
        assert new.button not in str(row.data)


async def test_a_diagnosis_that_proposes_the_original_again_finds_it_offered_already(tmp_path: Path) -> None:
    async with desk(tmp_path) as d:
        await d.propose("5")
        new = await d.edited()
        again = knob_proposal().model_copy(update={"id": "prop_9", "button": "btn_9"})
        assert again.offer == new.offer
        assert knob_proposal(3.0).offer != new.offer


def test_a_value_that_stages_share_is_set_in_all_and_one_that_differs_in_none() -> None:
    two, three = ((KNOB.kind, {"pace": pace, "name": "ORDERS"}) for pace in (2.0, 3.0))
    assert [one.name for one in stages().tunables([two, two])] == ["pace"]
    assert stages().tunables([two, three]) == ()
    assert [params["pace"] for _, params in stages().tuned([two, two], {"pace": "5"})] == [5.0, 5.0]


def test_what_actions_let_people_set_is_a_parameter_of_theirs_within_its_own_bounds() -> None:
    limits = [limit_tunables(setting, value) for setting, value in SETTABLE.items()]
    moves = LeadersMove().tunables(MoveParams(moves=()))
    assert all(len(one) == 1 for one in (*limits, moves))
    assert {
        one.name for found in limits for one in found
    } <= LimitParams.model_fields.keys() & LoadLimitParams.model_fields.keys()
    assert {one.name for one in moves} <= MoveParams.model_fields.keys()
    assert "per_second" in ShedParams.model_fields
    assert [one.problem(one.value) for found in (*limits, moves) for one in found] == [""] * 3
    assert limit_tunables(Setting.MAX_CONNECTIONS, 10) == ()
