"""Cuts a text in the configuration language of nats-server into tokens, with their places in the text.

The language is what `conf/lex.go` accepts (nats-server 2.15.1; 2.10.26 differs only in `1k5`, which it refuses and newer ones read as a string): maps with or
without `=`, `:` and `,`, arrays whose items stand on lines of their own, `#` and `//` comments, strings without quotes, sizes such as `10Gi`, `$VARIABLES`,
`include`. Its oddities are kept, because what the server loads is the truth: `[1]` is no array (the bracket belongs to the number), a lone `/` separates, a quote
ends a bare string. One difference: a NUL character is refused everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SPACES: Final = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""Go's `unicode.IsSpace`, as a character class; Python's `\\s` has four more."""

_SPACE: Final = re.compile(f"[{SPACES}]*")
_BLANK: Final = re.compile(r"[ \t]*")
_KEY: Final = re.compile(f"[^{SPACES}=:]*")
_COMMENT: Final = re.compile(r"(?:#|//)[^\r\n]*")
_BARE: Final = re.compile(r"[^\\\r\n;,\]} \t']*")
_QUOTED: Final = re.compile(r'[^"\\]*')
_PATH: Final = re.compile(r"[^\r\n;} \t']*")
_DIGITS: Final = re.compile(r"\d*")
_UNIT: Final = re.compile(r"[bBiI]*")
_ADDRESS: Final = re.compile(r"[\d.:-]*")
_DATE: Final = re.compile(r"\d\d-\d\dT\d\d:\d\d:\d\dZ")
_BLOCK_END: Final = re.compile(r"\n\)(?=\n|\Z)")
_HEX: Final = re.compile(r"[0-9a-fA-F]{2}")

_LINE_ENDS: Final = frozenset("\n\r")
_END: Final = "\0"
"""Stands for the end of the text, which holds none."""
_SEPARATORS: Final = frozenset("=:")
_KEY_ENDS: Final = _SEPARATORS | {_END}
_NUMBER_ENDS: Final = frozenset("\n\r};, \t\0")
_UNIT_STARTS: Final = frozenset("kKmMgGtTpPeE")
_ESCAPES: Final = {"t": b"\t", "n": b"\n", "r": b"\r", '"': b'"', "\\": b"\\"}
_BOOLEANS: Final = frozenset({"true", "false", "on", "off", "yes", "no"})
_YEAR_AND_DASH: Final = 5
"""Characters of `2016-`."""


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


def scan(text: str, file: str = "") -> list[Token]:
    """Return the tokens of a text. Raises `ConfError` naming `file`."""
    scanner = _Scanner(text, file)
    if (nul := text.find("\0")) >= 0:
        raise scanner.error("a NUL character can't be in it", nul)
    return scanner.run()


_State = Callable[[], "_State | None"]


