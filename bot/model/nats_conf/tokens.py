"""The words of the configuration language, and what is said of a text that is not in it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class ConfError(ValueError):
    """nats-server would not load this text. The message names the place and what was expected, never the text itself: it may be a secret."""

    def __init__(self, line: int, problem: str, file: str = "") -> None:
        super().__init__(f"{file or 'the configuration'}, line {line}: {problem}")
        self.line = line
        self.problem = problem
        self.file = file


class Kind(StrEnum):
    KEY = "key"
    STRING = "string"
    INTEGER = "integer"
    FLOAT = "float"
    BOOLEAN = "boolean"
    MOMENT = "moment"
    VARIABLE = "variable"
    INCLUDE = "include"
    MAP_START = "map start"
    MAP_END = "map end"
    ARRAY_START = "array start"
    ARRAY_END = "array end"
    COMMENT = "comment"


@dataclass(frozen=True, slots=True)
class Token:
    """`text` is the content, unescaped and without quotes; `start` and `end` are offsets of what is written, with its quotes."""

    kind: Kind
    text: str
    start: int
    end: int
