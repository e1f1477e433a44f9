"""From a stored case to the messages of its thread. Pure: the same case and policy always give the same messages.

Order of the thread: board (the parent), then for each diagnosis its verdict, its pictures, its evidence and what it proposes, each proposal followed by its run.
"""

from __future__ import annotations

from bot.adapters.slack.render_board import board
from bot.adapters.slack.render_execution import execution
from bot.adapters.slack.render_proposal import patch_files, plan_file, proposal
from bot.adapters.slack.render_reminder import reminder
from bot.adapters.slack.render_verdict import ChartId, chart_id, evidence, pictures, verdict
from bot.adapters.slack.wanted import Case, ProposalCase, WantedMessage
from bot.settings import PolicySettings


def render(case: Case, rules: PolicySettings) -> tuple[WantedMessage, ...]:
    """Return the messages of the incident in thread order; the first one is the parent."""
    messages: list[WantedMessage] = [board(case, rules)]
    placed: set[str] = set()
    shown: dict[ChartId, str] = {}
    for one in case.diagnoses:
        messages.append(verdict(one))
        messages += pictures(one, shown)
        if one.charts or one.snapshot_id:  # a diagnosis that saw nothing changes nothing
            shown = {chart_id(chart): chart.digest for chart in one.charts}
        attached = evidence(one)
        messages += [attached] if attached else []
        for entry in case.proposals:
            if entry.proposal.diagnosis_id == one.id:
                messages += _proposal(entry, rules)
                placed.add(entry.proposal.id)
    for entry in case.proposals:
        if entry.proposal.id not in placed:
            messages += _proposal(entry, rules)
    return tuple(messages)


def _proposal(entry: ProposalCase, rules: PolicySettings) -> list[WantedMessage]:
    shown, cut = proposal(entry, rules)
    messages = [shown]
    if cut:
        messages.append(plan_file(entry.proposal))
    messages += patch_files(entry.proposal)
    if entry.proposal.reminded_at is not None:
        messages.append(reminder(entry, entry.proposal.reminded_at, rules))
    if entry.execution is not None:
        messages.append(execution(entry.execution, entry.proposal))
    return messages
