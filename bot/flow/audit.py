"""The audit chain, checked and exported: works on rows of the store and of an export alike.

A row's hash covers its own fields and the hash of the row before, and sequence numbers have no gap, so an edit, a delete, an insert and a reorder
all show. What a chain alone cannot show is a cut-off tail or a chain rewritten from some row on: that needs a checkpoint kept where the bot
can't rewrite it (reference/safety.md 5.8).

Hashing takes the stored texts as they stand (`AuditLine`): a million rows are read into records in minutes, and hashed in seconds.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing
from typing import Final, cast

from bot.errors import AuditBroken, BadInput
from bot.model import START, AuditEntry, AuditFilter, AuditLine, Checkpoint, Json, JsonObject, Record
from bot.ports import EVERY, Store

__all__ = [
    "ChainReport",
    "ChainVerifier",
    "Checkpoint",
    "export_lines",
    "pages",
    "read_lines",
    "verify",
    "verify_store",
]

PAGE: Final = 10_000
"""Rows per read: a million of them need a hundred reads, and a page is a few megabytes."""


class ChainReport(Record):
    """What a verification found."""

    rows: int
    """The last row that verifies, counted from the first of the chain."""
    first_bad_seq: int | None
    """The first sequence number whose row is altered, missing or out of place; None where the chain is intact."""
    reason: str
    """One sentence."""
    head_hash: str
    """Hash of the last row that verifies; `GENESIS` where there is none."""
    checkpoint_matched: bool | None
    """Whether the checkpoint's row has the checkpoint's hash; None where no checkpoint was given."""

    @property
    def intact(self) -> bool:
        """True where every row verifies and the checkpoint, if one was given, matches."""
        return self.first_bad_seq is None

    @property
    def head(self) -> Checkpoint:
        """The checkpoint to keep of this chain."""
        return Checkpoint(seq=self.rows, hash=self.head_hash)


class ChainVerifier:
    """Verifies row by row, so that a reader may page through a long chain.

    `after` is the row it begins behind, the first one of all where it is not given: rows up to there are taken as they are.
    """

    def __init__(self, checkpoint: Checkpoint | None = None, *, after: Checkpoint = START) -> None:
        if checkpoint is not None and checkpoint.seq < after.seq:
            raise ValueError(f"Row {checkpoint.seq} of the checkpoint is not looked at: it lies before {after.seq}.")
        self._checkpoint = checkpoint
        self._matched: bool | None = None if checkpoint is None else checkpoint.same_row(after)
        self._after = after.seq
        self._rows = after.seq
        self._head = after.hash
        self._bad: tuple[int, str] | None = None

    @property
    def checkpoint(self) -> Checkpoint | None:
        """What the chain is compared with."""
        return self._checkpoint

    @property
    def reached(self) -> int:
        """The last row that verifies."""
        return self._rows

    def add(self, line: AuditLine) -> bool:
        """Check the next row; return False once a bad one was seen (later rows are then not judged)."""
        return self.add_all((line,))

    def add_all(self, lines: Iterable[AuditLine]) -> bool:
        """Check the next rows; return False once a bad one was seen."""
        if self._bad is not None:
            return False
        kept = self._checkpoint.seq if self._checkpoint is not None else None
        rows, head = self._rows, self._head
        try:
            for line in lines:  # a million times: what it needs is at hand in locals
                if line.seq != rows + 1 or line.previous != head or not _is_whole(line):
                    self._bad = (rows + 1, _flaw(line, rows + 1, head))
                    break
                if line.seq == kept and not self._matches(line):
                    break
                rows, head = line.seq, line.hash
        finally:  # also where the lines end in an error: what came before it verifies
            self._rows, self._head = rows, head
        return self._bad is None

    def advance(self, start: Checkpoint, end: Checkpoint) -> bool:
        """Take the rows behind `start` up to `end` for verified, as another verifier that began at `start` has done it.

        Returns False, and takes none of them, where they do not continue what was seen so far, or where `end` is not the row of the checkpoint: what is wrong
        is for `add_all` to say. A checkpoint among them that is not their last would go unseen: ValueError.
        """
        if self._checkpoint is not None and start.seq < self._checkpoint.seq < end.seq:
            raise ValueError(f"Row {self._checkpoint.seq} of the checkpoint would not be looked at.")
        if self._bad is not None or not start.same_row(Checkpoint(seq=self._rows, hash=self._head)):
            return False
        if self._checkpoint is not None and end.seq == self._checkpoint.seq:
            if end.hash != self._checkpoint.hash:
                return False
            self._matched = True
        self._rows, self._head = end.seq, end.hash
        return True

    def unreadable(self, reason: str) -> None:
        """Record that the next row exists and can't be read as an entry at all."""
        if self._bad is None:
            self._bad = (self._rows + 1, reason)

    def report(self) -> ChainReport:
        """Return the verdict on the rows added so far, taking them for the whole chain."""
        bad = self._bad or self._missing_tail()
        return ChainReport(
            rows=self._rows,
            first_bad_seq=bad[0] if bad else None,
            reason=bad[1] if bad else self._good_words(),
            head_hash=self._head,
            checkpoint_matched=self._matched,
        )

    def _matches(self, line: AuditLine) -> bool:
        self._matched = self._checkpoint is not None and line.hash == self._checkpoint.hash
        if not self._matched:
            said = f"Row {line.seq} is not the row of the checkpoint: the chain was rewritten at or before it."
            self._bad = (line.seq, said)
        return self._matched

    def _missing_tail(self) -> tuple[int, str] | None:
        if self._checkpoint is None or self._checkpoint.seq <= self._rows:
            return None
        return self._rows + 1, (
            f"The chain ends at row {self._rows} and the checkpoint was taken at row {self._checkpoint.seq}: the rows after {self._rows} were cut off."
        )

    def _good_words(self) -> str:
        also = f", and row {self._checkpoint.seq} matches the checkpoint" if self._checkpoint else ""
        if self._after == 0:
            return f"All {self._rows} rows verify{also}."
        return (
            f"Rows {self._after + 1} to {self._rows} verify{also}; natsmedic audit verify looks at those before, too."
        )


