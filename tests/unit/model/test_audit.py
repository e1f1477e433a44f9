"""What an audit row, a reading of rows and a checkpoint hold where nothing is said, and the kinds that the database is asked for."""

from __future__ import annotations

from bot.model import ACKNOWLEDGED, GAP, START, AuditDraft, AuditFilter, Checkpoint
from bot.model.audit_kinds import AUDIT_KINDS


def test_a_draft_that_names_neither_incident_nor_subject_is_of_none() -> None:
    draft = AuditDraft(kind="freeze.lifted", actor="ada", sentence="It is lifted.")
    assert (draft.incident_id, draft.subject, draft.data) == (None, "", {})


def test_a_filter_narrows_by_nothing_that_it_does_not_name() -> None:
    assert AuditFilter().model_dump() == {
        "kind": None,
        "actor": None,
        "subject": None,
        "words": (),
        "incident": None,
        "since": None,
        "until": None,
    }


def test_before_the_first_row_the_head_is_of_no_row_and_no_moment() -> None:
    assert Checkpoint(seq=0, hash="0" * 64, at=None) == START


def test_the_kinds_that_are_asked_for_by_name_are_among_those_that_are_documented() -> None:
    assert {GAP, ACKNOWLEDGED} <= AUDIT_KINDS.keys()
