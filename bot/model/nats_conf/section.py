"""Reads the settings of one block: by any of their names, in any case, in the units the server accepts (server/opts.go, nats-server 2.15.1)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from bot.model.nats_conf.tree import Block, Node, Value, Variable

T = TypeVar("T")

Setting = T | Variable | None
"""A setting's value; a `Variable` where it stands in an environment that is not known here; None where it is not set."""

_DURATION: Final = re.compile(r"[-+]?((\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h))+")
_PART: Final = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_SECONDS: Final = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_SIZE: Final = re.compile(r"([-+]?\d+)([KMGT])")
_POWERS: Final = {"K": 10, "M": 20, "G": 30, "T": 40}
"""Sizes in quotes know these four, binary and in capitals (server/opts.go, getStorageSize); without quotes the language itself knows more."""


def seconds_of(text: str) -> float | None:
    """Return the seconds of a Go duration such as `1m30s`; None for anything else."""
    if text in {"0", "+0", "-0"}:
        return 0.0
    if not _DURATION.fullmatch(text):
        return None
    found = sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    return -found if text.startswith("-") else found


class Section:
    """One block. A value of the wrong kind is None and a problem: the server refuses a configuration that has one."""

    def __init__(self, block: Block, problems: list[str], path: str = "") -> None:
        self._nodes = {key.lower(): node for key, node in block.items()}
        self._names = tuple(block)
        self._problems = problems
        self._path = path

    @property
    def names(self) -> tuple[str, ...]:
        """The keys as written."""
        return self._names

    def node(self, *names: str) -> Node | None:
        """Return the value and its place."""
        return next((self._nodes[name] for name in names if name in self._nodes), None)

    def text(self, *names: str) -> Setting[str]:
        return self._read(names, lambda value: value if isinstance(value, str) else None, "a text")

    def number(self, *names: str) -> Setting[int]:
        return self._read(names, _number, "an integer")

    def flag(self, *names: str) -> Setting[bool]:
        return self._read(names, lambda value: value if isinstance(value, bool) else None, "true or false")

    def bytes(self, *names: str) -> Setting[int]:
        """Return a size in bytes."""
        return self._read(names, _size, "a size such as 10Gi")

    def seconds(self, *names: str) -> Setting[float]:
        """Return a duration; a bare number is seconds."""
        return self._read(names, _seconds, "a duration such as 30s")

    def texts(self, *names: str) -> Setting[tuple[str, ...]]:
        """Return a list of texts, or of the keys of a map."""
        return self._read(names, _texts, "a list of texts")

    def section(self, *names: str) -> Section | None:
        """Return a block inside this one; None where it is no block."""
        node = self.node(*names)
        if node is None or not isinstance(node.value, Mapping):
            return None
        return Section(node.value, self._problems, f"{self._path}{names[0]}.")

    def _read(self, names: tuple[str, ...], read: Callable[[Value], T | None], expected: str) -> Setting[T]:
        node = self.node(*names)
        if node is None:
            return None
        if isinstance(node.value, Variable):
            return node.value
        found = read(node.value)
        if found is None:
            self._problems.append(f"{self._path}{names[0]} is not {expected}")
        return found


def _number(value: Value) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _size(value: Value) -> int | None:
    if isinstance(value, str):
        found = _SIZE.fullmatch(value)
        return int(found[1]) << _POWERS[found[2]] if found else (None if value else 0)
    return _number(value)


def _seconds(value: Value) -> float | None:
    if isinstance(value, str):
        return seconds_of(value)
    number = _number(value)
    return None if number is None else float(number)


def _texts(value: Value) -> tuple[str, ...] | None:
    if isinstance(value, Mapping):
        return tuple(value)
    if not isinstance(value, tuple):
        return (value,) if isinstance(value, str) else None
    found = tuple(node.value for node in value if isinstance(node.value, str))
    return found if len(found) == len(value) else None