def _is_whole(line: AuditLine) -> bool:
    try:
        return line.hash == line.computed_hash()
    except (TypeError, ValueError):  # a value of another type, or text that UTF-8 can't hold
        return False


def _flaw(line: AuditLine, expected: int, head: str) -> str:
    """Return what is wrong with a row that is not the next whole one behind `head`."""
    if line.seq != expected:
        return f"Row {expected} was expected and row {line.seq} was found: rows are missing, inserted or out of order."
    if line.previous != head:
        return f"Row {line.seq} does not continue the row before it: one of the two was altered or replaced."
    return f"Row {line.seq} was altered: its content does not have the hash it carries."


def verify(entries: Iterable[AuditEntry], *, checkpoint: Checkpoint | None = None) -> ChainReport:
    """Verify a whole chain, from its first row on.

    Without `checkpoint` a cut-off tail is not seen. A row with seq 0 or below is always out of place.
    """
    verifier = ChainVerifier(checkpoint)
    for entry in entries:
        if not verifier.add(entry.line):
            break
    return verifier.report()


async def pages(
    store: Store, wanted: AuditFilter = EVERY, *, after: int = 0, last: int | None = None
) -> AsyncGenerator[list[AuditLine]]:
    """Yield all wanted rows in order, so many at a time. At a row that is none the rows before it still come, and then AuditBroken.

    `last` ends a chain of which every row is wanted: where none is missing, its row is the last that comes.
    """
    size = PAGE
    while last is None or after < last:
        most = size if last is None else min(size, last - after)
        try:
            page = await store.audit_lines(after=after, limit=most, wanted=wanted)
        except AuditBroken:
            if size == 1:
                raise
            size = 1
            continue
        if not page:
            return
        yield list(page)
        after = page[-1].seq


async def verify_store(store: Store, verifier: ChainVerifier, *, last: int | None = None) -> None:
    """Give the verifier the rows of the store that it has not had, up to the first bad one, or to `last`. It hashes beside the event loop."""
    async with aclosing(pages(store, after=verifier.reached, last=last)) as read:
        try:
            async for page in read:
                if not await asyncio.to_thread(verifier.add_all, page):
                    return
        except AuditBroken as error:
            verifier.unreadable(str(error))


def export_lines(entries: Iterable[AuditEntry]) -> Iterator[str]:
    """Yield one line of canonical JSON per entry, without a line end.

    A row verifies without natsmedic: the SHA-256 of the line's canonical JSON without its `hash` field is its `hash` (deploy/verify_audit.py).
    """
    for entry in entries:
        yield entry.line.text()


def read_lines(lines: Iterable[str]) -> Iterator[AuditLine]:
    """Yield the rows of an export; raise `BadInput` with the line's number where a line is none. Empty lines are skipped."""
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield _line(_DECODER.decode(line.strip()))
        except (ValueError, RecursionError) as error:
            raise BadInput(f"Line {number} of the export is not an audit entry: {_sentence(error)}.") from error


def _line(fields: Json) -> AuditLine:
    row = cast("JsonObject", fields) if isinstance(fields, dict) else {}
    if set(row) != set(AuditLine._fields):
        raise ValueError(f"it has not the fields {', '.join(AuditLine._fields)}")
    return AuditLine.of(row)


def _once(pairs: list[tuple[str, Json]]) -> JsonObject:
    """A key that stands twice means one thing to one reader and another to the next."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in it")
    return found


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_once)


def _sentence(error: ValueError | RecursionError) -> str:
    return "it is not JSON" if isinstance(error, (json.JSONDecodeError, RecursionError)) else str(error)
