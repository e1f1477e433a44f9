"""Lists of the account API, page by page."""

from typing import cast

import pytest

from bot.adapters.nats import account
from bot.adapters.nats.account import AccountCollector
from bot.adapters.nats.connection import Connection
from bot.model import JsonObject
from tests.integration.store_records import FixedClock

STREAMS = [{"config": {"name": f"S{n}"}} for n in range(3)]


async def gathered(monkeypatch: pytest.MonkeyPatch, *missing: object) -> JsonObject:
    """The list of streams, one stream and one value of `missing` on each page."""

    async def read(connection: Connection, subject: str, body: JsonObject) -> JsonObject:
        del connection
        if "STREAM.LIST" not in subject:
            return {"total": 0, "consumers": []}
        offset = body["offset"]
        page = {"total": len(missing), "offset": offset, "streams": STREAMS[offset : offset + 1]}
        return page | ({"missing": missing[offset]} if missing[offset] is not None else {})

    monkeypatch.setattr(account, "read", read)
    collector = AccountCollector("prod", {"APP": cast("Connection", None)}, FixedClock())
    return (await collector.gather()).api["APP:$JS.API.STREAM.LIST"]


async def test_what_any_page_misses_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = await gathered(monkeypatch, ["LOST"], None, ["GONE", "LOST"])
    assert [stream["config"]["name"] for stream in listed["streams"]] == ["S0", "S1", "S2"]
    assert listed["missing"] == ["LOST", "GONE"]


async def test_where_nothing_is_missing_the_answer_says_nothing_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "missing" not in await gathered(monkeypatch, None, None)
