"""Builds the tree of a configuration out of its tokens, as `conf/parse.go` of nats-server does: later keys win, `$VARIABLES` and `include` resolved."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from bot.model.nats_conf.scanner import scan
from bot.model.nats_conf.tokens import ConfError, Kind, Token

MOST_INCLUDES: Final = 64
"""Files one configuration may be made of; the server has no limit and would read a file that includes itself for ever."""
DEEPEST: Final = 100
"""Maps and arrays inside each other; the deepest block of the server's own options is 6 deep."""

_UNITS: Final = {
    unit + suffix: base**power
    for power, unit in enumerate("kmgtpe", start=1)
    for suffix, base in (("", 1000), ("b", 1024), ("i", 1024), ("ib", 1024))
}
"""`k` is decimal, `kb`, `ki` and `kib` are binary (conf/parse.go, processItem)."""
_INTEGER: Final = re.compile(r"([\d-]+)(.*)", re.DOTALL)
_BCRYPT: Final = "2a$"
"""What follows the `$` of a bcrypt hash, which needs no quotes (conf/parse.go, bcryptPrefix)."""
_FROM_ENVIRONMENT: Final = "pk"


@dataclass(frozen=True, slots=True)
class Variable:
    """A `$NAME` that neither the configuration nor the known environment defines."""

    name: str

    def __str__(self) -> str:
        return f"${self.name}"


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it is written: offsets into the text of `file`, which is empty for the configuration itself."""

    value: Value
    start: int
    end: int
    file: str = ""
    reference: str | None = None
    """Name of the variable that stands here; the value is what it refers to."""


Block = Mapping[str, Node]
Scalar = str | int | float | bool | datetime
Value = Scalar | Variable | Block | tuple[Node, ...]

Include = Callable[[str], str | None]
"""Returns the text of an included file by its path, relative to the configuration's folder; None where it can't be read."""


@dataclass(frozen=True, slots=True)
class Assignment:
    """What is written as a value at the keys that lead to it, in the order of the text: a scalar, a variable that nobody defines, or a size that the
    server drops. A key that is set twice has two.
    """

    keys: tuple[str, ...]
    node: Node


@dataclass
class Tree:
    """What a text says. `root` is what the server keeps, `assignments` everything that is written in it."""

    root: dict[str, Node] = field(default_factory=dict[str, Node])
    assignments: list[Assignment] = field(default_factory=list[Assignment])
    comments: list[Token] = field(default_factory=list[Token])
    missing: list[str] = field(default_factory=list[str])
    """Included files that could not be read."""
    unresolved: list[str] = field(default_factory=list[str])
    """Variables that are not defined."""
    definitions: dict[tuple[str, int], set[tuple[str, ...]]] = field(
        default_factory=dict[tuple[str, int], set[tuple[str, ...]]]
    )
    """For each value that a variable refers to, by file and offset: the keys it is used at."""


def no_include(path: str) -> None:
    """Know no included file."""
    del path


def grow(text: str, environment: Mapping[str, str], include: Include = no_include) -> Tree:
    """Return the tree of a text. Raises `ConfError`."""
    return _Grower(Tree(), environment, include, "", ()).grow(text)


class _Grower:
    def __init__(
        self, tree: Tree, environment: Mapping[str, str], include: Include, file: str, pending: tuple[str, ...]
    ) -> None:
        self._tree = tree
        self._environment = environment
        self._include = include
        self._file = file
        self._pending = pending
        """Files and environment variables that are being read, this one's causes."""
        self._keys: list[str] = []
        self._contexts: list[dict[str, Node] | list[Node]] = [{}]
        self._starts: list[int] = []
        self._text = ""

    def grow(self, text: str) -> Tree:
        self._text = text
        previous: Token | None = None
        for token in scan(text, self._file):
            if token.kind is Kind.COMMENT:
                self._tree.comments += [] if self._file else [token]
                continue
            previous = token
            self._process(token)
        # One closing brace too many, as JSON-like files have it, is allowed and reads as a key.
        if previous is not None and previous.kind is Kind.KEY and previous.text != "}":
            raise self._error("a key without a value", previous)
        root = self._contexts[0]
        if isinstance(root, dict) and not self._file:
            self._tree.root = root
        return self._tree

    @property
    def root(self) -> dict[str, Node]:
        root = self._contexts[0]
        return root if isinstance(root, dict) else {}

    def _process(self, token: Token) -> None:
        match token.kind:
            case Kind.KEY:
                self._keys.append(token.text)
            case Kind.MAP_START | Kind.ARRAY_START:
                if len(self._contexts) > DEEPEST:
                    raise self._error(f"blocks nested deeper than {DEEPEST}", token)
                self._contexts.append({} if token.kind is Kind.MAP_START else [])
                self._starts.append(token.start)
            case Kind.MAP_END | Kind.ARRAY_END:
                made = self._contexts.pop()
                value = made if isinstance(made, dict) else tuple(made)
                self._set(Node(value, self._starts.pop(), token.end, self._file))
            case Kind.VARIABLE:
                self._refer(token)
            case Kind.INCLUDE:
                self._read(token)
            case _:
                scalar = self._scalar(token)
                if scalar is None:
                    self._note(Node(token.text, token.start, token.end, self._file))
                else:
                    self._assign(Node(scalar, token.start, token.end, self._file))

    def _assign(self, node: Node) -> None:
        self._note(node)
        self._set(node)

    def _note(self, node: Node) -> None:
        self._tree.assignments.append(Assignment(tuple(self._keys), node))

    def _set(self, node: Node) -> None:
        context = self._contexts[-1]
        if isinstance(context, list):
            context.append(node)
        elif self._keys:
            context[self._keys.pop()] = node
        else:
            raise ConfError(self._line(node.start), "a value without a key", self._file)

    def _scalar(self, token: Token) -> Scalar | None:
        """Return the token's value; None for a size with a unit that does not exist, which the server drops."""
        match token.kind:
            case Kind.BOOLEAN:
                return token.text in {"true", "yes", "on"}
            case Kind.INTEGER:
                return self._integer(token)
            case Kind.FLOAT:
                value = float(token.text)
                if value in {float("inf"), float("-inf")}:
                    raise self._error("a number out of range", token)
                return value
            case Kind.MOMENT:
                try:
                    return datetime.strptime(token.text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
                except ValueError:
                    raise self._error("a date that can't be", token) from None
            case _:
                return token.text

    def _integer(self, token: Token) -> int | None:
        found = _INTEGER.fullmatch(token.text)
        digits, unit = found.groups() if found else ("", "")
        if not digits.isascii() or not digits.lstrip("-").isdigit() or "-" in digits[1:]:
            raise self._error("expected an integer", token)
        number = int(digits)
        if not -(2**63) <= number < 2**63:
            raise self._error("an integer out of range", token)
        if not unit:
            return number
        factor = _UNITS.get(unit.lower())
        # Go's 64-bit product wraps around.
        return None if factor is None else (number * factor + 2**63) % 2**64 - 2**63

    def _refer(self, token: Token) -> None:
        name = token.text
        if name.startswith(_BCRYPT):
            self._assign(Node(f"${name}", token.start, token.end, self._file))
            return
        found = next((c[name] for c in reversed(self._contexts) if isinstance(c, dict) and name in c), None)
        if found is not None:
            self._tree.definitions.setdefault((found.file, found.start), set()).add(tuple(self._keys))
            value = found.value
        else:
            value = self._outside(name, token)
            if isinstance(value, Variable):
                self._note(Node(value, token.start, token.end, self._file, name))
        self._set(Node(value, token.start, token.end, self._file, name))

    def _outside(self, name: str, token: Token) -> Value:
        """Return the value of an environment variable, which is read as configuration too: `10Gi` is a number there."""
        if name not in self._environment:
            self._tree.unresolved.append(name)
            return Variable(name)
        if name in self._pending:
            raise self._error("an environment variable that refers to itself", token)
        inner = _Grower(Tree(), self._environment, no_include, f"${name}", (*self._pending, name))
        self._tree.unresolved += inner.grow(f"{_FROM_ENVIRONMENT}={self._environment[name]}").unresolved
        node = inner.root.get(_FROM_ENVIRONMENT)
        if node is None:
            raise self._error("an environment variable without a value", token)
        return node.value

    def _read(self, token: Token) -> None:
        path = posixpath.normpath(f"{posixpath.dirname(self._file) or '.'}/{token.text}")
        if path in self._pending or len(self._pending) >= MOST_INCLUDES:
            raise self._error("a file that includes itself", token)
        text = self._include(path)
        if text is None:
            self._tree.missing.append(path)
            return
        inner = _Grower(self._tree, self._environment, self._include, path, (*self._pending, path))
        inner.grow(text)
        for key, node in inner.root.items():
            self._keys.append(key)
            self._set(node)

    def _line(self, offset: int) -> int:
        return self._text.count("\n", 0, offset) + 1

    def _error(self, problem: str, token: Token) -> ConfError:
        return ConfError(self._line(token.start), problem, self._file)
