"""The report of one incident, for the people who were not there: what was seen, decided and done, with the rows of the audit log that say so."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from datetime import datetime
from typing import Final

from bot.errors import AuditBroken
from bot.flow.audit import ChainReport, ChainVerifier, pages, verify_store
from bot.model import (
    Alert,
    AuditFilter,
    AuditLine,
    Checkpoint,
    Decided,
    Diagnosis,
    Execution,
    Finding,
    Incident,
    IncidentId,
    IncidentState,
    Preview,
    Record,
    Severity,
    StageRun,
)
from bot.model.document import Block, Bullets, Document, Grid, Paragraph, Part, Tone, Verbatim
from bot.ports import Store

MOST_ROWS: Final = 500
"""Rows of one table: some 15 printed pages; `natsmedic audit export --incident` has all."""
MOST_EVIDENCE: Final = 4_000
"""Characters of one finding's evidence: two screens; `natsmedic incidents show --format json` has it whole."""

_TONES: Final = {
    Severity.OK: Tone.GOOD,
    Severity.WARNING: Tone.WARNING,
    Severity.CRITICAL: Tone.BAD,
    Severity.UNKNOWN: Tone.UNCLEAR,
}
_STATES: Final = {
    IncidentState.OPEN: "It is open: the alert fires, or no repair is verified.",
    IncidentState.CLEARED: "The sender of the alert says that it is resolved; natsmedic has not verified it.",
    IncidentState.VERIFIED: "natsmedic has read that the condition is gone.",
    IncidentState.CLOSED: "It is closed.",
}


class Account(Record):
    """Everything that the store holds of an incident, and what the chain of the audit log is worth."""

    incident: Incident
    alerts: tuple[Alert, ...]
    diagnoses: tuple[Diagnosis, ...]
    decided: tuple[Decided, ...]
    rows: tuple[AuditLine, ...]
    chain: ChainReport
    unreadable: str = ""
    """Why rows are missing from `rows`; empty where none are."""
    gap: str = ""
    """What a checkpoint outside says against the database, where nobody has acknowledged it; empty where nothing does."""


async def account_of(
    store: Store,
    id: IncidentId,  # noqa: A002
    *,
    whole_chain: bool = True,
    checkpoint: Checkpoint | None = None,
) -> Account | None:
    """Read an incident whole, and verify the audit log; None where there is no such incident. Raises `StoreError`.

    Without `whole_chain` the rows before the incident's first one are left out, so that it takes time only for what has happened since; those from a
    `checkpoint` before them on are looked at, and a later checkpoint must fit.
    """
    dossier = await store.dossier(id)
    if dossier is None:
        return None
    rows, unreadable = await _rows(store, id)
    verifier = ChainVerifier() if whole_chain or not rows else await _from_row(store, rows[0].seq, checkpoint)
    await verify_store(store, verifier)
    gap = await store.audit_gap()
    return Account(
        incident=dossier.incident,
        alerts=tuple(await store.alerts(id)),
        diagnoses=dossier.diagnoses,
        decided=dossier.decided,
        rows=rows,
        chain=verifier.report(),
        unreadable=unreadable,
        gap=gap.sentence if gap is not None else "",
    )


class Remains(Record):
    """What the audit log says of an incident that is kept no longer."""

    incident: IncidentId
    rows: tuple[AuditLine, ...]
    chain: ChainReport
    unreadable: str = ""
    gap: str = ""


async def remains_of(store: Store, id: IncidentId) -> Remains | None:  # noqa: A002
    """Read the audit rows of an incident that is not stored, and verify the whole log; None where there are none. Raises `StoreError`."""
    rows, unreadable = await _rows(store, id)
    if not rows and not unreadable:
        return None
    verifier = ChainVerifier()
    await verify_store(store, verifier)
    gap = await store.audit_gap()
    said = gap.sentence if gap is not None else ""
    return Remains(incident=id, rows=rows, chain=verifier.report(), unreadable=unreadable, gap=said)


def compose_remains(remains: Remains, now: datetime) -> Document:
    """Return the report of an incident that is kept no longer, as of `now`. Pure."""
    gone = (
        "It is kept no longer: it was over and older than `retention` keeps, or it is lost with a database that was restored or rewritten. "
        "What stays is the audit log, whose rows about it stand below; digests in their data prove what copies hold."
    )
    summary = Grid(columns=("", ""), rows=(("incident", remains.incident), ("report made", _when(now))))
    return Document(
        title=f"Incident report: {remains.incident}",
        lead=Paragraph(text=gone, tone=Tone.UNCLEAR),
        parts=(Part(heading="Summary", blocks=(summary,)), *_timeline(remains.rows), _audit_part(remains)),
    )


