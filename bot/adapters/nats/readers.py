"""Reads one cluster: over the system account, else over monitoring addresses, else what account users may see."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from bot.adapters.nats.account import AccountCollector, all_pages
from bot.adapters.nats.api import CONSUMER_NOT_FOUND, STREAM_NOT_FOUND, checked_name, read
from bot.adapters.nats.assemble import Judge
from bot.adapters.nats.collector import SystemCollector
from bot.adapters.nats.connection import Connection
from bot.adapters.nats.delivery import DeliveryProbe, Tell
from bot.adapters.nats.facts import MAX_PAGES, PAGE
from bot.adapters.nats.monitoring import MonitoringCollector
from bot.errors import ReadDenied, Unreachable, Unreadable
from bot.model import Endpoint, Json, JsonObject, Snapshot, Unknown, UnknownReason, part, parts
from bot.model.kubernetes import Change, Kind, Rehearsal
from bot.ports import Clock

_NO_STREAM: Final = frozenset({STREAM_NOT_FOUND})
_NO_CONSUMER: Final = frozenset({STREAM_NOT_FOUND, CONSUMER_NOT_FOUND})

_CLOSED: Final = 1
"""`state` of CONNZ in a request over the system account: a number there (server/monitor.go, ConnState), a word over HTTP."""


class NatsReaders:
    """Implements `bot.ports.ProbingReaders`. `accounts` holds one reading connection per account."""

    def __init__(
        self,
        cluster: str,
        clock: Clock,
        timeout: float,
        system: Connection | None,
        accounts: Mapping[str, Connection],
        monitoring: MonitoringCollector | None,
        probe: DeliveryProbe,
    ) -> None:
        self._cluster = cluster
        self._timeout = timeout
        self._accounts = dict(accounts)
        self._system = system
        self._over_system = SystemCollector(cluster, system, clock) if system else None
        self._over_http = monitoring
        self._over_accounts = AccountCollector(cluster, accounts, clock) if accounts else None
        self._probe = probe

    @property
    def cluster(self) -> str:
        """Name of the cluster in the settings."""
        return self._cluster

    @property
    def api_timeout(self) -> float:
        """Seconds that an API request waits for its answer."""
        return self._timeout

    async def gather(self, needs: frozenset[Endpoint], *, again: Judge | None = None) -> Snapshot:
        """Take a snapshot from the best source that answers; why a better one did not stands in `Snapshot.unknown`.

        Raises the best source's `Unreadable` where none answers.
        """
        failures: list[Unreadable] = []
        for attempt in (self._from_system, self._from_monitoring, self._from_accounts):
            try:
                snapshot = await attempt(needs, again)
            except Unreadable as error:
                failures.append(error)
                continue
            if snapshot is not None:
                why = tuple(_skipped(error) for error in failures)
                return replace(snapshot, unknown=why + snapshot.unknown) if why else snapshot
        if failures:
            raise failures[0]
        raise Unreachable(
            f"Nothing is configured to read cluster {self._cluster} with: add nats.system, monitoring or a reader."
        )

    async def look_elsewhere(self) -> None:
        """Leave the server that we are connected to; the next question finds one in random order."""
        if self._system is not None:
            await self._system.aclose()

    async def probe_delivery(self, snapshot: Snapshot, tell: Tell) -> Snapshot:
        """Return the snapshot with what messages between its servers came to; `tell` hears what is going to be sent. Raises `BadInput` where
        there is no login to send with.
        """
        return await self._probe.run(snapshot, tell)

    async def stream_info(self, account: str, stream: str) -> JsonObject | None:
        """Return `$JS.API.STREAM.INFO` raw; None is a definite *stream not found*."""
        subject = f"$JS.API.STREAM.INFO.{checked_name('stream', stream)}"
        return await read(self._account(account), subject, absent=_NO_STREAM)

    async def consumer_info(self, account: str, stream: str, consumer: str) -> JsonObject | None:
        """Return `$JS.API.CONSUMER.INFO` raw; None is a definite *consumer not found*, or *stream not found*."""
        subject = f"$JS.API.CONSUMER.INFO.{checked_name('stream', stream)}.{checked_name('consumer', consumer)}"
        return await read(self._account(account), subject, absent=_NO_CONSUMER)

    async def missing(self, account: str, stream: str = "") -> frozenset[str]:
        """Return what `$JS.API.STREAM.LIST`, or `CONSUMER.LIST` of a stream, counts as `missing`."""
        subject, key = "$JS.API.STREAM.LIST", "streams"
        if stream:
            subject, key = f"$JS.API.CONSUMER.LIST.{checked_name('stream', stream)}", "consumers"
        listed = await all_pages(self._account(account), subject, key)
        return frozenset(map(str, listed.get("missing") or ()))

    async def closed_clients(self, server_id: str) -> Sequence[JsonObject]:
        """Return what CONNZ remembers of closed client connections, raw."""
        if self._system is None:
            raise ReadDenied(
                f"Nothing is configured to ask cluster {self._cluster} for closed connections with: add nats.system."
            )
        subject = f"$SYS.REQ.SERVER.{checked_name('server', server_id)}.CONNZ"
        found: dict[Json, JsonObject] = {}
        for page in range(MAX_PAGES):
            body: JsonObject = {"state": _CLOSED, "sort": "cid", "auth": True, "limit": PAGE, "offset": PAGE * page}
            rows = parts(part(await read(self._system, subject, body) or {}, "data"), "connections")
            found |= {row.get("cid"): row for row in rows}
            if len(rows) < PAGE:
                break
        return list(found.values())

    async def kubernetes_object(self, kind: Kind, name: str) -> JsonObject | None:
        """There is none to ask: `ClusterReaders` knows both sides."""
        raise self._no_kubernetes(f"{kind} {name}")

    async def rehearse(self, change: Change) -> Rehearsal:
        """There is none to ask."""
        raise self._no_kubernetes(str(change))

    def _no_kubernetes(self, what: str) -> Unreachable:
        return Unreachable(
            f"Nothing is configured to ask Kubernetes with about {what}: add `kubernetes` to cluster {self._cluster}."
        )

    async def aclose(self) -> None:
        """Close all connections, at once: each may wait for a server that hangs."""
        open_ = (self._system, self._over_http, *self._accounts.values())
        await asyncio.gather(*(one.aclose() for one in open_ if one is not None))

    async def _from_system(self, needs: frozenset[Endpoint], again: Judge | None) -> Snapshot | None:
        return await self._over_system.gather(needs, again) if self._over_system else None

    async def _from_monitoring(self, needs: frozenset[Endpoint], again: Judge | None) -> Snapshot | None:
        return await self._over_http.gather(needs, again) if self._over_http else None

    async def _from_accounts(self, needs: frozenset[Endpoint], again: Judge | None) -> Snapshot | None:
        del needs, again  # one list of the leaders' views is all that an account user gets
        return await self._over_accounts.gather() if self._over_accounts else None

    def _account(self, account: str) -> Connection:
        connection = self._accounts.get(account)
        if connection is None:
            raise ReadDenied(
                f"No reader is configured for account {account!r} of cluster {self._cluster}: "
                f"add `nats.accounts.{account}.reader` to read it."
            )
        return connection


def _skipped(error: Unreadable) -> Unknown:
    reason = UnknownReason.DENIED if isinstance(error, ReadDenied) else UnknownReason.UNREACHABLE
    return Unknown(reason=reason, detail=str(error))
