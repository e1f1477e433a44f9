"""Walks over a text and notes the tokens on the way."""

from __future__ import annotations

import re
from typing import Final

from bot.model.nats_conf.tokens import ConfError, Kind, Token

END: Final = "\0"
"""Stands for the end of the text, which holds none."""

_COMMENT: Final = re.compile(r"(?:#|//)[^\r\n]*")


class Cursor:
    """A place in a text, and the tokens before it."""

    def __init__(self, text: str, file: str) -> None:
        self.text = text
        self.file = file
        self.at = 0
        self.tokens: list[Token] = []

    def error(self, problem: str, at: int | None = None) -> ConfError:
        where = self.at if at is None else at
        return ConfError(self.text.count("\n", 0, where) + 1, problem, self.file)

    @property
    def char(self) -> str:
        """The character ahead."""
        return self.text[self.at] if self.at < len(self.text) else END

    def take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        taken = found.group() if found else ""
        self.at += len(taken)
        return taken

    def emit(self, kind: Kind, text: str, start: int) -> None:
        self.tokens.append(Token(kind, text, start, self.at))

    def comment(self) -> bool:
        start = self.at
        if not (found := self.take(_COMMENT)):
            return False
        self.emit(Kind.COMMENT, found, start)
        return True

    def between_quotes(self) -> str | None:
        """Take a quoted text without escapes; None where its quote does not end."""
        start = self.at + 1
        end = self.text.find(self.char, start)
        if end < 0:
            return None
        self.at = end + 1
        return self.text[start:end]
