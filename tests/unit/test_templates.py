"""No text of others is ever a template (reference/safety.md T16): there is no template engine, and every format string is a constant of ours."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
ENGINES = {"jinja2", "mako", "django", "chevron", "pystache", "string.Template", "string.Formatter"}
RUNS_TEXT = {"eval", "exec", "compile", "__import__"}
OURS = {
    ("bot/adapters/database/postgresql.py", "sql.SQL('LISTEN {}')"): "psycopg's own composition, of a quoted name",
    ("bot/adapters/database/postgresql.py", "sql.SQL('SET {} = {}')"): "psycopg's own composition, of two quoted parts",
    ("bot/adapters/database/in_body.py", "POSTGRESQL_JSON"): "a constant of rows.py",
    ("bot/lab/postgres.py", "sql.SQL(made)"): "a literal of the line above, composed by psycopg",
    ("bot/lab/postgres.py", "sql.SQL('DROP DATABASE {} WITH (FORCE)')"): "psycopg's own composition, of a quoted name",
    ("bot/adapters/database/rows.py", "POSTGRESQL_JSON"): "a constant of the module",
    ("bot/adapters/nats/advisory.py", "kind.summary"): "a column of the module's table of advisories",
    ("runbooks/_audit_guidance.py", "line"): "a line of the module's table of guidance",
    ("runbooks/_stream_checks.py", "what"): "a phrase of _lacking, see below",
    ("runbooks/_mesh_delivery.py", "EXPLAINED[reason]"): "a constant of the module",
}
"""Format strings that are no literal at the call, and what they are."""


def sources() -> Iterator[tuple[str, ast.Module]]:
    for folder in ("bot", "runbooks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def formats(tree: ast.Module) -> Iterator[str]:
    """The receivers of `.format` and `.format_map` that are no literal."""
    for node in ast.walk(tree):
        called = node.func if isinstance(node, ast.Call) else None
        if isinstance(called, ast.Attribute) and called.attr in {"format", "format_map", "vformat"}:
            receiver = called.value
            literal = isinstance(receiver, ast.Constant) and isinstance(receiver.value, str)
            yield from () if literal else (ast.unparse(receiver),)


def test_every_format_string_is_a_literal_or_a_constant_that_is_named_here() -> None:
    assert {(path, receiver) for path, tree in sources() for receiver in formats(tree)} == set(OURS)


def test_a_phrase_that_is_a_format_string_is_a_literal_wherever_it_is_made() -> None:
    tree = dict(sources())["runbooks/_stream_checks.py"]
    makes = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "_lacking")
    phrases = [
        n.value for n in ast.walk(makes) if isinstance(n, ast.Assign) and isinstance(n.targets[0], ast.Subscript)
    ]
    assert len(phrases) > 1
    assert all(isinstance(phrase, ast.Constant) and "{}" in str(phrase.value) for phrase in phrases)


def test_there_is_no_template_engine_and_nothing_runs_text() -> None:
    found: set[str] = set()
    for _, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names} | {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found |= {node.module.partition(".")[0], *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                found.add(f"{node.func.id}()")
    assert found & (ENGINES | {f"{name}()" for name in RUNS_TEXT}) == set()
    assert "ast" in found or "json" in found, "the imports are really looked at"
