"""When a closed incident wants its report in the thread, and when it wants none."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from bot.adapters.slack.pace import Pace
from bot.adapters.slack.render import render
from bot.adapters.slack.render_closing import closing
from bot.adapters.slack.wanted import Case
from bot.model import IncidentState, Relapse, Severity, Silence, SlackUser, Verdict
from tests.unit.adapters.slack.slack_records import NOW, RULES, case, diagnosis, incident

CLOSED = replace(case("words"), incident=incident(state=IncidentState.CLOSED))
FINE = diagnosis().model_copy(update={"verdict": Verdict(severity=Severity.OK, root=None, sentence="All is well.")})


def changed(**fields: object) -> Case:
    return replace(CLOSED, incident=CLOSED.incident.model_copy(update=fields))


def relapse(number: int) -> Relapse:
    return Relapse(number=number, at=NOW, after=IncidentState.CLOSED)


def test_a_closed_incident_wants_its_report_last_in_the_thread() -> None:
    (wanted,) = closing(CLOSED)
    assert wanted.file is not None
    assert (wanted.key, wanted.file.name, wanted.file.report) == ("report:inc_1:1", "report-inc_1-1.md", "inc_1")
    assert render(CLOSED, RULES)[-1] == wanted


@pytest.mark.parametrize("state", [one for one in IncidentState if one is not IncidentState.CLOSED])
def test_an_incident_that_is_not_closed_wants_none(state: IncidentState) -> None:
    assert closing(changed(state=state)) == ()


def test_each_closing_after_a_relapse_wants_a_report_of_its_own() -> None:
    keys = [closing(changed(relapses=tuple(map(relapse, numbers))))[0].key for numbers in ((), (1,), (1, 2))]
    assert keys == ["report:inc_1:1", "report:inc_1:2", "report:inc_1:3"]


def test_while_a_repair_runs_the_report_waits() -> None:
    assert closing(replace(CLOSED, pace=Pace(NOW, {}))) == ()


def test_under_a_silence_the_report_waits_and_comes_when_it_is_over() -> None:
    user = SlackUser(team_id="T0LAB", user_id="U0ADA")
    silence = Silence(user=user, person="ada", reason="known", at=NOW, until=NOW + timedelta(hours=1))
    held = changed(silence=silence)
    assert closing(held) == ()
    assert closing(replace(held, incident=held.incident.let_speak(NOW + timedelta(hours=1))))


@pytest.mark.parametrize(
    ("asked_by", "alone", "wanted"),
    [("ada", (FINE,), False), ("ada", (FINE, diagnosis()), True), (None, (FINE,), True), ("ada", (), False)],
)
def test_a_persons_question_that_found_nothing_wants_none(
    asked_by: str | None, alone: tuple[object, ...], wanted: bool
) -> None:
    asked = replace(changed(requested_by=asked_by), diagnoses=alone, proposals=())
    assert bool(closing(asked)) is wanted
    assert closing(replace(asked, proposals=CLOSED.proposals)), "what was proposed is worth a report"
