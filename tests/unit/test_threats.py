"""The threat table: every threat has a row, and every row a test that exists or the word open with its reason."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
THREATS = [f"T{number}" for number in range(1, 33)]
OPEN: set[str] = set()
"""Threats whose guard no test shows. Shorter is better; a threat joins it only with a reason in its row."""

TEST_ID = re.compile(r"`(tests/[\w/]+\.py)::(test_\w+)`")


def rows() -> list[tuple[str, ...]]:
    lines = (ROOT / "deploy" / "threats.md").read_text(encoding="utf-8").splitlines()
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in lines if re.match(r"\| T\d", line)]


@cache
def names_in(path: str) -> frozenset[str]:
    """The functions that stand at the top of a file, by their names."""
    if not (ROOT / path).is_file():
        return frozenset()
    body = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    return frozenset(node.name for node in body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_threat_has_exactly_one_row_in_order() -> None:
    assert [row[0] for row in rows()] == THREATS


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_threat_has_a_guard_and_tests_that_exist_or_is_open_with_a_reason(row: tuple[str, ...]) -> None:
    _, threat, guard, shown, missing = row
    assert threat
    assert guard
    if shown == "**open**":
        assert missing
        return
    named = TEST_ID.findall(shown)
    assert len(named) == len(shown.split("<br>"))
    assert [f"{path}::{name}" for path, name in named if name not in names_in(path)] == []


def test_the_open_threats_are_known() -> None:
    assert {row[0] for row in rows() if row[3] == "**open**"} == OPEN
