"""The rules of deploy/verify_audit.py, one by one; tests/integration/test_verify_script.py runs it as a stranger would."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

import bot
from bot.flow.audit import export_lines
from bot.model import canonical_json, digest
from tests.unit.flow.test_audit import chain, sealed

ENTRIES = chain(6)
LINES = list(export_lines(ENTRIES))
NO_ENTRY = "is no audit entry"
OUT_OF_PLACE = "is altered, missing or out of place"


def loaded() -> Any:
    """The script as a module; it is none that can be imported, because whoever verifies copies the file."""
    file = Path(bot.__file__).parents[1] / "deploy" / "verify_audit.py"
    spec = importlib.util.spec_from_file_location("deploy.verify_audit", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SCRIPT = loaded()


def forged(line: str, **change: object) -> str:
    """The line with other values and the hash that is right for them."""
    row = json.loads(line) | change
    del row["hash"]
    return canonical_json(row | {"hash": digest(row)})


def test_a_whole_chain_has_nothing_wrong_and_all_its_rows() -> None:
    assert SCRIPT.problem(LINES, None) == (None, 6)
    assert SCRIPT.problem([], None) == (None, 0)


def test_the_order_of_keys_in_an_export_means_nothing() -> None:
    turned = [json.dumps(dict(reversed(json.loads(line).items()))) for line in LINES]
    assert turned != LINES
    assert SCRIPT.problem(turned, None) == (None, 6)


def test_blank_lines_are_no_rows() -> None:
    assert SCRIPT.problem([LINES[0] + "\n", "\n", "  \n", *LINES[1:]], None) == (None, 6)


@pytest.mark.parametrize("field", json.loads(LINES[0]))
def test_a_field_that_is_missing_or_altered_is_found_at_its_row(field: str) -> None:
    row = json.loads(LINES[2])
    without = canonical_json({name: value for name, value in row.items() if name != field})
    other = canonical_json(row | {field: "forged"})
    for line in (without, other):
        wrong, rows = SCRIPT.problem([*LINES[:2], line, *LINES[3:]], None)
        assert (wrong, rows) == (NO_ENTRY if field == "hash" and line is without else OUT_OF_PLACE, 2)


def test_a_missing_field_is_found_however_right_the_hash_is() -> None:
    for field in json.loads(LINES[0]).keys() - {"hash"}:
        row = json.loads(LINES[0])
        del row[field], row["hash"]
        assert SCRIPT.problem([canonical_json(row | {"hash": digest(row)})], None) == (OUT_OF_PLACE, 0)


def test_a_field_too_many_is_found_however_right_the_hash_is() -> None:
    assert SCRIPT.problem([forged(LINES[0], more=1)], None) == (OUT_OF_PLACE, 0)


def test_a_row_that_does_not_continue_the_one_before_is_found() -> None:
    assert SCRIPT.problem([*LINES[:2], forged(LINES[2], actor="eve"), *LINES[3:]], None) == (OUT_OF_PLACE, 3)
    assert SCRIPT.problem([forged(LINES[0], previous="1" * 64)], None) == (OUT_OF_PLACE, 0)
    assert SCRIPT.problem([forged(LINES[0], seq=2)], None) == (OUT_OF_PLACE, 0)
    assert SCRIPT.problem([*LINES[:2], forged(LINES[2], seq=4)], None) == (OUT_OF_PLACE, 2)
    assert SCRIPT.problem([*LINES[:2], *LINES[3:]], None) == (OUT_OF_PLACE, 2)


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "null",
        "[]",
        "7",
        '"text"',
        "{}",
        "[" * 100_000,
        LINES[1].replace("{", '{"actor":"eve",', 1),
        LINES[1].replace("{", '{"hash":"","hash":"",', 1),
        LINES[1].replace("0.1", "NaN"),
        LINES[1].replace("0.1", "Infinity"),
        LINES[1].replace("0.1", '"\\ud800"'),
    ],
)
def test_a_line_that_is_no_entry_is_told_with_how_many_rows_verify_before_it(line: str) -> None:
    assert SCRIPT.problem([LINES[0], line, *LINES[2:]], None) == (NO_ENTRY, 1)


def test_an_object_whose_key_stands_twice_is_none() -> None:
    assert SCRIPT.once([("a", 1), ("b", 1)]) == {"a": 1, "b": 1}
    with pytest.raises(ValueError, match=r"^a key stands twice$"):
        SCRIPT.once([("a", 1), ("a", 1)])


def test_a_checkpoint_finds_a_cut_tail_and_a_rewritten_chain() -> None:
    kept = (4, ENTRIES[3].hash)
    assert SCRIPT.problem(LINES, kept) == (None, 6)
    assert SCRIPT.problem(LINES[:4], kept) == (None, 4)
    assert SCRIPT.problem(LINES[:3], kept) == ("is missing: the checkpoint was taken later", 3)
    new = ENTRIES[:2]
    for entry in ENTRIES[2:]:
        new.append(sealed(entry.model_copy(update={"actor": "eve", "previous": new[-1].hash})))
    rewritten = list(export_lines(new))
    assert SCRIPT.problem(rewritten, None) == (None, 6)
    assert SCRIPT.problem(rewritten, kept) == ("is not the row of the checkpoint", 3)


def test_a_checkpoint_is_a_row_with_its_hash() -> None:
    assert SCRIPT.checkpoint(f"12:{'a' * 64}") == (12, "a" * 64)


def test_a_checkpoint_is_the_last_whole_line_of_a_file(tmp_path: Path) -> None:
    file = tmp_path / "3:checkpoints"
    lines = [f'{{"at":"ü","hash":"{name * 64}","seq":{seq}}}' for seq, name in ((8, "a"), (9, "b"))]
    file.write_text("\n".join([*lines, '{"at":nu']), "utf-8")
    assert SCRIPT.checkpoint(str(file)) == (9, "b" * 64)
    file.write_text(lines[0] + "\n", "utf-8")
    assert SCRIPT.checkpoint(str(file)) == (8, "a" * 64)


@pytest.mark.parametrize("text", [f"12:{'a' * 63}", f"12:{'a' * 65}", f"x:{'a' * 64}", "a" * 64, "12"])
def test_what_is_neither_a_row_with_its_hash_nor_a_file_is_not_looked_at(text: str) -> None:
    with pytest.raises(OSError, match="No such file"):
        SCRIPT.checkpoint(text)


def test_a_file_without_a_whole_line_is_no_checkpoint(tmp_path: Path) -> None:
    file = tmp_path / "checkpoints"
    file.write_text(f'{{"hash":"{"a" * 64}","seq":8}}', "utf-8")
    with pytest.raises(ValueError, match="Expecting value"):
        SCRIPT.checkpoint(str(file))
