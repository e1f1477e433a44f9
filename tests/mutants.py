"""Mutants of what mutmut leaves alone, which is where the states are: properties, and what stands outside of functions. `make mutate` runs it after mutmut.

    python -m tests.mutants 'bot/model/proposal.py bot/model/execution.py' tests/unit/model/test_states.py

Each is a module with one thing changed: a text, a number, an operator, an argument, an element fewer. A process of its own imports it in place of the module,
so no file is written. It is killed where one of the tests fails or none ends in time; what survives is printed.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any, Final, TypeVar

T = TypeVar("T")

SECONDS: Final = 120
"""For the tests of one mutant; they take seconds."""
LEFT_ALONE: Final = {"staticmethod", "classmethod"}
"""Decorators under which mutmut looks itself (mutmut 3.8.1, mutation/file_mutation.py, _skip_node_and_children)."""
OPPOSITE: Final[dict[type[ast.AST], type[ast.AST]]] = {
    ast.And: ast.Or,
    ast.Or: ast.And,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
}
PYTEST: Final = [
    "-x",
    "-q",
    "-pno:cacheprovider",
    "-pno:rerunfailures",
    "--noconftest",
    "-oaddopts=--import-mode=importlib",
]
"""As in pyproject.toml, [tool.mutmut]; the fixtures that all tests share start servers."""
WARM: Final = ("pydantic", "pyotp", "pytest", "sqlmodel", "structlog")
"""Imported once, and by no mutant again. Plugins of pytest are not: it insists on importing them itself."""


@dataclass(frozen=True)
class Mutant:
    module: str
    line: int
    was: str
    now: str
    source: str

    def __str__(self) -> str:
        return f"{self.module}:{self.line}: {self.was}  ->  {self.now}"


class Instead(MetaPathFinder, InspectLoader):
    """Imports the mutant in place of its module."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        del path, target
        return spec_from_loader(fullname, self) if fullname == self._mutant.module else None

    def get_source(self, fullname: str) -> str:
        del fullname
        return self._mutant.source


class _Swap(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old, self._new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self._new if node is self._old else self.generic_visit(node)


def mutants(path: Path) -> Iterator[Mutant]:
    """Yield every mutant of a file's properties and of what stands outside of its functions."""
    module = ".".join(path.with_suffix("").parts)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for old in [node for root in _roots(tree.body) for node in _expressions(root)]:
        for new in _changed(old):
            _Swap(old, new).visit(tree)
            source = ast.unparse(ast.fix_missing_locations(tree))
            _Swap(new, old).visit(tree)
            yield Mutant(module, old.lineno, ast.unparse(old), ast.unparse(new), source)


def _roots(body: Sequence[ast.stmt]) -> Iterator[ast.AST]:
    for statement in body:
        match statement:
            case ast.ClassDef():
                yield from _roots(statement.body)
            case ast.FunctionDef() | ast.AsyncFunctionDef() if statement.decorator_list:
                names = {one.id for one in statement.decorator_list if isinstance(one, ast.Name)}
                if not names & LEFT_ALONE:
                    yield from statement.body
            case ast.Assign(targets=[ast.Name(id="__all__")]) | ast.Assign(value=ast.Subscript()):
                pass  # names for importing, and of types
            case ast.Assign(value=value) | ast.AnnAssign(value=ast.expr() as value):
                yield value
            case _:
                pass


def _expressions(node: ast.AST) -> Iterator[ast.expr]:
    """Yield what has a value below a node: neither docstrings nor annotations."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.expr):
        yield node
    for name, field in ast.iter_fields(node):
        if name != "annotation":
            for child in field if isinstance(field, list) else [field]:
                if isinstance(child, ast.AST):
                    yield from _expressions(child)


def _changed(node: ast.expr) -> Iterator[ast.expr]:
    match node:
        case ast.Constant(value=value):
            yield from _other_constants(value)
        case ast.Tuple(elts=elements) | ast.List(elts=elements) | ast.Set(elts=elements):
            for fewer in _fewer(elements):
                yield type(node)(elts=fewer)
        case ast.Dict(keys=keys, values=values):
            for less, rest in zip(_fewer(keys), _fewer(values), strict=True):
                yield ast.Dict(less, rest)
        case ast.Call(func=function, args=args, keywords=named):
            yield from (ast.Call(function, fewer, named) for fewer in _fewer(args))
            yield from (ast.Call(function, args, fewer) for fewer in _fewer(named))
        case _:
            yield from _other_operators(node)


def _other_constants(value: object) -> Iterator[ast.expr]:
    match value:
        case bool():
            yield ast.Constant(not value)
        case int() | float():
            yield ast.Constant(value + 1)
        case str():
            yield ast.Constant(f"XX{value}XX")
        case None:
            yield ast.Constant("")
        case _:
            pass


def _other_operators(node: ast.expr) -> Iterator[ast.expr]:
    match node:
        case ast.Compare(left=left, ops=[operator], comparators=right):
            yield ast.Compare(left, [_opposite(operator)], right)
        case ast.BoolOp(op=operator, values=values):
            yield ast.BoolOp(_opposite(operator), values)
        case ast.BinOp(left=left, op=operator, right=right) if type(operator) in OPPOSITE:
            yield ast.BinOp(left, _opposite(operator), right)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield operand
        case ast.IfExp(body=body, orelse=other):
            yield from (body, other)
        case _:
            pass


def _fewer(elements: list[T]) -> Iterator[list[T]]:
    return (elements[:at] + elements[at + 1 :] for at in range(len(elements)))


def _opposite(operator: ast.AST) -> Any:
    return OPPOSITE[type(operator)]()


def _tested(mutant: Mutant | None, tests: Sequence[str]) -> int:
    """Start the tests of a mutant, or of the code as it is, in a process of their own and return its id."""
    if pid := os.fork():
        return pid
    signal.alarm(SECONDS)
    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, sys.stdout.fileno())
    os.dup2(silent, sys.stderr.fileno())
    if mutant is not None:
        sys.meta_path.insert(0, Instead(mutant))
    os._exit(importlib.import_module("pytest").main([*PYTEST, *tests]))


def survivors(found: Sequence[Mutant], tests: Sequence[str], jobs: int) -> list[Mutant]:
    """Return the mutants that no test notices."""
    running: dict[int, Mutant] = {}
    survived: list[Mutant] = []

    def collect() -> None:
        pid, status = os.wait()
        mutant = running.pop(pid)
        if os.waitstatus_to_exitcode(status) == 0:
            survived.append(mutant)

    for mutant in found:
        if len(running) == jobs:
            collect()
        running[_tested(mutant, tests)] = mutant
    while running:
        collect()
    return survived


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("files", help="patterns of the files to change, from here")
    asked.add_argument("tests", nargs="+", help="what pytest is to run")
    asked.add_argument("--jobs", type=int, default=2)
    given = asked.parse_args()
    paths = [path for pattern in given.files.split() for path in sorted(Path().glob(pattern))]
    found = [mutant for path in paths for mutant in mutants(path)]
    for name in WARM:
        importlib.import_module(name)
    _, status = os.waitpid(_tested(None, given.tests), 0)
    if not found or status != 0:
        sys.exit("There is nothing to change, or the tests fail by themselves.")
    left = survivors(found, given.tests, given.jobs)
    print(*left, f"{len(found) - len(left)} of {len(found)} killed: {given.files}", sep="\n")


if __name__ == "__main__":
    main()
