"""Events that their sender numbers."""

from __future__ import annotations

import pytest

from bot.adapters.database import SqlStore
from bot.errors import StoreConflict
from bot.model import DeliveryId
from tests.integration.store_records import FixedClock, delivery


async def first(store: SqlStore, source: str, name: str) -> str:
    async with store.begin() as tx:
        return await tx.first_delivery(source, "e1", DeliveryId(name))


async def test_the_first_delivery_of_an_event_is_remembered_per_source_and_only_if_committed(url: str) -> None:
    async with SqlStore.open(url, FixedClock()) as store:
        async with store.begin() as tx:
            await tx.put(delivery("1"))
            await tx.put(delivery("2"))
        with pytest.raises(StoreConflict):
            await first(store, "am", "dlv_that_is_never_stored")
        assert await first(store, "am", "dlv_1") == "dlv_1"
        assert await first(store, "am", "dlv_2") == "dlv_1"
        assert await first(store, "pd", "dlv_2") == "dlv_2"
