"""The report of an incident: every part of it is told, and a chain that does not verify is told, too."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from bot.flow.audit import ChainReport
from bot.flow.incident_report import MOST_EVIDENCE, MOST_ROWS, Account, compose
from bot.model import (
    GENESIS,
    Alert,
    AlertId,
    AlertState,
    Approval,
    ApprovalId,
    AuditEntry,
    AuditLine,
    Choice,
    Decided,
    DeliveryId,
    Diagnosis,
    DiagnosisId,
    Execution,
    ExecutionId,
    ExecutionState,
    Finding,
    Incident,
    IncidentId,
    IncidentState,
    Layer,
    OperationId,
    Preview,
    Proposal,
    ProposalId,
    ProposalState,
    RiskClass,
    Severity,
    SlackUser,
    SnapshotId,
    Stage,
    StageRun,
    StageState,
    Subject,
    Verdict,
)
from bot.model.document import Bullets, Document, Grid, Paragraph, Part, Tone, Verbatim

NOW: Final = datetime(2026, 11, 21, 8, 0, tzinfo=UTC)
ID: Final = IncidentId("inc_1")
SUBJECT: Final = Subject(cluster="prod", account="APP", stream="ORDERS", consumer="billing")
FINDING: Final = Finding(
    check="CONSUMER_SPLIT",
    layer=Layer.CONSUMERS,
    subject=SUBJECT,
    severity=Severity.CRITICAL,
    sentence="n1 and n2 both say that they lead.",
    evidence={"leaders": ["n1", "n2"]},
)
INTACT: Final = ChainReport(
    rows=7, first_bad_seq=None, reason="All 7 rows verify.", head_hash="b" * 64, checkpoint_matched=None
)


def row(seq: int) -> AuditLine:
    entry = AuditEntry(
        seq=seq,
        at=NOW,
        kind="alert.firing",
        actor="alertmanager",
        incident_id=ID,
        subject="",
        sentence=f"Row {seq} is told.",
        data={},
        previous=GENESIS,
        hash=f"{seq:064d}",
    )
    return entry.line


def incident(state: IncidentState = IncidentState.CLOSED, truncated: int = 0) -> Incident:
    return Incident(
        id=ID,
        cluster="prod",
        source="alertmanager",
        fingerprint="f1",
        starts_at=NOW,
        opened_at=NOW,
        updated_at=NOW,
        state=state,
        title="Consumer stuck",
        channel="C1",
        labels={"stream": "ORDERS"},
        annotations={},
        truncated=truncated,
    )


def alert() -> Alert:
    return Alert(
        id=AlertId("alr_1"),
        delivery_id=DeliveryId("dlv_1"),
        incident_id=ID,
        source="alertmanager",
        fingerprint="f1",
        state=AlertState.FIRING,
        name="ConsumerStuck",
        labels={},
        annotations={},
        starts_at=NOW,
        ends_at=None,
        received_at=NOW,
    )


def diagnosis(finding: Finding = FINDING) -> Diagnosis:
    return Diagnosis(
        id=DiagnosisId("dia_1"),
        incident_id=ID,
        runbook="stuck_consumer",
        snapshot_id=SnapshotId("snap_1"),
        snapshot_digest="c" * 64,
        started_at=NOW,
        ended_at=NOW + timedelta(seconds=3),
        verdict=Verdict(severity=finding.severity, root=finding, sentence="The consumer has two leaders."),
        findings=(finding,),
    )


def proposal() -> Proposal:
    preview = Preview(
        summary="The leader of billing moves.",
        diff="-leader: n1\n+leader: n2",
        blast_radius="one consumer",
        effects=("2 messages are delivered again.",),
        way_back="None is needed.",
    )
    stage = Stage(kind="consumer_step_down", params={}, risk=RiskClass.LOW, preview=preview)
    return Proposal(
        id=ProposalId("prop_1"),
        incident_id=ID,
        diagnosis_id=DiagnosisId("dia_1"),
        cluster="prod",
        subject=SUBJECT,
        title="Let billing elect a leader",
        why="It has two.",
        risk=RiskClass.LOW,
        stages=(stage,),
        cautions=("A pull may end early.",),
        world={},
        state=ProposalState.DONE,
        state_reason="It is verified.",
        button="btn_1",
        created_at=NOW,
        expires_at=NOW + timedelta(minutes=10),
    )


def approval(digest: str) -> Approval:
    return Approval(
        id=ApprovalId("apr_1"),
        proposal_id=ProposalId("prop_1"),
        proposal_digest=digest,
        choice=Choice.APPROVE,
        user=SlackUser(team_id="T1", user_id="U1"),
        person="ana",
        groups=("sre",),
        reason="Billing waits since 8:00.",
        at=NOW,
    )


def execution() -> Execution:
    run = StageRun(
        index=0,
        state=StageState.VERIFIED,
        operation_id=OperationId("op_1"),
        intended_at=NOW,
        applied_at=NOW + timedelta(seconds=1),
        sent=1,
        before={"leaders": 2, "lag": 900},
        after={"leaders": 1, "leader": None},
        sentence="One leader is seen by all servers.",
    )
    return Execution(
        id=ExecutionId("exec_1"),
        proposal_id=ProposalId("prop_1"),
        incident_id=ID,
        cluster="prod",
        state=ExecutionState.DONE,
        stages=(run,),
        started_at=NOW,
    )


def account(**changes: object) -> Account:
    asked = proposal()
    whole = Account(
        incident=incident(),
        alerts=(alert(),),
        diagnoses=(diagnosis(),),
        decided=(Decided(proposal=asked, approvals=(approval(asked.digest),), execution=execution()),),
        rows=(row(3), row(5)),
        chain=INTACT,
    )
    return whole.model_copy(update=changes)


def part(document: Document, heading: str) -> Part:
    return next(each for each in document.parts if each.heading == heading)


def texts(document: Document) -> Iterator[str]:
    for each in document.parts:
        yield each.heading
        for block in each.blocks:
            match block:
                case Paragraph() | Verbatim():
                    yield block.text
                case Bullets():
                    yield from block.items
                case Grid():
                    yield from (cell for cells in block.rows for cell in cells)


@pytest.mark.parametrize(
    "told",
    [
        "ConsumerStuck",
        "n1 and n2 both say that they lead.",
        '{\n  "leaders": [\n    "n1",\n    "n2"\n  ]\n}',
        "Facts: snapshot snap_1, SHA-256 " + "c" * 64 + ".",
        "-leader: n1\n+leader: n2",
        "2 messages are delivered again.",
        "Way back: None is needed.",
        "A pull may end early.",
        "Billing waits since 8:00.",
        "One leader is seen by all servers.",
        "Row 3 is told.",
        "All 7 rows verify.",
        f"{3:064d}",
        f"{5:064d}",
    ],
)
def test_everything_that_was_seen_decided_and_done_is_told(told: str) -> None:
    assert told in set(texts(compose(account(), NOW)))


def test_numbers_before_and_after_stand_side_by_side_and_what_was_not_read_is_not_none() -> None:
    (numbers,) = [
        block for block in part(compose(account(), NOW), "Stage 1: verified").blocks if isinstance(block, Grid)
    ]
    assert numbers.rows == (("leaders", "2", "1"), ("lag", "900", "not read"), ("leader", "not read", "none"))


@pytest.mark.parametrize(("digest", "word"), [(proposal().digest, "yes"), ("d" * 64, "no")])
def test_an_approval_says_whether_it_was_given_for_what_ran(digest: str, word: str) -> None:
    decided = Decided(proposal=proposal(), approvals=(approval(digest),), execution=None)
    (grid,) = part(compose(account(decided=(decided,)), NOW), "Decisions").blocks
    assert isinstance(grid, Grid)
    assert grid.rows[0][-1] == word


def test_a_proposal_that_nobody_answered_says_so() -> None:
    decided = Decided(proposal=proposal(), approvals=(), execution=None)
    blocks = part(compose(account(decided=(decided,)), NOW), "Decisions").blocks
    assert blocks == (Paragraph(text="Nobody has approved or denied it."),)


def test_a_chain_that_does_not_verify_is_told_with_the_row() -> None:
    broken = INTACT.model_copy(update={"first_bad_seq": 4, "rows": 3, "reason": "Row 4 was altered."})
    blocks = part(compose(account(chain=broken), NOW), "Audit log").blocks
    assert blocks[:2] == (
        Paragraph(text="Row 4 was altered.", tone=Tone.BAD),
        Paragraph(text="What the rows from 4 on say here is not vouched for.", tone=Tone.BAD),
    )


def test_a_gap_and_rows_that_cannot_be_read_are_told() -> None:
    said = account(gap="The database was restored.", unreadable="Row 6 is no text.")
    blocks = part(compose(said, NOW), "Audit log").blocks
    assert blocks[0] == Paragraph(text="All 7 rows verify.", tone=Tone.GOOD)
    assert Paragraph(text="The database was restored.", tone=Tone.BAD) in blocks
    assert Paragraph(text="Row 6 is no text.", tone=Tone.BAD) in blocks


def test_an_incident_with_one_row_names_it_once_and_one_without_any_still_has_the_head() -> None:
    one = part(compose(account(rows=(row(3),)), NOW), "Audit log").blocks
    assert [block.rows for block in one if isinstance(block, Grid)] == [(("first", "3", f"{3:064d}"),)]
    none = part(compose(account(rows=()), NOW), "Audit log").blocks
    assert [type(block) for block in none] == [Paragraph, Paragraph]
    assert f"7:{'b' * 64}" in " ".join(block.text for block in none if isinstance(block, Paragraph))


@pytest.mark.parametrize(("count", "sentences"), [(MOST_ROWS, 0), (MOST_ROWS + 1, 1)])
def test_a_table_is_cut_after_its_most_rows_and_says_how_many_are_left_out(count: int, sentences: int) -> None:
    rows = tuple(row(seq) for seq in range(1, count + 1))
    grid, *rest = part(compose(account(rows=rows), NOW), "Timeline").blocks
    assert isinstance(grid, Grid)
    assert len(grid.rows) == MOST_ROWS
    assert (
        rest == [Paragraph(text="1 rows more are left out here; the database has them.", tone=Tone.WARNING)] * sentences
    )


@pytest.mark.parametrize(("extra", "cut"), [(0, False), (1, True)])
def test_evidence_is_cut_above_its_limit_and_says_so(extra: int, cut: bool) -> None:
    frame = len('{\n  "x": ""\n}')
    finding = FINDING.model_copy(update={"evidence": {"x": "y" * (MOST_EVIDENCE - frame + extra)}})
    (block,) = part(compose(account(diagnoses=(diagnosis(finding),)), NOW), "Evidence of the root finding").blocks
    assert isinstance(block, Verbatim)
    assert block.text.endswith("… 1 characters more") is cut


@pytest.mark.parametrize(
    ("severity", "tone"),
    [
        (Severity.OK, Tone.GOOD),
        (Severity.WARNING, Tone.WARNING),
        (Severity.CRITICAL, Tone.BAD),
        (Severity.UNKNOWN, Tone.UNCLEAR),
    ],
)
def test_the_lead_has_the_tone_of_the_last_verdict(severity: Severity, tone: Tone) -> None:
    last = diagnosis(FINDING.model_copy(update={"severity": severity}))
    lead = compose(account(diagnoses=(diagnosis(), last)), NOW).lead
    assert lead.tone is tone
    assert lead.text == "It is closed. The last diagnosis says: The consumer has two leaders."


def test_an_incident_that_was_never_diagnosed_is_unclear() -> None:
    lead = compose(account(diagnoses=(), incident=incident(IncidentState.OPEN)), NOW).lead
    assert lead.tone is Tone.UNCLEAR
    assert lead.text.endswith("No diagnosis is on record.")


def test_alerts_that_the_sender_left_out_are_told() -> None:
    told = part(compose(account(incident=incident(truncated=4)), NOW), "Alerts").blocks[-1]
    assert told == Paragraph(text="The sender left 4 further alerts out.")
