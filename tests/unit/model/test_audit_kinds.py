"""The table of audit kinds is what the bot writes: nothing more, nothing less."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import bot
from bot.model import AlertState, ExecutionState, ProposalState, StageState
from bot.model.audit_kinds import AUDIT_KINDS, flaw_of

FLOW = Path(bot.__file__).parent / "flow"
FAMILIES = {kind.partition(".")[0] for kind in AUDIT_KINDS}
STATES = {"proposal": ProposalState, "execution": ExecutionState, "stage": StageState}
"""Families whose kind is made of a state, and the calls that name it."""
ENDING = {"proposal": {"end_proposal"}, "execution": {"end"}, "stage": {"stage"}}


def trees() -> Iterator[ast.Module]:
    database = FLOW.parent / "adapters" / "database"
    for path in [*FLOW.rglob("*.py"), FLOW.parent / "model" / "audit.py", *database.glob("*.py")]:
        yield ast.parse(path.read_text(encoding="utf-8"))


def name_of(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def states_named(tree: ast.Module) -> Iterator[str]:
    """Kinds of the form `family.{state}`: the states that are named where such a row is written, also on the way into a variable."""
    for family, states in STATES.items():
        functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
        for function in functions:
            if not any(isinstance(n, ast.Call) and name_of(n) in ENDING[family] for n in ast.walk(function)):
                continue
            for call in ast.walk(function):
                if isinstance(call, ast.Call) and name_of(call) in ENDING[family]:
                    named = [*call.args, *(k.value for k in call.keywords)]
                    if any(isinstance(a, ast.Name) and a.id == "state" for a in named):
                        # The call is given a variable: what the function assigns to it counts.
                        named += [
                            v
                            for n in ast.walk(function)
                            if isinstance(n, ast.Assign) and any(getattr(t, "id", "") == "state" for t in n.targets)
                            for v in ast.walk(n.value)
                            if isinstance(v, ast.expr)
                        ]
                    for one in named:
                        if isinstance(one, ast.Attribute) and getattr(one.value, "id", "") == states.__name__:
                            yield f"{family}.{states[one.attr].value}"


def written() -> set[str]:
    found = {f"alert.{state.value}" for state in AlertState}
    for tree in trees():
        found |= set(states_named(tree))
        for node in ast.walk(tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                family, dot, event = node.value.partition(".")
                if dot and family in FAMILIES and event.replace("_", "").isalpha():
                    found.add(node.value)
            if isinstance(node, ast.Call) and name_of(node) == "AuditDraft":
                found |= {
                    k.value.value
                    for k in node.keywords
                    if k.arg == "kind" and isinstance(k.value, ast.Constant) and isinstance(k.value.value, str)
                }
    return found


def test_every_kind_that_is_written_is_in_the_table_and_the_other_way_round() -> None:
    assert written() == set(AUDIT_KINDS)


@pytest.mark.parametrize("name", AUDIT_KINDS)
def test_every_kind_says_what_it_means_in_a_sentence_and_names_no_key_twice(name: str) -> None:
    kind = AUDIT_KINDS[name]
    assert kind.meaning.endswith(".")
    keys = [*kind.keys, *kind.optional]
    assert len(keys) == len(set(keys))


def test_a_row_of_an_unknown_kind_with_a_missing_or_another_key_is_told() -> None:
    assert flaw_of("bot.stopped", ["version"]) == ""
    assert flaw_of("click.refused", ["code", "team"]) == ""
    assert "nobody.knows" in flaw_of("nobody.knows", [])
    assert "version" in flaw_of("bot.stopped", [])
    assert "password" in flaw_of("bot.stopped", ["version", "password"])
