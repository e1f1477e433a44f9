"""No kind of audit row is without a demand that it answers and a test that sees it (tests/audit_census.py)."""

from __future__ import annotations

import ast
from collections import Counter

from bot.model.audit_kinds import AUDIT_KINDS
from tests.audit_census import CENSUS, TESTS


def test_every_kind_of_row_answers_one_demand() -> None:
    assert Counter(kind for kinds in CENSUS.values() for kind in kinds) == Counter(AUDIT_KINDS.keys())


def test_every_test_that_the_census_names_exists() -> None:
    for file, name in {named for kinds in CENSUS.values() for named in kinds.values()}:
        tree = ast.parse((TESTS / file).read_text(encoding="utf-8"))
        assert name in {one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)}, name
