"""What one verifier takes over of another, which has verified a slice of the chain."""

from __future__ import annotations

import pytest

from bot.errors import BadInput
from bot.flow.audit import ChainVerifier, Checkpoint, export_lines, read_lines, verify
from bot.model import START
from tests.unit.flow.test_audit import behind, chain


def test_what_another_verifier_has_done_is_taken_where_it_continues_and_otherwise_not() -> None:
    entries = chain(6)
    verifier = ChainVerifier()
    assert verifier.advance(START, behind(entries, 2))
    assert not verifier.advance(behind(entries, 3), behind(entries, 4)), "row 3 is missing between the two"
    assert not verifier.advance(Checkpoint(seq=2, hash="f" * 64), behind(entries, 4)), "another row 2 than the one seen"
    assert verifier.reached == 2
    assert verifier.advance(behind(entries, 2), behind(entries, 2)), "a slice that verified nothing takes it no further"
    assert verifier.add_all(entry.line for entry in entries[2:])
    assert verifier.report() == verify(entries)


def test_a_checkpoint_is_compared_where_it_is_the_last_row_that_is_taken() -> None:
    entries = chain(6)
    verifier = ChainVerifier(behind(entries, 4))
    assert verifier.advance(START, behind(entries, 4))
    assert verifier.report().checkpoint_matched
    assert verifier.advance(behind(entries, 4), behind(entries, 6)), (
        "the slice that begins at the checkpoint is no matter of it"
    )
    another = Checkpoint(seq=4, hash="f" * 64)
    verifier = ChainVerifier(another)
    assert not verifier.advance(START, behind(entries, 4))
    assert verifier.reached == 0
    assert not verifier.add_all(entry.line for entry in entries)
    assert verifier.report() == verify(entries, checkpoint=another)
    assert not verifier.advance(behind(entries, 3), behind(entries, 3)), "a bad row ends it"


@pytest.mark.parametrize(("end", "unseen"), [(3, False), (4, False), (5, True)])
def test_a_checkpoint_in_the_midst_of_what_is_taken_would_go_unseen(end: int, unseen: bool) -> None:
    entries = chain(6)
    verifier = ChainVerifier(behind(entries, 4))
    if unseen:
        with pytest.raises(ValueError, match="Row 4 of the checkpoint"):
            verifier.advance(START, behind(entries, end))
    else:
        assert verifier.advance(START, behind(entries, end))
    assert verifier.reached == (0 if unseen else end)


def test_lines_that_end_in_an_error_leave_what_came_before_verified() -> None:
    lines = [*export_lines(chain(3)), "{"]
    verifier = ChainVerifier()
    with pytest.raises(BadInput):
        verifier.add_all(read_lines(lines))
    assert verifier.reached == 3
