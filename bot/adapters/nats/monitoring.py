"""Takes a snapshot over the HTTP monitoring ports, for clusters without a system user. One address per server.

Paths and parameter names: reference/nats.md 3.1. Redirects are not followed, nothing an answer names is fetched, sizes and times are bounded.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

import httpx

from bot.adapters.nats.assemble import Judge, Taken
from bot.adapters.nats.facts import (
    ACCOUNT_DETAILS,
    HEALTHZ_ONLY_READS,
    MAX_ACCOUNTS,
    MAX_PAGES,
    MAX_SUBSCRIPTIONS,
    PAGE,
    PAGED,
    RAFTZ_OVER_HTTP,
    Page,
    account_detail,
    accounts_in,
    cut_off,
    cut_off_accounts,
    identity_of_varz,
    merge_pages,
    merge_raftz,
    page_is_full,
    signed_accounts,
    version_of,
)
from bot.errors import Unreachable
from bot.model import Endpoint, JsonObject, Sample, ServerIdentity, Snapshot, Unknown, UnknownReason
from bot.model.assets import read_answer
from bot.ports import Clock

VIA: Final = "monitoring"

MAX_ANSWER: Final = 64 * 1024 * 1024
"""Bytes of one answer: 8 MB hold 5000 replicated consumers (drills.md 6)."""

QUERIES: Final[Mapping[Endpoint, Mapping[str, str]]] = {
    Endpoint.VARZ: {},
    Endpoint.JSZ: {"accounts": "1", "streams": "1", "consumers": "1", "config": "1", "raft": "1"},
    Endpoint.HEALTHZ: {"details": "1"},
    Endpoint.ROUTEZ: {},
    Endpoint.CONNZ: {"sort": "cid", "auth": "1"},
    Endpoint.GATEWAYZ: {},
    Endpoint.LEAFZ: {},
    Endpoint.IPQUEUESZ: {},
    Endpoint.SUBSZ: {"subs": "1", "limit": str(MAX_SUBSCRIPTIONS)},
}
"""Parameters of the endpoints that are one request, or pages of one. STATSZ is not there over HTTP."""

_PLAIN: Final = (Endpoint.ROUTEZ, Endpoint.GATEWAYZ, Endpoint.LEAFZ, Endpoint.IPQUEUESZ, Endpoint.SUBSZ)
"""Endpoints that are read whole, whatever the version; VARZ is read by discovery."""

ACCOUNTS_AT_ONCE: Final = 4
"""RAFTZ requests under way at once per server, one per account."""

Accounts = dict[str, str] | Unknown
"""JetStream accounts by id with their names, or why they are not known."""

_HEALTH_CODES: Final = frozenset({200, 400, 404, 500, 503})
"""HEALTHZ answers in JSON with all of these (reference/nats.md 1.0)."""


class _NoFact(Exception):
    """A request without a usable answer."""

    def __init__(self, reason: UnknownReason, detail: str) -> None:
        super().__init__(detail)
        self.unknown = Unknown(reason=reason, detail=detail)


@dataclass(frozen=True, slots=True)
class _Server:
    url: str
    identity: ServerIdentity
    varz: JsonObject

    @property
    def name(self) -> str:
        return self.identity.name


class MonitoringCollector:
    """Reads the servers behind `urls`."""

    def __init__(self, cluster: str, urls: Sequence[str], clock: Clock, timeout: float, page: int = PAGE) -> None:
        self._cluster = cluster
        self._urls = tuple(urls)
        self._clock = clock
        self._timeout = timeout
        self._page = page
        self._http: httpx.AsyncClient | None = None

    async def gather(self, needs: frozenset[Endpoint], judge: Judge | None) -> Snapshot:
        """Take one snapshot. Raises `Unreachable` where no address answered."""
        taken = Taken(self._cluster, VIA, self._clock.now(), needs)
        servers = await self._discover(taken)
        accounts = await asyncio.gather(*(self._server(taken, server) for server in servers))
        detail = "no monitoring address of this server answered; configure one per server"
        missing = Unknown(reason=UnknownReason.NOT_CONFIGURED, detail=detail)
        snapshot = taken.snapshot(missing)
        for round_ in await taken.look_again(judge, snapshot):
            await self._clock.sleep(taken.again.interval)
            await asyncio.gather(*(self._again(taken, s, a, round_) for s, a in zip(servers, accounts, strict=True)))
            snapshot = taken.snapshot(missing)
        return snapshot

    async def aclose(self) -> None:
        """Close the HTTP connections."""
        client, self._http = self._http, None
        if client is not None:
            await client.aclose()

    async def _discover(self, taken: Taken) -> list[_Server]:
        """Ask every address for VARZ, which says who is there. Two addresses of one server count once."""
        answers = await asyncio.gather(*(self._fetch(url, "/varz") for url in self._urls), return_exceptions=True)
        servers: dict[str, _Server] = {}
        for url, answer in zip(self._urls, answers, strict=True):
            if isinstance(answer, _NoFact):
                taken.unknown.append(answer.unknown)
            elif isinstance(answer, BaseException):
                raise answer
            else:
                server = _Server(url, identity_of_varz(answer), answer)
                servers.setdefault(server.identity.id, server)
        if not servers:
            raise Unreachable(f"No monitoring address answers: {'; '.join(u.detail for u in taken.unknown)}.")
        taken.identities = {server.name: server.identity for server in servers.values()}
        if Endpoint.VARZ in taken.needs:
            taken.add(Sample(s.name, Endpoint.VARZ, self._clock.now(), data=s.varz) for s in servers.values())
        return list(servers.values())

    async def _server(self, taken: Taken, server: _Server) -> Accounts:
        """Take the first round of one server and return its JetStream accounts."""
        needs = taken.needs
        jobs = [self._plain(taken, server, endpoint, 0) for endpoint in _PLAIN if endpoint in needs]
        if Endpoint.HEALTHZ in needs:
            jobs.append(self._healthz(taken, server))
        if Endpoint.ACCOUNTZ in needs:
            jobs.append(self._accountz(taken, server))
        if Endpoint.STATSZ in needs:
            self._no_statsz(taken, server)
        if Endpoint.CONNZ in needs:
            jobs.append(self._paged(taken, server, Endpoint.CONNZ, 0))
        async with asyncio.TaskGroup() as tasks:
            accounts = tasks.create_task(self._jsz_and_raftz(taken, server))
            for job in jobs:
                tasks.create_task(job)
        return accounts.result()

    async def _again(self, taken: Taken, server: _Server, accounts: Accounts, round_: int) -> None:
        """Take a later round of what moves. The accounts that the first round found serve again."""
        needs = taken.again.endpoints
        jobs = [self._plain(taken, server, e, round_) for e in (Endpoint.VARZ, *_PLAIN) if e in needs]
        if Endpoint.JSZ in needs:
            jobs.append(self._paged(taken, server, Endpoint.JSZ, round_))
        if Endpoint.RAFTZ in needs:
            jobs.append(self._raftz(taken, server, accounts, round_))
        await asyncio.gather(*jobs)

    async def _plain(self, taken: Taken, server: _Server, endpoint: Endpoint, round_: int = 0) -> None:
        try:
            data = self._own(server, await self._fetch(server.url, f"/{endpoint.lower()}", QUERIES[endpoint]))
            taken.add([Sample(server.name, endpoint, self._clock.now(), data=data, round=round_)])
        except _NoFact as no:
            taken.add([Sample(server.name, endpoint, self._clock.now(), unknown=no.unknown, round=round_)])

    async def _accountz(self, taken: Taken, server: _Server) -> None:
        """Read which accounts there are, and the details of those that an operator signed: only these have limits of their own."""
        gate = asyncio.Semaphore(ACCOUNTS_AT_ONCE)

        async def ask(account: str) -> JsonObject:
            async with gate:
                return account_detail(await self._fetch(server.url, "/accountz", {"acc": account}))

        try:
            data = self._own(server, await self._fetch(server.url, "/accountz"))
            accounts = signed_accounts(data)
            if len(accounts) > MAX_ACCOUNTS:
                taken.unknown.append(cut_off_accounts(server.name, len(accounts)))
            if accounts:
                details = await asyncio.gather(*(ask(account) for account in accounts[:MAX_ACCOUNTS]))
                data = {**data, ACCOUNT_DETAILS: details}
            taken.add([Sample(server.name, Endpoint.ACCOUNTZ, self._clock.now(), data=data)])
        except _NoFact as no:
            taken.add([Sample(server.name, Endpoint.ACCOUNTZ, self._clock.now(), unknown=no.unknown)])

    async def _healthz(self, taken: Taken, server: _Server) -> None:
        if version_of(server.identity.version) < HEALTHZ_ONLY_READS:
            why = f"{server.name} runs {server.identity.version}: its full health check can restart Raft nodes, so it is not called"
            self._not_in_version(taken, server, Endpoint.HEALTHZ, why)
        else:
            await self._plain(taken, server, Endpoint.HEALTHZ)

    def _no_statsz(self, taken: Taken, server: _Server) -> None:
        unknown = Unknown(
            reason=UnknownReason.NOT_CONFIGURED, detail="STATSZ needs a system user: it is not there over HTTP"
        )
        taken.add(
            Sample(server.name, Endpoint.STATSZ, self._clock.now(), unknown=unknown, round=round_)
            for round_ in taken.rounds_of(Endpoint.STATSZ)
        )

    async def _jsz_and_raftz(self, taken: Taken, server: _Server) -> Accounts:
        if not taken.needs & {Endpoint.JSZ, Endpoint.RAFTZ}:
            return {}
        sample = await self._pages(taken, server, Endpoint.JSZ, 0)
        if Endpoint.JSZ in taken.needs:
            taken.add([sample])
        accounts = sample.unknown or accounts_in(sample.assets)
        if Endpoint.RAFTZ in taken.needs:
            await self._raftz(taken, server, accounts, 0)
        return accounts

    async def _raftz(self, taken: Taken, server: _Server, accounts: Accounts, round_: int) -> None:
        if version_of(server.identity.version) < RAFTZ_OVER_HTTP:
            why = f"{server.name} runs {server.identity.version}: RAFTZ exists over HTTP from 2.10.17"
            self._not_in_version(taken, server, Endpoint.RAFTZ, why, round_)
            return
        gate = asyncio.Semaphore(ACCOUNTS_AT_ONCE)

        async def ask(account: str) -> JsonObject:
            async with gate:
                return await self._fetch(server.url, "/raftz", {"acc": account})

        try:
            if isinstance(accounts, Unknown):
                raise _NoFact(accounts.reason, f"the accounts to ask for are not known: {accounts.detail}")
            base = await self._fetch(server.url, "/raftz")
            groups = dict(zip(accounts, await asyncio.gather(*(ask(account) for account in accounts)), strict=True))
            data = merge_raftz(base, groups, accounts)
            taken.add([Sample(server.name, Endpoint.RAFTZ, self._clock.now(), data=data, round=round_)])
        except _NoFact as no:
            taken.add([Sample(server.name, Endpoint.RAFTZ, self._clock.now(), unknown=no.unknown, round=round_)])

    async def _paged(self, taken: Taken, server: _Server, endpoint: Endpoint, round_: int) -> None:
        taken.add([await self._pages(taken, server, endpoint, round_)])

    async def _pages(self, taken: Taken, server: _Server, endpoint: Endpoint, round_: int) -> Sample:
        paged = PAGED[endpoint]
        pages: list[Page] = []
        try:
            while not pages or page_is_full(pages[-1], paged, self._page):
                if len(pages) == MAX_PAGES:
                    taken.unknown.append(cut_off(server.name, endpoint, paged, len(pages) * self._page))
                    break
                query = {**QUERIES[endpoint], "limit": str(self._page), "offset": str(self._page * len(pages))}
                page = await self._page_at(server.url, f"/{endpoint.lower()}", query)
                self._own(server, page.data)
                pages.append(page)
        except _NoFact as no:
            return Sample(server.name, endpoint, self._clock.now(), unknown=no.unknown, round=round_)
        whole = merge_pages(pages, paged)
        return Sample(server.name, endpoint, self._clock.now(), whole.data, None, round_, whole.assets)

    def _not_in_version(self, taken: Taken, server: _Server, endpoint: Endpoint, why: str, round_: int = 0) -> None:
        unknown = Unknown(reason=UnknownReason.NOT_IN_VERSION, detail=why)
        taken.add([Sample(server.name, endpoint, self._clock.now(), unknown=unknown, round=round_)])

    @staticmethod
    def _own(server: _Server, answer: JsonObject) -> JsonObject:
        """Refuse an answer of another server: the address is a load balancer's. Answers that name no server pass."""
        other = answer.get("server_id")
        if other and other != server.identity.id:
            detail = f"{_shown(server.url)} is answered by different servers; configure one address per server"
            raise _NoFact(UnknownReason.UNREADABLE, detail)
        return answer

    async def _fetch(self, url: str, path: str, query: Mapping[str, str] | None = None) -> JsonObject:
        """Return one JSON object. Raises `_NoFact`."""
        return (await self._page_at(url, path, query)).data

    async def _page_at(self, url: str, path: str, query: Mapping[str, str] | None) -> Page:
        """Return one answer. Raises `_NoFact`."""
        where = f"{_shown(url)}{path}"
        try:
            async with asyncio.timeout(self._timeout):
                async with self._client().stream("GET", url + path, params=query) as response:
                    body = await _bounded(response, where)
                    status = response.status_code
        except TimeoutError as error:
            raise _NoFact(UnknownReason.TIMED_OUT, f"{where} did not answer within {self._timeout:g} s") from error
        except httpx.TimeoutException as error:
            raise _NoFact(UnknownReason.TIMED_OUT, f"{where} did not answer within {self._timeout:g} s") from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _NoFact(UnknownReason.UNREACHABLE, f"{where} is not reachable: {error}") from error
        if status in (401, 403):
            raise _NoFact(UnknownReason.DENIED, f"{where} answered HTTP {status}")
        if status == 404 and path != "/healthz":
            raise _NoFact(UnknownReason.NOT_IN_VERSION, f"{where} does not exist there (HTTP 404)")
        if status != 200 and not (path == "/healthz" and status in _HEALTH_CODES):
            raise _NoFact(UnknownReason.UNREADABLE, f"{where} answered HTTP {status}")
        answer = read_answer(body, jsz=path == "/jsz")
        if answer is None:
            raise _NoFact(UnknownReason.UNREADABLE, f"{where} answered something that is not a JSON object")
        return Page(*answer)

    def _client(self) -> httpx.AsyncClient:
        if self._http is None:
            # No proxy and no .netrc from the environment: the addresses are inside the cluster.
            self._http = httpx.AsyncClient(timeout=self._timeout, follow_redirects=False, trust_env=False)
        return self._http


async def _bounded(response: httpx.Response, where: str) -> bytearray:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_ANSWER:
            raise _NoFact(UnknownReason.UNREADABLE, f"{where} answered more than {MAX_ANSWER} bytes")
    return body


def _shown(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
