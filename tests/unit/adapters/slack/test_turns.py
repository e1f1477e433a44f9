"""Boards that say who holds an incident and who has silenced it, and threads that stay quiet meanwhile."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bot.adapters.slack.modals import hush_form
from bot.adapters.slack.render import render
from bot.adapters.slack.wanted import Case, ProposalCase
from bot.lab.slack.limits import check_message, check_view
from bot.model import (
    Choice,
    Diagnosis,
    DiagnosisId,
    Escalation,
    Holder,
    Incident,
    IncidentId,
    IncidentState,
    Proposal,
    ProposalId,
    ProposalState,
    Relapse,
    Silence,
    SlackUser,
)
from tests.unit.adapters.slack.slack_records import NOW, RULES, approval, diagnosis, incident, proposal
from tests.unit.adapters.slack.test_render import CORPUS, assert_inert, buttons, flat, message

ADA = SlackUser(team_id="T0LAB", user_id="U0ADA")
HOUR = timedelta(hours=1)


def silence(reason: str = "known", *, ended: timedelta | None = None, by: str = "") -> Silence:
    """Set ten minutes after the start, for an hour."""
    at = NOW + timedelta(minutes=10)
    end = NOW + ended if ended is not None else None
    return Silence(user=ADA, person="ada", reason=reason, at=at, until=at + HOUR, muted=7, ended_at=end, ended_by=by)


def silenced(reason: str = "known") -> Incident:
    return incident().model_copy(update={"silence": silence(reason)})


def at(minutes: int, reason: str = "alert") -> Diagnosis:
    """A diagnosis of that minute."""
    when = NOW + timedelta(minutes=minutes)
    update = {"id": DiagnosisId(f"diag_{minutes}"), "started_at": when, "ended_at": when, "reason": reason}
    return diagnosis().model_copy(update=update)


def verdicts(shown: Incident, *diagnoses: Diagnosis) -> list[str]:
    keys = [one.key for one in render(Case(shown, diagnoses), RULES)]
    return [key.removeprefix("verdict:diag_") for key in keys if key.startswith("verdict:")]


@pytest.mark.parametrize("words", CORPUS)
def test_a_silence_with_any_reason_is_inert_and_within_slacks_limits(words: str) -> None:
    shown = silenced(words or "?").model_copy(
        update={
            "holder": Holder(user=ADA, person=words or "?", at=NOW),
            "silences": (silence(words, ended=HOUR, by=words).model_copy(update={"person": words}),),
            "relapses": (Relapse(number=1, at=NOW, after=IncidentState.CLEARED),),
        }
    )
    for wanted in render(Case(shown, (diagnosis(),)), RULES):
        check_message(list(wanted.blocks), [])
        assert_inert(wanted.blocks, wanted.text, {"U0ADA"})


def test_the_form_of_a_silence_is_one_that_slack_takes() -> None:
    check_view(hush_form(IncidentId("inc_1")))


def test_the_board_says_who_holds_it_and_since_when() -> None:
    held = incident().model_copy(update={"holder": Holder(user=ADA, person="ada", at=NOW)})
    board = message(render(Case(held), RULES), "board")
    assert "Held by" in flat(board)
    assert "'user_id': 'U0ADA'" in str(board.blocks)


def test_the_board_says_until_when_it_is_silenced_and_why_and_counts() -> None:
    board = flat(message(render(Case(silenced("upgrade tonight")), RULES), "board"))
    assert "Silenced by" in board
    assert "upgrade tonight" in board
    assert "alerts meanwhile: 7" in board


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (IncidentState.OPEN, ["take", "silence"]),
        (IncidentState.CLEARED, ["take", "silence"]),
        (IncidentState.VERIFIED, ["take", "silence"]),
        (IncidentState.CLOSED, []),
    ],
)
def test_the_boards_buttons_stand_until_it_is_closed(state: IncidentState, expected: list[str]) -> None:
    assert buttons(message(render(Case(incident(state=state)), RULES), "board")) == expected


def test_a_silenced_board_offers_the_end_of_the_silence() -> None:
    assert buttons(message(render(Case(silenced()), RULES), "board")) == ["take", "end_silence"]


def test_no_new_diagnosis_is_told_while_it_is_silenced() -> None:
    assert verdicts(silenced(), at(9), at(10), at(30)) == ["9"]


def test_what_a_person_asked_for_or_approved_is_told_in_a_silence() -> None:
    assert verdicts(silenced(), at(20, "asked Ev1"), at(30, "after exec_1"), at(40)) == ["20", "30"]


def test_once_a_silence_is_over_its_last_diagnosis_is_told_and_no_other_ever() -> None:
    over = incident().model_copy(update={"silences": (silence(ended=HOUR),)})
    assert verdicts(over, at(20), at(30), at(59)) == ["59"]
    assert verdicts(over, at(20), at(30), at(59), at(60)) == ["59", "60"]


def test_the_end_of_a_silence_is_told_once_in_its_place() -> None:
    over = incident().model_copy(update={"silences": (silence(ended=HOUR),)})
    kinds = [one.key.partition(":")[0] for one in render(Case(over, (at(9), at(59), at(90))), RULES)]
    assert [kind for kind in kinds if kind in {"verdict", "silence"}] == ["verdict", "verdict", "silence", "verdict"]
    said = message(render(Case(over), RULES), "silence").text
    assert "The silence of ada is over. Alerts that came in meanwhile: 7." in said


def test_a_reminder_that_falls_into_a_silence_mentions_nobody() -> None:
    for minutes, expected in ((9, True), (10, False)):
        offered = proposal().model_copy(update={"reminded_at": NOW + timedelta(minutes=minutes)})
        messages = render(Case(silenced(), (at(0),), (ProposalCase(offered),)), RULES)
        assert any(one.key.startswith("reminder:") for one in messages) is expected


def test_a_group_that_is_called_is_mentioned_in_one_message_of_its_own() -> None:
    call = Escalation(group="owners", stands_for="operators", at=NOW + timedelta(minutes=9))
    offered = proposal().model_copy(update={"escalations": (call,)})
    said = message(render(Case(silenced(), (at(0),), (ProposalCase(offered),)), RULES), "escalation")
    assert "Nobody of operators has decided; owners may now approve in its place" in said.text
    assert flat(said).count("'user_id'") == len(RULES.groups["owners"].users)


def mentions(offered: Proposal) -> list[str]:
    shown = render(Case(incident(), (at(0),), (ProposalCase(offered),)), RULES)
    return [one.key for one in shown if one.key.startswith(("reminder:", "escalation:"))]


def test_after_an_outage_of_slack_only_the_group_called_last_is_mentioned() -> None:
    calls = [Escalation(group=name, stands_for="operators", at=NOW + timedelta(minutes=9)) for name in ("lea", "heads")]
    offered = proposal().model_copy(update={"reminded_at": NOW})
    assert mentions(offered) == ["reminder:prop_1"]
    assert mentions(offered.model_copy(update={"escalations": tuple(calls)})) == ["escalation:prop_1:heads"]


@pytest.mark.parametrize("state", [state for state in ProposalState if state is not ProposalState.PENDING])
def test_nobody_is_called_for_what_is_decided_or_over(state: ProposalState) -> None:
    call = Escalation(group="owners", stands_for="operators", at=NOW)
    assert mentions(proposal().model_copy(update={"reminded_at": NOW, "state": state})) == []
    assert mentions(proposal().model_copy(update={"escalations": (call,), "state": state})) == []


@pytest.mark.parametrize("decided", [False, True])
def test_a_proposal_made_in_a_silence_is_shown_once_somebody_has_decided_on_it(decided: bool) -> None:
    offered = proposal().model_copy(update={"id": ProposalId("prop_2"), "diagnosis_id": DiagnosisId("diag_30")})
    approvals = (approval(offered, choice=Choice.APPROVE),) if decided else ()
    messages = render(Case(silenced(), (at(30),), (ProposalCase(offered, approvals),)), RULES)
    assert any(one.key == "proposal:prop_2" for one in messages) is decided


def test_a_relapse_is_told_in_the_thread_and_turns_the_board_red_until_it_is_diagnosed() -> None:
    relapse = Relapse(number=2, at=NOW + timedelta(minutes=5), after=IncidentState.VERIFIED)
    back = incident().model_copy(update={"relapses": (relapse,)})
    messages = render(Case(back, (at(0),)), RULES)
    assert "return number 2: the alert fires after this incident was verified" in message(messages, "relapse").text
    assert message(messages, "board").text.startswith("🔴 Back again")
    assert [one.key.partition(":")[0] for one in messages if one.key[:7] in {"verdict", "relapse"}] == [
        "verdict",
        "relapse",
    ]
    assert "Back again" not in message(render(Case(back, (at(0), at(6))), RULES), "board").text


def test_a_relapse_in_a_silence_is_on_the_board_alone() -> None:
    relapse = Relapse(number=1, at=NOW + timedelta(minutes=11), after=IncidentState.CLEARED)
    shown = silenced().model_copy(update={"relapses": (relapse,)})
    messages = render(Case(shown), RULES)
    assert not any(one.key.startswith("relapse:") for one in messages)
    assert "came back once" in flat(messages[0])
