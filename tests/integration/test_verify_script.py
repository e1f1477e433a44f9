"""deploy/verify_audit.py, run as a stranger would: without natsmedic, without site-packages."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

import bot
from bot.flow.audit import export_lines
from tests.unit.flow.test_audit import chain, sealed

SCRIPT = Path(bot.__file__).parents[1] / "deploy" / "verify_audit.py"
ENTRIES = chain(12)
LINES = tuple(export_lines(ENTRIES))
HEAD = f"{ENTRIES[-1].seq}:{ENTRIES[-1].hash}"


def verified(folder: Path, lines: list[str], *more: str) -> tuple[int, str]:
    export = folder / "audit.jsonl"
    export.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    command = [sys.executable, "-I", "-S", str(SCRIPT), str(export), *more]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return done.returncode, (done.stdout + done.stderr).strip()


def test_it_is_short_enough_to_be_read() -> None:
    assert len(SCRIPT.read_text(encoding="utf-8").splitlines()) <= 60


def test_a_whole_export_verifies_with_and_without_a_checkpoint(tmp_path: Path) -> None:
    assert verified(tmp_path, [*LINES]) == (0, "all 12 rows verify")
    kept = tmp_path / "checkpoints.jsonl"
    kept.write_text(
        f'{{"at":null,"hash":"{"0" * 64}","seq":99}}\n{{"at":null,"hash":"{ENTRIES[7].hash}","seq":8}}\n{{"at":nu',
        "utf-8",
    )
    assert verified(tmp_path, [*LINES], str(kept)) == (0, "all 12 rows verify and match the checkpoint")
    assert verified(tmp_path, [*LINES], HEAD) == (0, "all 12 rows verify and match the checkpoint")


@pytest.mark.parametrize("seed", range(10))
def test_the_first_bad_row_is_named(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    at = chance.randrange(len(LINES) - 1)
    edited = sealed(ENTRIES[at].model_copy(update={"sentence": "Nothing happened."}))
    for lines, first in (
        ([*LINES[:at], LINES[at].replace('"actor":"bot"', '"actor":"eve"'), *LINES[at + 1 :]], at),
        ([*LINES[:at], LINES[at].replace("{", '{"actor":"eve",', 1), *LINES[at + 1 :]], at),
        ([*LINES[:at], *export_lines([edited]), *LINES[at + 1 :]], at + 1),
        ([*LINES[:at], *LINES[at + 1 :]], at),
        ([*LINES[:at], LINES[at + 1], LINES[at], *LINES[at + 2 :]], at),
        ([*LINES[: at + 1], *LINES[at:]], at + 1),
        ([*LINES[:at], "{", *LINES[at + 1 :]], at),
    ):
        code, said = verified(tmp_path, lines)
        assert (code, said.split()[:2]) == (1, ["row", str(first + 1)])


def test_a_cut_tail_and_a_rewritten_chain_are_found_with_the_checkpoint(tmp_path: Path) -> None:
    assert verified(tmp_path, [*LINES[:5]])[0] == 0
    assert verified(tmp_path, [*LINES[:5]], HEAD) == (1, "row 6 is missing: the checkpoint was taken later")
    forged = ENTRIES[:3]
    for entry in ENTRIES[3:]:
        forged.append(sealed(entry.model_copy(update={"actor": "eve", "previous": forged[-1].hash})))
    assert verified(tmp_path, [*export_lines(forged)])[0] == 0
    assert verified(tmp_path, [*export_lines(forged)], HEAD) == (1, "row 12 is not the row of the checkpoint")


def test_what_cannot_be_looked_at_is_neither_good_nor_bad(tmp_path: Path) -> None:
    assert verified(tmp_path, [*LINES], str(tmp_path / "absent"))[0] == 2
    assert verified(tmp_path, [*LINES], "12:zz")[0] == 2
