"""Cuts a text in the configuration language of nats-server into tokens, with their places in the text.

The language is what `conf/lex.go` accepts (nats-server 2.15.1; 2.10.26 differs only in `1k5`, which it refuses and newer ones read as a string): maps with or
without `=`, `:` and `,`, arrays whose items stand on lines of their own, `#` and `//` comments, strings without quotes, sizes such as `10Gi`, `$VARIABLES`,
`include`. Its oddities are kept, because what the server loads is the truth: `[1]` is no array (the bracket belongs to the number), a lone `/` separates, a quote
ends a bare string. One difference: a NUL character is refused everywhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from bot.model.nats_conf.cursor import END, Cursor
from bot.model.nats_conf.tokens import Kind, Token

SPACES: Final = "\t\n\v\f\r \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
"""Go's `unicode.IsSpace`, as a character class; Python's `\\s` has four more."""

_SPACE: Final = re.compile(f"[{SPACES}]*")
_BLANK: Final = re.compile(r"[ \t]*")
_KEY: Final = re.compile(f"[^{SPACES}=:]*")
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
_QUOTES: Final = frozenset("\"'")
_SEPARATORS: Final = frozenset("=:")
_KEY_ENDS: Final = _SEPARATORS | {END}
_NUMBER_ENDS: Final = frozenset("\n\r};, \t\0")
_UNIT_STARTS: Final = frozenset("kKmMgGtTpPeE")
_ESCAPES: Final = {"t": b"\t", "n": b"\n", "r": b"\r", '"': b'"', "\\": b"\\"}
_BOOLEANS: Final = frozenset({"true", "false", "on", "off", "yes", "no"})
_YEAR_AND_DASH: Final = 5
"""Characters of `2016-`."""


def scan(text: str, file: str = "") -> list[Token]:
    """Return the tokens of a text. Raises `ConfError` naming `file`."""
    scanner = _Scanner(text, file)
    if (nul := text.find("\0")) >= 0:
        raise scanner.error("a NUL character can't be in it", nul)
    return scanner.run()


_State = Callable[[], "_State | None"]


class _Scanner(Cursor):
    """A machine whose states are methods. Each returns the next state, or None at the end of the text; what follows a value waits on a stack."""

    def __init__(self, text: str, file: str) -> None:
        super().__init__(text, file)
        self._then: list[_State] = []

    def run(self) -> list[Token]:
        state: _State | None = self._top
        while state is not None:
            state = state()
        return self.tokens

    def _skip(self, state: _State) -> _State:
        self.at += 1
        return state

    def _value_then(self, after: _State) -> _State:
        self._then.append(after)
        return self._value

    # Top level, and the braces around a whole file that is written like JSON.

    def _top(self) -> _State | None:
        self.take(_SPACE)
        if self.char == END:
            return None
        if self.comment():
            return self._top
        if self.char == "{":
            self._then.append(self._top)
            return self._skip(self._block)
        return self._key_then(self._top_end)

    def _top_end(self) -> _State:
        if self.comment():
            return self._top
        if self.char in " \t/":
            return self._skip(self._top_end)
        if self.char in "\n\r;,}\0":
            return self._skip(self._top)
        raise self.error("expected the end of the line after a value")

    def _block(self) -> _State | None:
        self.take(_SPACE)
        if self.char == END:
            return None
        if self.char == "{":
            self._then.append(self._block_end)
            return self._skip(self._block)
        if self.char == "}":
            return self._skip(self._then.pop())
        if self.comment():
            return self._block
        return self._key_then(self._block_value_end)

    def _block_value_end(self) -> _State:
        if self.comment():
            return self._block_value_end
        if self.char in " \t/":
            return self._skip(self._block_value_end)
        if self.char in "\n\r;,":
            return self._skip(self._block)
        if self.char == "}":
            return self._block_end
        raise self.error("expected the end of the line or a closing brace after a value")

    def _block_end(self) -> _State:
        if self.comment():
            return self._block
        if self.char in "\n\r \t/":
            return self._skip(self._block_end)
        if self.char in ";,":
            return self._skip(self._block)
        if self.char == "}":
            return self._skip(self._then.pop())
        raise self.error("expected a closing brace")

    def _key_then(self, after: _State) -> _State | None:
        if self.char in "/=:":
            raise self.error(f"expected a key, not {self.char!r}")
        self._then.append(after)
        if self.char in _QUOTES:
            return self._quoted_key(self._key_end, end_is_error=False)
        start = self.at
        key = self.take(_KEY)
        if key.lower() == "include" and self.char not in _KEY_ENDS:
            return self._include
        self.emit(Kind.KEY, key, start)
        return self._key_end

    def _key_end(self) -> _State | None:
        self.take(_SPACE)
        if self.char == END:
            return None
        return self._skip(self._value) if self.char in _SEPARATORS else self._value

    def _quoted_key(self, after: _State, *, end_is_error: bool) -> _State | None:
        start = self.at
        key = self.between_quotes()
        if key is None:
            return self._cut_off(start + 1, is_error=end_is_error)
        self.emit(Kind.KEY, key, start)
        return after

    def _cut_off(self, start: int, *, is_error: bool = False) -> None:
        """The text ends inside quotes. The server takes an opening quote without anything after it for the end of the file."""
        self.at = len(self.text)
        if is_error or self.at > start:
            raise self.error("the text ends inside quotes")

    # Maps.

    def _map_key(self) -> _State | None:
        self.take(_SPACE)
        if self.char == "}":
            return self._skip(self._map_end)
        if self.comment():
            return self._map_key
        if self.char in "]=:":
            raise self.error(f"expected a key, not {self.char!r}")
        if self.char in _QUOTES:
            return self._quoted_key(self._map_key_end, end_is_error=True)
        if self.char == "/":
            self.at += 1
        start = self.at
        self.at += 1
        self.take(_KEY)
        if self.char == END:
            raise self.error("the text ends inside a map")
        key = self.text[start : self.at]
        if key.lower() == "include" and self.char not in _KEY_ENDS:
            self._then.append(self._map_value_end)
            return self._include
        self.emit(Kind.KEY, key, start)
        return self._map_key_end

    def _map_key_end(self) -> _State:
        self.take(_SPACE)
        return self._skip(self._map_value) if self.char in _SEPARATORS else self._map_value

    def _map_value(self) -> _State:
        self.take(_SPACE)
        if self.char == ",":
            raise self.error("expected a value, not a comma")
        return self._skip(self._map_end) if self.char == "}" else self._value_then(self._map_value_end)

    def _map_value_end(self) -> _State:
        self.take(_BLANK)
        if self.comment():
            return self._map_value_end
        if self.char in "/;,\n\r":
            return self._skip(self._map_key)
        if self.char == "}":
            return self._skip(self._map_end)
        raise self.error("expected a new line, a comma or a closing brace after a value")

    def _map_end(self) -> _State:
        self.emit(Kind.MAP_END, "}", self.at - 1)
        return self._then.pop()

    # Arrays.

    def _array_value(self) -> _State:
        self.take(_SPACE)
        if self.comment():
            return self._array_value
        if self.char in "/,":
            raise self.error("expected an item of an array")
        return self._skip(self._array_end) if self.char == "]" else self._value_then(self._array_value_end)

    def _array_value_end(self) -> _State:
        self.take(_BLANK)
        if self.comment():
            return self._array_value_end
        if self.char in "/,\n\r":
            return self._skip(self._array_value)
        if self.char == "]":
            return self._skip(self._array_end)
        raise self.error("expected a comma, a new line or a closing bracket after an item")

    def _array_end(self) -> _State:
        self.emit(Kind.ARRAY_END, "]", self.at - 1)
        return self._then.pop()

    # Values.

    def _value(self) -> _State | None:
        self.take(_BLANK)
        char = self.char
        if char in _LINE_ENDS or char == ".":
            raise self.error("expected a value")
        if char in {"[", "{"}:
            self.at += 1
            is_map = char == "{"
            self.emit(Kind.MAP_START if is_map else Kind.ARRAY_START, char, self.at - 1)
            return self._map_key if is_map else self._array_value
        if char == "'":
            return self._literal()
        if char == '"':
            return self._string()
        if char == "(":
            return self._block_string()
        if char == "-" or char.isdecimal():
            return self._number()
        return self._bare(self.at)

    def _literal(self) -> _State | None:
        start = self.at
        text = self.between_quotes()
        if text is None:
            return self._cut_off(start + 1)
        self.emit(Kind.STRING, text, start)
        return self._then.pop()

    def _string(self) -> _State | None:
        start = self.at
        self.at += 1
        content = b""
        while True:
            part = self.at
            content += self.take(_QUOTED).encode("utf-8", "replace")
            if self.char == END:
                return self._cut_off(part)
            if self.char == '"':
                self.at += 1
                self.emit(Kind.STRING, _decoded(content), start)
                return self._then.pop()
            content += self._escaped()

    def _bare(self, start: int) -> _State:
        """A string without quotes, a boolean or a variable: until a blank, a line's end, `;`, `,`, `]`, `}` or a single quote, which it swallows."""
        content = self.text[start : self.at].encode("utf-8", "replace")
        plain = True
        while True:
            content += self.take(_BARE).encode("utf-8", "replace")
            if self.char != "\\":
                break
            content += self._escaped()
            plain = False
        text = _decoded(content)
        if self.char == "'":
            self.at += 1
            self.emit(Kind.STRING, text, start)
        elif plain and text.lower() in _BOOLEANS:
            self.emit(Kind.BOOLEAN, text.lower(), start)
        elif plain and text.startswith("$"):
            self.emit(Kind.VARIABLE, text[1:], start)
        else:
            self.emit(Kind.STRING, text, start)
        return self._then.pop()

    def _escaped(self) -> bytes:
        """Take an escape sequence; one such as `x41` is one byte of UTF-8."""
        self.at += 1
        kind = self.char
        self.at += 1
        if kind == "x" and (found := self.take(_HEX)):
            return bytes.fromhex(found)
        if kind not in _ESCAPES:
            raise self.error(r"expected one of the escapes \xXX, \t, \n, \r, \" and \\", self.at - 1)
        return _ESCAPES[kind]

    def _block_string(self) -> _State:
        start = self.at
        end = _BLOCK_END.search(self.text, start + 1)
        if end is None:
            raise self.error("the text ends inside parentheses: the closing one stands on a line of its own")
        self.at = end.end()
        # At the very end of a file, the server takes the parenthesis for content.
        closing = self.at - 1 if self.at < len(self.text) else self.at
        self.emit(Kind.STRING, self.text[start + 1 : closing], start)
        return self._then.pop()

    def _number(self) -> _State:
        """An integer with or without unit, a float, a date, an address; anything else that starts with a digit is a bare string."""
        start = self.at
        negative = self.char == "-"
        self.at += negative
        if not self.take(_DIGITS):
            raise self.error("expected a digit")
        if self.char == "-" and not negative:
            return self._moment(start)
        if self.char == ".":
            return self._float(start)
        if self.char in _UNIT_STARTS:
            self.at += 1
            self.take(_UNIT)
            if self.char not in _NUMBER_ENDS:
                return self._bare(start)
        elif not negative and self.char not in _NUMBER_ENDS:
            self.at += 1
            return self._bare(start)
        self.emit(Kind.INTEGER, self.text[start : self.at], start)
        return self._then.pop()

    def _moment(self, start: int) -> _State:
        self.at += 1
        if self.at - start != _YEAR_AND_DASH or not self.take(_DATE):
            raise self.error("expected a date like 2016-05-04T18:53:41Z")
        self.emit(Kind.MOMENT, self.text[start : self.at], start)
        return self._then.pop()

    def _float(self, start: int) -> _State:
        self.at += 1
        if not self.take(_DIGITS):
            raise self.error("expected a digit after the point")
        kind = Kind.FLOAT
        if self.char == ".":
            self.take(_ADDRESS)
            kind = Kind.STRING
        self.emit(kind, self.text[start : self.at], start)
        return self._then.pop()

    def _include(self) -> _State:
        self.take(_BLANK)
        start, char = self.at, self.char
        if char.isdecimal() or char in "-[{(\\\n\r":
            raise self.error("expected the path of an included file")
        if char in _QUOTES:
            path = self.between_quotes()
            if path is None:
                raise self.error("the text ends inside quotes")
        else:
            path = self.take(_PATH)
            self.at += self.char == "'"
        self.emit(Kind.INCLUDE, path, start)
        return self._then.pop()


def _decoded(content: bytes) -> str:
    """Return the text; each byte that is no UTF-8 becomes U+FFFD, as in the JSON that Go writes."""
    text = content.decode("utf-8", "surrogateescape")
    return re.sub("[\udc80-\udcff]", "\ufffd", text)