async def _from_row(store: Store, first: int, checkpoint: Checkpoint | None) -> ChainVerifier:
    """A verifier that begins at this row, or behind an earlier checkpoint; at the first row of all where the one before it can't be read."""
    if checkpoint is not None and checkpoint.seq < first:
        return ChainVerifier(checkpoint, after=checkpoint)
    try:
        before = await store.audit_line(first - 1)
    except AuditBroken:
        before = None
    if before is None:
        return ChainVerifier(checkpoint)
    return ChainVerifier(checkpoint, after=Checkpoint(seq=before.seq, hash=before.hash))


async def _rows(store: Store, incident: IncidentId) -> tuple[tuple[AuditLine, ...], str]:
    found: list[AuditLine] = []
    async with aclosing(pages(store, AuditFilter(incident=incident))) as read:
        try:
            async for page in read:
                found += page
        except AuditBroken as error:
            return tuple(found), str(error)
    return tuple(found), ""


def compose(account: Account, now: datetime) -> Document:
    """Return the report as of `now`. Pure."""
    incident = account.incident
    return Document(
        title=f"Incident report: {incident.title}",
        lead=_lead(account),
        parts=(
            Part(heading="Summary", blocks=(_summary(account, now),)),
            *_alert_part(account),
            *(part for diagnosis in account.diagnoses for part in _diagnosis_parts(diagnosis)),
            *(part for decided in account.decided for part in _proposal_parts(decided)),
            *_timeline(account.rows),
            _audit_part(account),
        ),
    )


def _lead(account: Account) -> Paragraph:
    state = account.incident.state
    said = _STATES[state]
    if not account.diagnoses:
        return Paragraph(text=f"{said} No diagnosis is on record.", tone=Tone.UNCLEAR)
    verdict = account.diagnoses[-1].verdict
    return Paragraph(text=f"{said} The last diagnosis says: {verdict.sentence}", tone=_TONES[verdict.severity])


def _summary(account: Account, now: datetime) -> Grid:
    incident = account.incident
    rows = [
        ("incident", incident.id),
        ("cluster", incident.cluster or "none matches"),
        ("state", incident.state.value),
        ("alert since", _when(incident.starts_at)),
        ("opened", _when(incident.opened_at)),
        ("last change", _when(incident.updated_at)),
        ("source", incident.source),
        ("asked for by", incident.requested_by or ""),
        ("note", incident.note or ""),
        *((f"label {name}", value) for name, value in sorted(incident.labels.items())),
        *((f"annotation {name}", value) for name, value in sorted(incident.annotations.items())),
        ("report made", _when(now)),
    ]
    return Grid(columns=("", ""), rows=tuple(row for row in rows if row[1]))


def _alert_part(account: Account) -> Iterator[Part]:
    rows = [(_when(alert.received_at), alert.state.value, alert.name, alert.source) for alert in account.alerts]
    left_out = account.incident.truncated
    notes = (Paragraph(text=f"The sender left {left_out} further alerts out."),) if left_out else ()
    if rows or notes:
        yield Part(heading="Alerts", blocks=(*_table(("received", "state", "alert", "source"), rows), *notes))


def _diagnosis_parts(diagnosis: Diagnosis) -> Iterator[Part]:
    verdict = diagnosis.verdict
    facts = f"Facts: snapshot {diagnosis.snapshot_id}, SHA-256 {diagnosis.snapshot_digest}."
    yield Part(
        heading=f"Diagnosis of {_when(diagnosis.ended_at)}",
        blocks=(
            Paragraph(text=verdict.sentence, tone=_TONES[verdict.severity]),
            Paragraph(text=f"Runbook {diagnosis.runbook}, because of: {diagnosis.reason}."),
            Paragraph(text=facts if diagnosis.snapshot_id else "No facts could be read."),
        ),
    )
    sick = [finding for finding in diagnosis.findings if finding.severity is not Severity.OK]
    if sick:
        columns = ("severity", "check", "subject", "finding")
        rows = [(f.severity.value, f.check, str(f.subject), f.sentence) for f in sick]
        yield Part(heading="Findings", below=1, blocks=_table(columns, rows))
    if verdict.root is not None and verdict.root.evidence:
        yield Part(heading="Evidence of the root finding", below=1, blocks=(_evidence(verdict.root),))


def _evidence(finding: Finding) -> Verbatim:
    text = json.dumps(finding.evidence, indent=2, ensure_ascii=False, sort_keys=True)
    cut = len(text) > MOST_EVIDENCE
    return Verbatim(text=f"{text[:MOST_EVIDENCE]}\n… {len(text) - MOST_EVIDENCE} characters more" if cut else text)


