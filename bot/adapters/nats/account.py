"""What account users can see: STREAM.LIST and CONSUMER.LIST, each stream's leader's view only. No server's own state, no Raft group, no ghost."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final, cast

from bot.adapters.nats.api import read
from bot.adapters.nats.connection import Connection
from bot.errors import ReadDenied, ReadTimedOut, Unreachable, Unreadable
from bot.model import Json, JsonObject, Snapshot, SnapshotId, Unknown, UnknownReason, new_id, part, parts
from bot.ports import Clock

VIA: Final = "account API"

STREAMS_AT_ONCE: Final = 20
"""CONSUMER.LIST requests under way at once per account (drills.md 6)."""

MAX_PAGES: Final = 10_000
"""A list that has not ended after so many pages of 256 (reference/nats.md 3.3) never will."""


class AccountCollector:
    """Lists streams and consumers of every account that has a reader."""

    def __init__(self, cluster: str, connections: Mapping[str, Connection], clock: Clock) -> None:
        self._cluster = cluster
        self._connections = dict(connections)
        self._clock = clock

    async def gather(self) -> Snapshot:
        """Return a snapshot without samples, its `api` filled. Raises `Unreadable` where not one account could be read."""
        at = self._clock.now()
        api: dict[str, JsonObject] = {}
        unknown = [
            Unknown(
                reason=UnknownReason.NOT_CONFIGURED,
                detail="without a system user or monitoring addresses no server's own view can be read: "
                "versions, routes, health, Raft groups and members that differ stay unknown",
            )
        ]
        errors: list[Unreadable] = []
        for account, connection in self._connections.items():
            try:
                await self._account(account, connection, api, unknown)
            except Unreadable as error:
                errors.append(error)
                unknown.append(_unknown(f"account {account}", error))
        if errors and len(errors) == len(self._connections):
            raise errors[0]
        return Snapshot(
            id=SnapshotId(new_id("snap")),
            cluster=self._cluster,
            taken_at=at,
            via=VIA,
            servers=(),
            samples=(),
            unknown=tuple(unknown),
            api=api,
        )

    async def _account(
        self, account: str, connection: Connection, api: dict[str, JsonObject], unknown: list[Unknown]
    ) -> None:
        listed = await all_pages(connection, "$JS.API.STREAM.LIST", "streams")
        api[f"{account}:$JS.API.STREAM.LIST"] = listed
        gate = asyncio.Semaphore(STREAMS_AT_ONCE)

        async def consumers(stream: str) -> None:
            subject = f"$JS.API.CONSUMER.LIST.{stream}"
            async with gate:
                try:
                    api[f"{account}:{subject}"] = await all_pages(connection, subject, "consumers")
                except Unreadable as error:
                    unknown.append(_unknown(f"consumers of {account} > {stream}", error))

        names = [str(part(stream, "config").get("name", "")) for stream in parts(listed, "streams")]
        await asyncio.gather(*(consumers(name) for name in names if name))


async def all_pages(connection: Connection, subject: str, key: str) -> JsonObject:
    """Return the list as one answer: the last page with the items, and what is `missing`, of all. Raises `Unreadable`."""
    items: list[JsonObject] = []
    missing: dict[str, None] = {}
    for _ in range(MAX_PAGES):
        page = await read(connection, subject, {"offset": len(items)}) or {}
        found: list[JsonObject] = page.get(key) or []
        items.extend(found)
        named = page.get("missing")
        missing |= dict.fromkeys(map(str, cast("list[Json]", named))) if isinstance(named, list) else {}
        total = page.get("total")
        if not found or not isinstance(total, int) or len(items) >= total:
            return {**page, key: items} | ({"missing": list(missing)} if missing else {})
    raise Unreadable(f"The list on {subject} did not end after {MAX_PAGES} pages.")


def _unknown(what: str, error: Unreadable) -> Unknown:
    reason = UnknownReason.UNREADABLE
    match error:
        case ReadDenied():
            reason = UnknownReason.DENIED
        case ReadTimedOut():
            reason = UnknownReason.TIMED_OUT
        case Unreachable():
            reason = UnknownReason.UNREACHABLE
        case _:
            pass
    return Unknown(reason=reason, detail=f"{what}: {error}")
