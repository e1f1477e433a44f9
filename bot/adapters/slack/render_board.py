"""The parent message of a thread: the status board, edited in place. Readable in one glance on a phone."""

from __future__ import annotations

from typing import Final

from bot.adapters.slack.blocks import (
    Block,
    actions,
    bold,
    button,
    fit,
    header,
    moment,
    ours,
    paragraph,
    rich,
    small,
    text,
    user,
)
from bot.adapters.slack.pace import RUNNING, progress_bar
from bot.adapters.slack.text import date, fallback
from bot.adapters.slack.wanted import END_SILENCE, SILENCE, TAKE, Case, ProposalCase, WantedMessage
from bot.model import STORM, ExecutionState, Incident, IncidentState, ProposalState, Severity
from bot.policy import standing
from bot.settings import PolicySettings

_LABELS_LIMIT: Final = 600
_SENTENCE_LIMIT: Final = 600

_SEVERITY: Final = {
    Severity.CRITICAL: ("🔴", "Critical"),
    Severity.WARNING: ("🟠", "Warning"),
    Severity.UNKNOWN: ("⚪", "Cannot tell"),
    Severity.OK: ("🟡", "Alert is firing, nothing wrong found"),
}


def board(case: Case, rules: PolicySettings) -> WantedMessage:
    """The status board of an incident."""
    incident = case.incident
    sign, word = headline(case)
    blocks: list[Block] = [
        header(f"{sign} {incident.title}"),
        rich(paragraph(bold(word), *_cluster(case)), *_verdict(case)),
    ]
    if incident.note:
        blocks.append(small(f"⚠️ {incident.note}", _SENTENCE_LIMIT))
    blocks += _proposals(case, rules)
    blocks += _running(case)
    blocks += _lock(case)
    blocks += people(incident)
    blocks.append(ours(_history(case)))
    if incident.labels:
        blocks.append(
            small(", ".join(f"{name}={value}" for name, value in sorted(incident.labels.items())), _LABELS_LIMIT)
        )
    if incident.state is not IncidentState.CLOSED:
        blocks.append(_buttons(incident))
    shown, _ = fit(blocks)
    return WantedMessage(
        key=f"board:{incident.id}", blocks=shown, text=fallback(f"{sign} {word}: {incident.title}"), thread=False
    )


def headline(case: Case) -> tuple[str, str]:
    """Return the sign and the words for where the incident stands; never more than is known."""
    runs = {entry.execution.state for entry in case.proposals if entry.execution is not None}
    states = [entry.proposal.state for entry in case.proposals]
    broken = bool(states) and states[-1] in {ProposalState.NEEDS_HUMAN, ProposalState.FAILED}
    diagnosis = case.last_diagnosis
    rungs = (
        (
            case.incident.source == STORM and case.incident.state is IncidentState.OPEN,
            "🌪️",
            "Many alerts at once share this message",
        ),
        (case.incident.source == STORM, "⚫", "The storm is over"),
        (case.incident.state is IncidentState.CLOSED, "⚫", "Closed"),
        (case.incident.state is IncidentState.VERIFIED, "🟢", "Verified healthy by natsmedic"),
        (ExecutionState.UNKNOWN in runs, "🟣", "Outcome unknown, reading what really happened"),
        (bool(RUNNING & runs), "🔵", "Repair is running"),
        (case.incident.state is IncidentState.CLEARED, "🟡", "Cleared by the sender, not verified by natsmedic"),
        (broken, "🔴", "A repair did not work, a person must look"),
        (ProposalState.PENDING in states, "🟠", "Waiting for approval"),
        (_back_again(case), "🔴", "Back again, natsmedic is looking"),
        (diagnosis is None, "🔎", "Looking at it"),
    )
    for holds, sign, word in rungs:
        if holds:
            return sign, word
    return _SEVERITY[diagnosis.verdict.severity if diagnosis else Severity.UNKNOWN]


def _back_again(case: Case) -> bool:
    """True where the alert fired again after the newest diagnosis began."""
    relapses, diagnosis = case.incident.relapses, case.last_diagnosis
    return bool(relapses) and (diagnosis is None or diagnosis.started_at < relapses[-1].at)


def _cluster(case: Case) -> list[Block]:
    name = case.incident.cluster
    return [text(f" · cluster {name}" if name else " · no configured cluster matches this alert", 200)]


def _verdict(case: Case) -> list[Block]:
    """The newest verdict; after a verified repair it is what is left, said as such."""
    diagnosis = case.last_diagnosis
    if diagnosis is None:
        return []
    left = case.incident.state is IncidentState.VERIFIED and diagnosis.verdict.severity is not Severity.OK
    told = [bold("Still worth a look: ")] if left else []
    return [paragraph(*told, text(diagnosis.verdict.sentence, _SENTENCE_LIMIT))]