def _proposal_parts(decided: Decided) -> Iterator[Part]:
    proposal = decided.proposal
    reason = f": {proposal.state_reason}" if proposal.state_reason else "."
    about = [
        Paragraph(text=proposal.why),
        Paragraph(text=f"Proposal {proposal.id}, risk {proposal.risk}, digest {proposal.digest}."),
        Paragraph(text=f"State {proposal.state}{reason}"),
        *((Bullets(items=proposal.cautions),) if proposal.cautions else ()),
        *((Paragraph(text="By hand:"), Bullets(items=proposal.guidance)) if proposal.guidance else ()),
    ]
    yield Part(heading=f"Proposal: {proposal.title}", blocks=tuple(about))
    for number, stage in enumerate(proposal.stages, start=1):
        yield Part(heading=f"Preview of stage {number}: {stage.kind}", below=1, blocks=tuple(_preview(stage.preview)))
    if proposal.stages or decided.approvals:
        yield Part(heading="Decisions", below=1, blocks=_decisions(decided))
    if decided.execution is not None:
        yield from _execution_parts(decided.execution)


def _preview(preview: Preview) -> Iterator[Block]:
    yield Paragraph(text=preview.summary)
    if preview.diff:
        yield Verbatim(text=preview.diff)
    yield Bullets(
        items=(f"Reaches: {preview.blast_radius}", *preview.effects, f"Way back: {preview.way_back}"),
    )


def _decisions(decided: Decided) -> tuple[Block, ...]:
    columns = ("when", "person", "decision", "groups", "reason", "for this digest")
    rows = [
        (
            _when(given.at),
            given.person,
            given.choice.value,
            ", ".join(given.groups),
            given.reason,
            f"void: {given.void}"
            if given.void
            else "yes"
            if given.proposal_digest == decided.proposal.digest
            else "no",
        )
        for given in decided.approvals
    ]
    return _table(columns, rows) or (Paragraph(text="Nobody has approved or denied it."),)


def _execution_parts(execution: Execution) -> Iterator[Part]:
    ended = f"ended {_when(execution.ended_at)}" if execution.ended_at else "not ended"
    yield Part(
        heading=f"Execution {execution.id}",
        below=1,
        blocks=(
            Paragraph(
                text=f"State {execution.state}, started {_when(execution.started_at)}, {ended}. {execution.sentence}"
            ),
        ),
    )
    for run in execution.stages:
        yield Part(heading=f"Stage {run.index + 1}: {run.state}", below=1, blocks=tuple(_stage(run)))


def _stage(run: StageRun) -> Iterator[Block]:
    if run.sentence:
        yield Paragraph(text=run.sentence)
    marks = (("begun", run.intended_at), ("applied", run.applied_at), ("ended", run.ended_at))
    times = "; ".join(f"{word} {_when(moment)}" for word, moment in marks if moment is not None) or "not begun"
    yield Paragraph(text=f"Operation {run.operation_id}, requests sent: {run.sent}; {times}.")
    names = [*run.before, *(name for name in run.after if name not in run.before)]
    rows = [(name, _number(run.before, name), _number(run.after, name)) for name in names]
    yield from _table(("number", "before", "after"), rows)


def _number(numbers: dict[str, str | int | None], name: str) -> str:
    if name not in numbers:
        return "not read"
    value = numbers[name]
    return "none" if value is None else str(value)


def _timeline(lines: tuple[AuditLine, ...]) -> Iterator[Part]:
    rows = [(str(row.seq), f"{row.at[:10]} {row.at[11:19]}Z", row.kind, row.actor, row.sentence) for row in lines]
    if rows:
        yield Part(heading="Timeline", blocks=_table(("row", "when", "what", "who", "said"), rows))


def _audit_part(account: Account | Remains) -> Part:
    chain = account.chain
    tone = Tone.GOOD if chain.intact else Tone.BAD
    blocks: list[Block] = [Paragraph(text=chain.reason, tone=tone)]
    bad = chain.first_bad_seq
    if bad is not None:
        blocks.append(Paragraph(text=f"What the rows from {bad} on say here is not vouched for.", tone=Tone.BAD))
    if account.unreadable:
        blocks.append(Paragraph(text=account.unreadable, tone=Tone.BAD))
    if account.gap:
        blocks.append(Paragraph(text=account.gap, tone=Tone.BAD))
    ends = {
        row.seq: ("first" if row is account.rows[0] else "last", row) for row in (account.rows[:1] + account.rows[-1:])
    }
    blocks += _table(
        ("row of this incident", "seq", "hash"), [(word, str(row.seq), row.hash) for word, row in ends.values()]
    )
    blocks.append(
        Paragraph(
            text=f"Head of the chain when this report was made: {chain.head.seq}:{chain.head.hash}. As it stands it is the value of natsmedic audit verify --checkpoint."
        )
    )
    return Part(heading="Audit log", blocks=tuple(blocks))


def _table(columns: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> tuple[Block, ...]:
    """No block where there is no row; a sentence below where there are too many."""
    found = tuple(rows)
    if not found:
        return ()
    left_out = len(found) - MOST_ROWS
    grid = Grid(columns=columns, rows=found[:MOST_ROWS])
    if left_out <= 0:
        return (grid,)
    return (grid, Paragraph(text=f"{left_out} rows more are left out here; the database has them.", tone=Tone.WARNING))


def _when(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}Z"
