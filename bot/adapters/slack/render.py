"""From a stored case to the messages of its thread. Pure: the same case and policy always give the same messages.

Order of the thread: board (the parent), then for each diagnosis its verdict, its pictures, its evidence and what it proposes, each proposal followed by its run.
"""

from __future__ import annotations

from bot.adapters.slack.render_board import board
from bot.adapters.slack.render_closing import closing
from bot.adapters.slack.render_execution import execution
from bot.adapters.slack.render_proposal import patch_files, plan_file, proposal
from bot.adapters.slack.render_reminder import broken_glass, escalation, reminder
from bot.adapters.slack.render_storm import storm_board
from bot.adapters.slack.render_turns import turns
from bot.adapters.slack.render_verdict import ChartId, chart_id, evidence, pictures, verdict
from bot.adapters.slack.wanted import Case, ProposalCase, WantedMessage
from bot.model import Diagnosis, Incident, ProposalState
from bot.policy import standing
from bot.settings import PolicySettings

ON_DEMAND = ("asked ", "after ")
"""Reasons of diagnoses that a person has asked for or that follow a person's approval: no silence is meant for them."""


def render(case: Case, rules: PolicySettings) -> tuple[WantedMessage, ...]:
    """Return the messages of the incident in thread order; the first one is the parent."""
    if case.storm is not None:
        return (storm_board(case, case.storm),)
    messages: list[WantedMessage] = [board(case, rules)]
    placed: set[str] = set()
    shown: dict[ChartId, str] = {}
    told = turns(case.incident)
    for one in case.diagnoses:
        while told and told[0].at <= one.started_at:
            messages.append(told.pop(0).message)
        if _hidden(case, one):
            continue
        messages.append(verdict(one))
        messages += pictures(one, shown)
        if one.charts or one.snapshot_id:  # a diagnosis that saw nothing changes nothing
            shown = {chart_id(chart): chart.digest for chart in one.charts}
        attached = evidence(one)
        messages += [attached] if attached else []
        for entry in case.proposals:
            if entry.proposal.diagnosis_id == one.id:
                messages += _proposal(case.incident, entry, rules)
                placed.add(entry.proposal.id)
    hidden = {one.id for one in case.diagnoses if _hidden(case, one)}
    for entry in case.proposals:
        touched = entry.execution is not None or entry.approvals
        if entry.proposal.id not in placed and (touched or entry.proposal.diagnosis_id not in hidden):
            messages += _proposal(case.incident, entry, rules)
    return (*messages, *(turn.message for turn in told), *closing(case))


def _hidden(case: Case, diagnosis: Diagnosis) -> bool:
    """Under a silence nothing new is said; when it is over, its last diagnosis is, for how things stand then."""
    silence = case.incident.hush(diagnosis.ended_at)
    if silence is None or diagnosis.reason.startswith(ON_DEMAND):
        return False
    last = [one for one in case.diagnoses if silence.covers(one.ended_at)][-1]
    return silence.ended_at is None or diagnosis.id != last.id


def _proposal(incident: Incident, entry: ProposalCase, rules: PolicySettings) -> list[WantedMessage]:
    shown, cut = proposal(entry, rules)
    messages = [shown]
    if cut:
        messages.append(plan_file(entry.proposal))
    messages += patch_files(entry.proposal)
    messages += _mention(incident, entry, rules)
    alone = standing(entry.proposal, entry.approvals, rules).broken_by
    if alone is not None:
        messages.append(broken_glass(entry, alone, rules))
    if entry.execution is not None:
        messages.append(execution(entry.execution, entry.proposal))
    return messages


def _mention(incident: Incident, entry: ProposalCase, rules: PolicySettings) -> list[WantedMessage]:
    """Who is called now: of a reminder and the calls after it the newest, while there is something to decide.

    Those before it stand in the thread and stay as they are. What Slack could not take in its time is not made up for: it would call people for nothing, or
    two groups at once.
    """
    offered = entry.proposal
    if offered.state is not ProposalState.PENDING:
        return []
    call = offered.escalations[-1] if offered.escalations else None
    at = call.at if call is not None else offered.reminded_at
    if at is None or incident.hush(at) is not None:
        return []
    return [escalation(offered, call, rules) if call is not None else reminder(entry, at, rules)]