def _proposals(case: Case, rules: PolicySettings) -> list[Block]:
    """The proposals that still matter: active ones, else the last one decided."""
    active = [entry for entry in case.proposals if not entry.proposal.state.terminal]
    blocks: list[Block] = []
    for entry in active[-3:] or case.proposals[-1:]:
        proposal = entry.proposal
        blocks.append(
            rich(paragraph(bold("Proposal: "), text(proposal.title, 200), text(f", {progress(entry, rules)}", 200)))
        )
        if proposal.state is ProposalState.PENDING and proposal.approvable:
            blocks.append(ours(f"Expires {date(proposal.expires_at, '{time}')}{entry.left}"))
    return blocks


def progress(entry: ProposalCase, rules: PolicySettings) -> str:
    """How far a proposal is, in a few words."""
    proposal = entry.proposal
    if not proposal.approvable:
        return "for people to carry out"
    if proposal.state is ProposalState.PENDING:
        given = standing(proposal, entry.approvals, rules)
        return f"{given.given} of {given.needed} approvals" if given.needed else "nobody may approve it"
    alone = standing(proposal, entry.approvals, rules).broken_by
    return STATE_WORDS[proposal.state] + (f"; {alone} broke the glass and approved alone" if alone else "")


STATE_WORDS: Final = {
    ProposalState.PROPOSED: "not offered for approval",
    ProposalState.PENDING: "waiting for approval",
    ProposalState.APPROVED: "approved",
    ProposalState.APPLYING: "being applied",
    ProposalState.VERIFYING: "applied, being verified",
    ProposalState.DONE: "done and verified",
    ProposalState.FAILED: "failed",
    ProposalState.ROLLED_BACK: "rolled back",
    ProposalState.UNKNOWN: "outcome unknown",
    ProposalState.NEEDS_HUMAN: "needs a human",
    ProposalState.DENIED: "denied",
    ProposalState.EXPIRED: "expired",
    ProposalState.SUPERSEDED: "superseded by a newer proposal",
    ProposalState.WITHDRAWN: "withdrawn",
}


def _running(case: Case) -> list[Block]:
    """How far its running repair is."""
    pace = case.pace
    runs = [(entry.execution, entry.proposal) for entry in case.proposals if entry.execution is not None]
    bars = [progress_bar(run, plan, pace) for run, plan in runs if pace is not None and run.state in RUNNING]
    return [rich(paragraph(text(bar, 200))) for bar in bars]


def _lock(case: Case) -> list[Block]:
    if case.lock_holder is None:
        return []
    own = {entry.execution.id for entry in case.proposals if entry.execution is not None}
    if case.lock_holder in own:
        return [small("🔒 This repair holds the cluster; no other change runs meanwhile.")]
    return [small(f"🔒 Another repair holds the cluster ({case.lock_holder}); changes of this incident wait.", 300)]


def people(incident: Incident) -> list[Block]:
    """Who looks after it, and who has silenced it why."""
    lines: list[Block] = []
    if (holder := incident.holder) is not None:
        lines.append(
            paragraph(text("🙋 "), bold("Held by "), user(holder.user.user_id), text(" since "), moment(holder.at))
        )
    if (silence := incident.silence) is not None:
        told = text(f": {silence.reason}", _SENTENCE_LIMIT)
        until = (text(" until "), moment(silence.until))
        count = text(f" (alerts meanwhile: {silence.muted})")
        lines.append(paragraph(text("🔕 "), bold("Silenced by "), user(silence.user.user_id), *until, told, count))
    return [rich(*lines)] if lines else []


def _buttons(incident: Incident) -> Block:
    silence = (
        button(SILENCE, "Silence…", incident.id)
        if incident.silence is None
        else button(END_SILENCE, "End the silence", incident.id)
    )
    return actions("case", button(TAKE, "I take it", incident.id), silence)


def _history(case: Case) -> str:
    incident = case.incident
    parts = [f"Opened {date(incident.opened_at)}", f"last change {date(incident.updated_at)}"]
    if incident.firing_count > 1:
        parts.append(f"alert received {_times(incident.firing_count)}")
    if incident.relapses:
        last = incident.relapses[-1]
        parts.append(f"came back {_times(last.number)}, last {date(last.at)} after it was {last.after.value}")
    if incident.previous is not None:
        parts.append(f"the same alert was over before in {incident.previous}")
    if incident.truncated:
        parts.append(f"the sender left out {incident.truncated} more alerts")
    return " · ".join(parts)


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
