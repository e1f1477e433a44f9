"""What the desk says and what it leaves on record, word for word: every answer, every row, every state."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from bot import crashpoints
from bot.crashpoints import Point
from bot.errors import Unreadable
from bot.flow.approval import Answer, Click, Form
from bot.limits import Limits, Ruling, Stop
from bot.model import (
    Approval,
    Choice,
    Execution,
    ExecutionState,
    Incident,
    Proposal,
    ProposalState,
    RiskClass,
    SlackUser,
    StageState,
)
from bot.ports import Phase
from tests.integration import test_approval_desk as desk_support
from tests.integration.store_records import NOW
from tests.integration.test_approval_desk import House, house

OPERATOR, OWNER = "U2", "U1"
WHO = {"team": "T1", "user": OPERATOR}
SAY_WHY = "Say why; the reason is kept in the audit log."
FROZEN = Ruling(stop=Stop.FROZEN, sentence="Everything is frozen.")
MOVED = "leader was n0, now n2."


class Stopped(Limits):
    """Limits that let nothing start."""

    def __init__(self) -> None:
        pass

    async def start(self, brakes: object, proposal: Proposal) -> Ruling:
        assert brakes is not None
        assert proposal.id == "prop_1"
        return FROZEN


async def rows(h: House) -> list[tuple[str, str, str | None, str, str, dict[str, Any]]]:
    found = await h.store.audit_entries()
    return [(r.kind, r.actor, r.incident_id, r.subject, r.sentence, r.data) for r in found]


def refused(code: str, sentence: str, actor: str = OPERATOR, choice: str = "approve") -> tuple[object, ...]:
    return ("click.refused", actor, "inc_1", "prop_1", sentence, {"code": code, "choice": choice, **WHO})


async def touched(h: House) -> int:
    found = await h.store.get(Incident, "inc_1")
    assert found is not None
    return found.revision - 1


async def decide(h: House, user: str = OPERATOR, choice: Choice = Choice.APPROVE, **more: Any) -> Answer:
    click = h.click(user, choice).model_copy(update=more)
    return await h.desk.decide(click, "  it is stuck ", " ORDERS ")


def nudges(h: House) -> list[str]:
    """Record whose thread is redrawn from now on."""
    seen: list[str] = []
    h.quiet.nudge = cast("Any", seen.append)
    return seen


def breakable(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = desk_support.RULES.model_copy(update={"break_glass": ("operators",)})
    monkeypatch.setattr(desk_support, "RULES", rules)


async def test_a_button_of_nobody_is_refused_with_who_pressed_it(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        click = h.click(OPERATOR, button="btn_forged")
        opened, sent = await h.desk.open(click), await h.desk.decide(click, "r", "ORDERS")
        said = [f"This {what} belongs to no proposal natsmedic knows." for what in ("button", "form")]
        assert [opened, sent] == [Answer(accepted=False, sentence=sentence) for sentence in said]
        data = {"code": "unknown_button", "choice": "approve", **WHO}
        assert await rows(h) == [("click.refused", "T1/U2", None, "", sentence, data) for sentence in said]


async def test_a_form_asks_for_what_the_choice_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house(tmp_path) as h:
        approve, deny = await h.desk.open(h.click(OPERATOR)), await h.desk.open(h.click(OPERATOR, Choice.DENY))
        assert approve == Form(proposal=h.proposal, typed_name="ORDERS", ask_code=False, may_break=False)
        assert deny == Form(proposal=h.proposal, typed_name=None, ask_code=False, may_break=False)
        assert Form(proposal=h.proposal).ask_reason is True
        assert await rows(h) == []
    breakable(monkeypatch)
    (tmp_path / "glass").mkdir()
    async with house(tmp_path / "glass") as h:
        approve, deny = await h.desk.open(h.click(OPERATOR)), await h.desk.open(h.click(OPERATOR, Choice.DENY))
        assert isinstance(approve, Form)
        assert isinstance(deny, Form)
        assert (approve.may_break, deny.may_break) == (True, False)


async def test_who_may_break_the_glass_alone_is_asked_where_nothing_else_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    breakable(monkeypatch)
    async with house(tmp_path) as h:
        await decide(h)
        form = await h.desk.open(h.click(OPERATOR))
        assert isinstance(form, Form)
        assert form.may_break, "already approved, which was not enough"
        answer = await h.desk.open(h.click(OPERATOR, Choice.DENY))
        assert isinstance(answer, Answer)
        assert (await rows(h))[-1][5]["code"] == "already_decided"


async def test_a_refused_button_says_why_and_is_on_record_with_the_person(tmp_path: Path) -> None:
    async with house(tmp_path, requested_by=OPERATOR) as h:
        said = "You asked for this change, so someone else must approve it."
        assert await h.desk.open(h.click(OPERATOR)) == Answer(accepted=False, sentence=said)
        assert await decide(h) == Answer(accepted=False, sentence=said)
        assert await rows(h) == [refused("own_request", said)] * 2
        assert isinstance(await h.desk.open(h.click(OPERATOR, Choice.DENY)), Form)


async def test_a_limit_refuses_an_approval_and_no_denial(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        h.desk._limits = Stopped()
        no = Answer(accepted=False, sentence="Everything is frozen.")
        assert [await h.desk.open(h.click(OPERATOR)), await decide(h)] == [no, no]
        assert await rows(h) == [refused("frozen", "Everything is frozen.")] * 2
        assert isinstance(await h.desk.open(h.click(OPERATOR, Choice.DENY)), Form)
        assert (await decide(h, choice=Choice.DENY)).accepted


async def test_an_incomplete_form_names_its_fields_and_decides_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        answer = await h.desk.decide(h.click(OPERATOR), " ", "orders")
        wrong = "That is not the name of the object this changes. Type it exactly."
        assert answer == Answer(accepted=False, sentence="", errors={"reason": SAY_WHY, "typed_name": wrong})
        codes = {"code": "no_reason, wrong_typed_name", "choice": "approve", **WHO}
        assert await rows(h) == [
            ("click.refused", "T1/U2", "inc_1", "prop_1", "The form is not complete.", codes),
        ]
        assert await h.state() is ProposalState.PENDING


async def test_the_first_of_two_approvals_is_kept_whole_and_starts_nothing(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        seen = nudges(h)
        answer = await decide(h)
        assert answer == Answer(accepted=True, sentence="Recorded: 1 of 2. Still missing: owners.")
        (kept,) = await h.store.approvals("prop_1")
        one = sha256(b'["prop_1","U2"]').hexdigest()[:26]
        assert kept == Approval.model_validate(
            {
                "id": f"app_{one}",
                "proposal_id": "prop_1",
                "proposal_digest": h.proposal.digest,
                "choice": "approve",
                "user": SlackUser(team_id="T1", user_id=OPERATOR),
                "person": OPERATOR,
                "groups": ("operators",),
                "reason": "it is stuck",
                "typed_name": "ORDERS",
                "break_glass": False,
                "at": NOW,
            }
        )
        row = ("approval.recorded", OPERATOR, "inc_1", "prop_1", "U2 chose approve: it is stuck", kept.model_dump(mode="json"))  # fmt: skip
        assert await rows(h) == [row]
        assert (await h.state(), h.quiet.started, seen, await touched(h)) == (ProposalState.PENDING, [], ["inc_1"], 1)


async def test_all_that_are_missing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    approvers = {RiskClass.DESTRUCTIVE: ("operators", "owners", "heads")}
    monkeypatch.setattr(desk_support, "RULES", desk_support.RULES.model_copy(update={"approvers": approvers}))
    async with house(tmp_path) as h:
        assert (await decide(h)).sentence == "Recorded: 1 of 3. Still missing: owners, heads."


async def test_the_last_approval_starts_the_one_execution(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        waiting = h.proposal.model_copy(update={"state_reason": "It waits."})
        async with h.store.begin() as tx:
            await tx.put(waiting)
        await decide(h)
        seen, passed = nudges(h), list[Point]()
        crashpoints.listen(passed.append)
        try:
            answer = await decide(h, OWNER)
        finally:
            crashpoints.listen(None)
        assert answer == Answer(accepted=True, sentence="Recorded: 2 of 2. It starts now.")
        approved = waiting.model_copy(update={"state": ProposalState.APPROVED, "state_reason": ""})
        assert await h.store.get(Proposal, "prop_1") == approved
        name = "exec_" + sha256(b'"prop_1"').hexdigest()[:26]
        execution = await h.store.execution_of("prop_1")
        assert execution is not None
        assert execution == Execution.model_validate(
            {
                "id": name,
                "proposal_id": "prop_1",
                "incident_id": "inc_1",
                "cluster": "prod",
                "state": ExecutionState.QUEUED,
                "stages": [
                    {
                        "index": 0,
                        "state": StageState.WAITING,
                        "operation_id": "op_" + sha256(f'["{name}",0]'.encode()).hexdigest()[:26],
                    }
                ],
                "started_at": NOW,
            }
        )
        assert h.quiet.started == [(Phase.EXECUTION, name)]
        assert (seen, passed, await touched(h)) == (["inc_1"], [Point.P07, Point.P08], 2)


async def test_a_denial_ends_it_with_its_reason(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        seen = nudges(h)
        answer = await decide(h, choice=Choice.DENY, break_glass=True)
        assert answer == Answer(accepted=True, sentence="Denied. Nothing will be changed.")
        denied = {"state": ProposalState.DENIED, "state_reason": "Denied by U2: it is stuck"}
        assert await h.store.get(Proposal, "prop_1") == h.proposal.model_copy(update=denied)
        (kept,) = await h.store.approvals("prop_1")
        assert (kept.choice, kept.break_glass) == (Choice.DENY, False)
        (row,) = await rows(h)
        assert row[4] == "U2 chose deny: it is stuck"
        assert (await h.store.execution_of("prop_1"), h.quiet.started, seen) == (None, [], ["inc_1"])


async def test_broken_glass_is_said_recorded_and_starts_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    breakable(monkeypatch)
    approvers = {RiskClass.DESTRUCTIVE: ("operators", "owners", "heads")}
    monkeypatch.setattr(desk_support, "RULES", desk_support.RULES.model_copy(update={"approvers": approvers}))
    async with house(tmp_path) as h:
        answer = await decide(h, break_glass=True)
        told = "Recorded: 1 of 3. You broke the glass in place of owners, heads; it is announced. It starts now."
        assert answer == Answer(accepted=True, sentence=told)
        kind, *row = (await rows(h))[-1]
        sentence = "U2 breaks the glass and approves alone, in place of owners, heads: it is stuck"
        data = {"missing": ["owners", "heads"], "digest": h.proposal.digest}
        assert (kind, row) == ("glass.broken", [OPERATOR, "inc_1", "prop_1", sentence, data])
        assert [row[0] for row in await rows(h)] == ["approval.recorded", "glass.broken"]
        assert await h.state() is ProposalState.APPROVED


async def test_a_cluster_that_cannot_be_read_refuses_an_approval_and_no_denial(tmp_path: Path) -> None:
    async with house(tmp_path) as h:

        async def blind(readers: object, proposal: Proposal) -> tuple[str, ...]:
            assert readers is h.desk._readers["prod"]
            assert proposal == h.proposal
            raise Unreadable("no server answers.")

        h.desk._stages.drift = cast("Any", blind)
        said = "The cluster cannot be read right now, so nothing was recorded: no server answers. Try again."
        assert await decide(h) == Answer(accepted=False, sentence=said)
        assert await rows(h) == [refused("unreadable", said)]
        assert (await decide(h, choice=Choice.DENY)).accepted


async def test_a_world_that_has_moved_ends_it_says_what_moved_and_looks_again(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        seen = nudges(h)
        h.target.world.update(leader="n2", pending=1)
        answer = await decide(h)
        moved = [MOVED, "pending was absent, now 1."]
        said = f"The world has moved since this was proposed, so it was not recorded: {' '.join(moved)}"
        assert answer == Answer(accepted=False, sentence=said)
        reason = f"The world has moved: {' '.join(moved)}"
        assert await rows(h) == [
            ("proposal.superseded", "bot", "inc_1", "prop_1", reason, {"drift": moved}),
            refused("drift", said),
        ]
        assert h.quiet.started == [(Phase.DIAGNOSIS, "inc_1/drift of prop_1")]
        assert (await h.state(), seen, await h.store.approvals("prop_1")) == (ProposalState.SUPERSEDED, ["inc_1"], [])


async def test_a_withdrawal_needs_a_reason_and_is_kept_with_it(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        seen, user = nudges(h), SlackUser(team_id="T1", user_id=OPERATOR)
        without = await h.desk.withdraw(user, h.proposal.id, "  ")
        assert without == Answer(accepted=False, sentence=SAY_WHY)
        assert seen == []
        done = await h.desk.withdraw(user, h.proposal.id, " It is over. ")
        assert done == Answer(accepted=True, sentence="Withdrawn. Nothing will be changed.")
        reason = "Withdrawn by U2: It is over."
        over = {"state": ProposalState.WITHDRAWN, "state_reason": reason}
        assert await h.store.get(Proposal, "prop_1") == h.proposal.model_copy(update=over)
        again = await h.desk.withdraw(user, h.proposal.id, "Really.")
        said = "This proposal is withdrawn; nothing is left to withdraw."
        assert again == Answer(accepted=False, sentence=said)
        assert seen == ["inc_1"]
        assert await rows(h) == [
            refused("no_reason", SAY_WHY, choice="withdraw"),
            ("proposal.withdrawn", OPERATOR, "inc_1", "prop_1", reason, WHO),
            refused("not_pending", said, choice="withdraw"),
        ]


async def test_nobody_withdraws_what_they_have_no_part_in_or_what_is_not_there(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        user = SlackUser(team_id="T1", user_id="X")
        stranger = await h.desk.withdraw(user, h.proposal.id, "")
        said = "Only who asked for it or one of operators, owners may withdraw this."
        assert stranger == Answer(accepted=False, sentence=said)
        gone = await h.desk.withdraw(user, cast("Any", "prop_9"), "why")
        assert gone == Answer(accepted=False, sentence="There is no proposal prop_9.")
        data = {"choice": "withdraw", "team": "T1", "user": "X"}
        assert await rows(h) == [
            ("click.refused", "X", "inc_1", "prop_1", said, {"code": "not_an_approver", **data}),
            ("click.refused", "X", None, "", "There is no proposal prop_9.", {"code": "no_proposal", **data}),
        ]
        assert await h.state() is ProposalState.PENDING


async def test_a_click_on_a_message_that_is_not_the_buttons_is_on_record(tmp_path: Path) -> None:
    async with house(tmp_path) as h:
        with capture_logs() as told:
            await h.desk.refuse(h.click(OPERATOR), "This is a copy.", "copied_message")
            await h.desk.refuse(h.click(OPERATOR, button="btn_9"), "This is a copy.", "copied_message")
        line = {"event": "click refused", "log_level": "info", "code": "copied_message", "user": OPERATOR}
        assert told == [line | {"proposal": "prop_1"}, line | {"proposal": None}]
        data = {"code": "copied_message", "choice": "approve", **WHO}
        assert await rows(h) == [
            refused("copied_message", "This is a copy.", actor="T1/U2"),
            ("click.refused", "T1/U2", None, "", "This is a copy.", data),
        ]


def test_a_click_breaks_no_glass_unless_it_says_so() -> None:
    click = Click(user=SlackUser(team_id="T1", user_id="U1"), button="b", choice=Choice.APPROVE)
    assert click.break_glass is False
    assert Answer(accepted=True, sentence="").errors == {}