class _Scanner:
    """A machine whose states are methods. Each returns the next state, or None at the end of the text; what follows a value waits on a stack."""

    def __init__(self, text: str, file: str) -> None:
        self._text = text
        self._file = file
        self._at = 0
        self._then: list[_State] = []
        self._tokens: list[Token] = []

    def run(self) -> list[Token]:
        state: _State | None = self._top
        while state is not None:
            state = state()
        return self._tokens

    def error(self, problem: str, at: int | None = None) -> ConfError:
        where = self._at if at is None else at
        return ConfError(self._text.count("\n", 0, where) + 1, problem, self._file)

    @property
    def _char(self) -> str:
        """The character ahead."""
        return self._text[self._at] if self._at < len(self._text) else _END

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        taken = found.group() if found else ""
        self._at += len(taken)
        return taken

    def _emit(self, kind: Kind, text: str, start: int) -> None:
        self._tokens.append(Token(kind, text, start, self._at))

    def _comment(self) -> bool:
        start = self._at
        if not (found := self._take(_COMMENT)):
            return False
        self._emit(Kind.COMMENT, found, start)
        return True

    def _skip(self, state: _State) -> _State:
        self._at += 1
        return state

    def _value_then(self, after: _State) -> _State:
        self._then.append(after)
        return self._value

    # Top level, and the braces around a whole file that is written like JSON.

    def _top(self) -> _State | None:
        self._take(_SPACE)
        if self._char == _END:
            return None
        if self._char == "{":
            self._then.append(self._top)
            return self._skip(self._block)
        if self._comment():
            return self._top
        return self._key_then(self._top_end)

    def _top_end(self) -> _State:
        if self._comment():
            return self._top
        if self._char in " \t/":
            return self._skip(self._top_end)
        if self._char in "\n\r;,}\0":
            return self._skip(self._top)
        raise self.error("expected the end of the line after a value")

    def _block(self) -> _State | None:
        self._take(_SPACE)
        if self._char == _END:
            return None
        if self._char == "{":
            self._then.append(self._block_end)
            return self._skip(self._block)
        if self._char == "}":
            return self._skip(self._then.pop())
        if self._comment():
            return self._block
        return self._key_then(self._block_value_end)

    def _block_value_end(self) -> _State:
        if self._comment():
            return self._block_value_end
        if self._char in " \t/":
            return self._skip(self._block_value_end)
        if self._char in "\n\r;,":
            return self._skip(self._block)
        if self._char == "}":
            return self._block_end
        raise self.error("expected the end of the line or a closing brace after a value")

    def _block_end(self) -> _State:
        if self._comment():
            return self._block
        if self._char in "\n\r \t/":
            return self._skip(self._block_end)
        if self._char in ";,":
            return self._skip(self._block)
        if self._char == "}":
            return self._skip(self._then.pop())
        raise self.error("expected a closing brace")

    def _key_then(self, after: _State) -> _State | None:
        if self._char == "/" or self._char in _SEPARATORS:
            raise self.error(f"expected a key, not {self._char!r}")
        self._then.append(after)
        if self._char in {'"', "'"}:
            return self._quoted_key(self._key_end, end_is_error=False)
        start = self._at
        key = self._take(_KEY)
        if key.lower() == "include" and self._char not in _KEY_ENDS:
            return self._include
        self._emit(Kind.KEY, key, start)
        return self._key_end

    def _key_end(self) -> _State | None:
        self._take(_SPACE)
        if self._char == _END:
            return None
        return self._skip(self._value) if self._char in _SEPARATORS else self._value

    def _quoted_key(self, after: _State, *, end_is_error: bool) -> _State | None:
        quote, start = self._char, self._at
        end = self._text.find(quote, start + 1)
        if end < 0:
            return self._cut_off(start + 1, is_error=end_is_error)
        self._at = end + 1
        self._emit(Kind.KEY, self._text[start + 1 : end], start)
        return after

    def _cut_off(self, start: int, *, is_error: bool = False) -> None:
        """The text ends inside quotes. The server takes an opening quote without anything after it for the end of the file."""
        self._at = len(self._text)
        if is_error or self._at > start:
            raise self.error("the text ends inside quotes")

    # Maps.

    def _map_key(self) -> _State | None:
        self._take(_SPACE)
        if self._char == "}":
            return self._skip(self._map_end)
        if self._comment():
            return self._map_key
        if self._char == "]" or self._char in _SEPARATORS:
            raise self.error(f"expected a key, not {self._char!r}")
        if self._char in {'"', "'"}:
            return self._quoted_key(self._map_key_end, end_is_error=True)
        if self._char == "/":
            self._at += 1
        start = self._at
        self._at += 1
        self._take(_KEY)
        if self._char == _END:
            raise self.error("the text ends inside a map")
        key = self._text[start : self._at]
        if key.lower() == "include" and self._char not in _KEY_ENDS:
            self._then.append(self._map_value_end)
            return self._include
        self._emit(Kind.KEY, key, start)
        return self._map_key_end

    def _map_key_end(self) -> _State:
        self._take(_SPACE)
        return self._skip(self._map_value) if self._char in _SEPARATORS else self._map_value

    def _map_value(self) -> _State:
        self._take(_SPACE)
        if self._char == ",":
            raise self.error("expected a value, not a comma")
        return self._skip(self._map_end) if self._char == "}" else self._value_then(self._map_value_end)

    def _map_value_end(self) -> _State:
        self._take(_BLANK)
        if self._comment():
            return self._map_value_end
        if self._char in "/;,\n\r":
            return self._skip(self._map_key)
        if self._char == "}":
            return self._skip(self._map_end)
        raise self.error("expected a new line, a comma or a closing brace after a value")

    def _map_end(self) -> _State:
        self._emit(Kind.MAP_END, "}", self._at - 1)
        return self._then.pop()

    # Arrays.

    def _array_value(self) -> _State:
        self._take(_SPACE)
        if self._comment():
            return self._array_value
        if self._char in "/,":
            raise self.error("expected an item of an array")
        return self._skip(self._array_end) if self._char == "]" else self._value_then(self._array_value_end)

    def _array_value_end(self) -> _State:
        self._take(_BLANK)
        if self._comment():
            return self._array_value_end
        if self._char in "/,\n\r":
            return self._skip(self._array_value)
        if self._char == "]":
            return self._skip(self._array_end)
        raise self.error("expected a comma, a new line or a closing bracket after an item")

    def _array_end(self) -> _State:
        self._emit(Kind.ARRAY_END, "]", self._at - 1)
        return self._then.pop()

    # Values.

    def _value(self) -> _State | None:
        self._take(_BLANK)
        char = self._char
        if char in _LINE_ENDS or char == ".":
            raise self.error("expected a value")
        if char in {"[", "{"}:
            self._at += 1
            is_map = char == "{"
            self._emit(Kind.MAP_START if is_map else Kind.ARRAY_START, char, self._at - 1)
            return self._map_key if is_map else self._array_value
        if char == "'":
            return self._literal()
        if char == '"':
            return self._string()
        if char == "(":
            return self._block_string()
        if char == "-" or char.isdecimal():
            return self._number()
        return self._bare(self._at)

    def _literal(self) -> _State | None:
        start = self._at
        end = self._text.find("'", start + 1)
        if end < 0:
            return self._cut_off(start + 1)
        self._at = end + 1
        self._emit(Kind.STRING, self._text[start + 1 : end], start)
        return self._then.pop()

    def _string(self) -> _State | None:
        start = self._at
        self._at += 1
        content = b""
        while True:
            part = self._at
            content += self._take(_QUOTED).encode("utf-8", "replace")
            if self._char == _END:
                return self._cut_off(part)
            if self._char == '"':
                self._at += 1
                self._emit(Kind.STRING, _decoded(content), start)
                return self._then.pop()
            content += self._escaped()

    def _bare(self, start: int) -> _State:
        """A string without quotes, a boolean or a variable: until a blank, a line's end, `;`, `,`, `]`, `}` or a single quote, which it swallows."""
        content = self._text[start : self._at].encode("utf-8", "replace")
        plain = True
        while True:
            content += self._take(_BARE).encode("utf-8", "replace")
            if self._char != "\\":
                break
            content += self._escaped()
            plain = False
        text = _decoded(content)
        if self._char == "'":
            self._at += 1
            self._emit(Kind.STRING, text, start)
        elif plain and text.lower() in _BOOLEANS:
            self._emit(Kind.BOOLEAN, text.lower(), start)
        elif plain and text.startswith("$"):
            self._emit(Kind.VARIABLE, text[1:], start)
        else:
            self._emit(Kind.STRING, text, start)
        return self._then.pop()

    def _escaped(self) -> bytes:
        """Take an escape sequence; one such as `x41` is one byte of UTF-8."""
        self._at += 1
        kind = self._char
        self._at += 1
        if kind == "x" and (found := self._take(_HEX)):
            return bytes.fromhex(found)
        if kind not in _ESCAPES:
            raise self.error(r"expected one of the escapes \xXX, \t, \n, \r, \" and \\", self._at - 1)
        return _ESCAPES[kind]

    def _block_string(self) -> _State:
        start = self._at
        end = _BLOCK_END.search(self._text, start + 1)
        if end is None:
            raise self.error("the text ends inside parentheses: the closing one stands on a line of its own")
        self._at = end.end()
        # At the very end of a file, the server takes the parenthesis for content.
        closing = self._at - 1 if self._at < len(self._text) else self._at
        self._emit(Kind.STRING, self._text[start + 1 : closing], start)
        return self._then.pop()

    def _number(self) -> _State:
        """An integer with or without unit, a float, a date, an address; anything else that starts with a digit is a bare string."""
        start = self._at
        negative = self._char == "-"
        self._at += negative
        if not self._take(_DIGITS):
            raise self.error("expected a digit")
        if self._char == "-" and not negative:
            return self._moment(start)
        if self._char == ".":
            return self._float(start)
        if self._char in _UNIT_STARTS:
            self._at += 1
            self._take(_UNIT)
            if self._char not in _NUMBER_ENDS:
                return self._bare(start)
        elif not negative and self._char not in _NUMBER_ENDS:
            self._at += 1
            return self._bare(start)
        self._emit(Kind.INTEGER, self._text[start : self._at], start)
        return self._then.pop()

    def _moment(self, start: int) -> _State:
        self._at += 1
        if self._at - start != _YEAR_AND_DASH or not self._take(_DATE):
            raise self.error("expected a date like 2016-05-04T18:53:41Z")
        self._emit(Kind.MOMENT, self._text[start : self._at], start)
        return self._then.pop()

    def _float(self, start: int) -> _State:
        self._at += 1
        if not self._take(_DIGITS):
            raise self.error("expected a digit after the point")
        kind = Kind.FLOAT
        if self._char == ".":
            self._take(_ADDRESS)
            kind = Kind.STRING
        self._emit(kind, self._text[start : self._at], start)
        return self._then.pop()

    def _include(self) -> _State:
        self._take(_BLANK)
        start, char = self._at, self._char
        if char.isdecimal() or char in "-[{(\\\n\r":
            raise self.error("expected the path of an included file")
        if char in {"'", '"'}:
            end = self._text.find(char, start + 1)
            if end < 0:
                raise self.error("the text ends inside quotes")
            self._at = end + 1
            self._emit(Kind.INCLUDE, self._text[start + 1 : end], start)
            return self._then.pop()
        path = self._take(_PATH)
        self._at += self._char == "'"
        self._emit(Kind.INCLUDE, path, start)
        return self._then.pop()


def _decoded(content: bytes) -> str:
    """Return the text; each byte that is no UTF-8 becomes U+FFFD, as in the JSON that Go writes."""
    text = content.decode("utf-8", "surrogateescape")
    return re.sub("[\udc80-\udcff]", "\ufffd", text)
