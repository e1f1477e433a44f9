r"""Text from outside, made visible: characters that can't be seen, or that turn the reading direction, are written out as `\u202e`."""

from __future__ import annotations

import unicodedata
from typing import Final

COMBINING_LIMIT: Final = 3
"""Combining marks on one letter that are shown as they are; towers of them would cover the lines around."""

_INVISIBLE_CATEGORIES: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_INVISIBLE_LETTERS: Final = frozenset("\u115f\u1160\u3164\uffa0\u2800\u034f\u17b4\u17b5")
"""Fillers that Unicode counts as letters, symbols or marks and that draw nothing."""


def visible(text: str, *, lines: bool = False) -> str:
    """Return `text` with every invisible character written out; line breaks and tabs stay only where `lines` is set."""
    shown: list[str] = []
    marks = 0
    for char in text:
        category = unicodedata.category(char)
        marks = marks + 1 if category in {"Mn", "Me"} else 0
        hidden = category in _INVISIBLE_CATEGORIES or char in _INVISIBLE_LETTERS or marks > COMBINING_LIMIT
        if hidden and not (lines and char in "\n\t"):
            shown.append(written_out(char))
        else:
            shown.append(char)
    return "".join(shown)


def written_out(char: str) -> str:
    """Return the escape that stands for a character."""
    known = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}.get(char)
    if known is not None:
        return known
    code = ord(char)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
