"""Whoever tampers with an export at random is found, by natsmedic and by the script that does without it, at the same row."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

import pytest

from bot.errors import BadInput
from bot.flow.audit import ChainVerifier, export_lines, read_lines
from bot.model import AuditEntry, Checkpoint
from tests.exhaustive import EXHAUSTIVE
from tests.unit.flow.test_audit import chain, sealed
from tests.unit.test_verify_script import SCRIPT

TRIALS: Final = 1_000 if EXHAUSTIVE else 60
"""Of each kind. tests/integration/test_store_audit.py makes a thousand of each in a real database every time."""
ENTRIES: Final = chain(24)
LINES: Final = tuple(export_lines(ENTRIES))
ROWS: Final = len(LINES)
KEPT: Final = Checkpoint(seq=18, hash=ENTRIES[17].hash)

Tamper = Callable[[list[str], random.Random], int]
"""Changes the lines and returns the first row that is bad for it, one that must be found at or before the next."""


def edit(lines: list[str], dice: random.Random) -> int:
    """One character, wherever it is and whatever it means."""
    row = dice.randrange(ROWS)
    at = dice.randrange(len(lines[row]))
    lines[row] = lines[row][:at] + chr(ord(lines[row][at]) ^ 1) + lines[row][at + 1 :]
    return row + 1


def delete(lines: list[str], dice: random.Random) -> int:
    row = dice.randrange(ROWS - 1)
    del lines[row]
    return row + 1


def reorder(lines: list[str], dice: random.Random) -> int:
    one, other = sorted(dice.sample(range(ROWS), 2))
    lines[one], lines[other] = lines[other], lines[one]
    return one + 1


def insert(lines: list[str], dice: random.Random) -> int:
    """A row that continues the one before it, with a hash that is right for what it says; what was there comes after it."""
    row = dice.randrange(1, ROWS)
    new = ENTRIES[row].model_copy(update={"actor": f"mallory {dice.random()}"})
    lines[row:row] = export_lines([sealed(new)])
    return row + 1


def cut(lines: list[str], dice: random.Random) -> int:
    row = dice.randrange(KEPT.seq)
    del lines[row:]
    return row + 1


def rewrite(lines: list[str], dice: random.Random) -> int:
    """A chain that is whole in itself, from a row at or before the checkpoint on."""
    row = dice.randrange(KEPT.seq)
    made: list[AuditEntry] = []
    for entry in ENTRIES[row:]:
        previous = made[-1].hash if made else entry.previous
        actor = entry.actor if made else f"mallory {dice.random()}"
        made.append(sealed(entry.model_copy(update={"previous": previous, "actor": actor})))
    lines[row:] = export_lines(made)
    return KEPT.seq


def first_bad(lines: list[str], kept: Checkpoint | None) -> int | None:
    verifier = ChainVerifier(kept)
    try:
        for line in read_lines(lines):
            verifier.add(line)
    except BadInput as error:
        verifier.unreadable(str(error))
    return verifier.report().first_bad_seq


def first_bad_of_the_script(lines: list[str], kept: Checkpoint | None) -> int | None:
    wrong, rows = SCRIPT.problem(lines, (kept.seq, kept.hash) if kept else None)
    return None if wrong is None else rows + 1


@pytest.mark.parametrize("tamper", [edit, delete, reorder, insert, cut, rewrite])
def test_every_tampering_is_found_by_both_at_the_same_row(tamper: Tamper) -> None:
    dice = random.Random(20261127)
    kept = KEPT if tamper in {cut, rewrite} else None
    for _ in range(TRIALS):
        lines = list(LINES)
        bad = tamper(lines, dice)
        found = first_bad(lines, kept)
        assert found is not None, lines
        assert bad <= found <= bad + (tamper is insert), lines
        assert first_bad_of_the_script(lines, kept) == found, lines
        if kept is not None:
            assert first_bad(lines, None) is None, "the checkpoint is what finds it"
    assert first_bad(list(LINES), KEPT) is None
