"""A long audit log is read in pages, and a page that cannot be read hides no row before the broken one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import pytest

from bot.errors import AuditBroken
from bot.flow import audit
from bot.flow.audit import ChainVerifier, pages, verify_store
from bot.model import AuditFilter, AuditLine
from bot.ports import EVERY, Store
from tests.unit.flow.test_audit import behind, chain

ENTRIES = chain(8)
TORN = "Row 6 holds bytes that are no text."


class Rows:
    """What a store has of the audit log; a page that a torn row is in cannot be read."""

    def __init__(self, *torn: int) -> None:
        self.torn = torn
        self.asked: list[tuple[int, int, AuditFilter]] = []
        self.lines = [entry.line for entry in ENTRIES]

    async def audit_lines(self, *, after: int, limit: int, wanted: AuditFilter) -> Sequence[AuditLine]:
        self.asked.append((after, limit, wanted))
        page = [line for line in self.lines if line.seq > after][:limit]
        if any(line.seq in self.torn for line in page):
            raise AuditBroken(TORN)
        return tuple(page)

    @property
    def store(self) -> Store:
        return cast("Store", self)


@pytest.fixture
def of_three(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "PAGE", 3)


async def seqs(rows: Rows, *, after: int = 0, last: int | None = None) -> list[list[int]]:
    return [[line.seq for line in page] async for page in pages(rows.store, after=after, last=last)]


async def test_a_page_has_ten_thousand_rows_and_nothing_is_narrowed() -> None:
    rows = Rows()
    assert await seqs(rows) == [[1, 2, 3, 4, 5, 6, 7, 8]]
    assert rows.asked == [(0, 10_000, EVERY), (8, 10_000, EVERY)]


@pytest.mark.usefixtures("of_three")
async def test_pages_follow_one_another_without_a_gap_from_where_they_are_to_begin() -> None:
    rows = Rows()
    assert await seqs(rows) == [[1, 2, 3], [4, 5, 6], [7, 8]]
    assert await seqs(rows, after=2) == [[3, 4, 5], [6, 7, 8]]


@pytest.mark.usefixtures("of_three")
async def test_behind_the_last_row_that_is_wanted_nothing_is_read() -> None:
    rows = Rows()
    assert await seqs(rows, after=1, last=6) == [[2, 3, 4], [5, 6]]
    assert await seqs(rows, last=3) == [[1, 2, 3]]
    assert await seqs(rows, after=3, last=3) == []
    assert [(after, limit) for after, limit, _ in rows.asked] == [(1, 3), (4, 2), (0, 3)]


async def test_only_wanted_rows_are_asked_for() -> None:
    rows, wanted = Rows(), AuditFilter(kind="click")
    assert [page async for page in pages(rows.store, wanted)] == [rows.lines]
    assert [asked[2] for asked in rows.asked] == [wanted] * 2


@pytest.mark.usefixtures("of_three")
async def test_the_rows_before_a_torn_one_come_and_then_it_is_told() -> None:
    rows = Rows(6)
    read = pages(rows.store)
    found = [[line.seq for line in await anext(read)] for _ in range(3)]
    with pytest.raises(AuditBroken, match="no text"):
        await anext(read)
    assert found == [[1, 2, 3], [4], [5]]
    assert [limit for _, limit, _ in rows.asked] == [3, 3, 1, 1, 1]


@pytest.mark.usefixtures("of_three")
async def test_a_store_is_verified_to_its_end() -> None:
    verifier = ChainVerifier()
    await verify_store(Rows().store, verifier)
    assert verifier.report().reason == "All 8 rows verify."


@pytest.mark.usefixtures("of_three")
async def test_a_verification_of_a_store_goes_on_where_it_is() -> None:
    rows, verifier = Rows(), ChainVerifier(after=behind(ENTRIES, 5))
    await verify_store(rows.store, verifier)
    assert (rows.asked[0][0], verifier.reached, verifier.report().intact) == (5, 8, True)


@pytest.mark.usefixtures("of_three")
async def test_a_store_is_verified_up_to_the_row_that_is_asked_for() -> None:
    rows, verifier = Rows(), ChainVerifier()
    await verify_store(rows.store, verifier, last=4)
    assert (verifier.reached, [limit for _, limit, _ in rows.asked]) == (4, [3, 1])


@pytest.mark.usefixtures("of_three")
async def test_behind_a_bad_row_nothing_more_is_read() -> None:
    rows, verifier = Rows(), ChainVerifier()
    rows.lines[1] = rows.lines[1]._replace(actor="mallory")
    await verify_store(rows.store, verifier)
    assert (verifier.report().first_bad_seq, len(rows.asked)) == (2, 1)


@pytest.mark.usefixtures("of_three")
async def test_a_torn_row_is_the_bad_one() -> None:
    verifier = ChainVerifier()
    await verify_store(Rows(6).store, verifier)
    report = verifier.report()
    assert (report.rows, report.first_bad_seq, report.reason) == (5, 6, TORN)
