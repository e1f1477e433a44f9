"""Takes a snapshot over the system account: first who is there, then every endpoint of every server at once.

A healthy cluster answers in milliseconds, so the pass ends when everybody who is there has answered. A server that others still have a route to but
that says nothing (frozen) is waited for half the time-out, one that nobody has a route to (dead) `QUIET` seconds at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Final

from bot.adapters.nats.api import read_error
from bot.adapters.nats.assemble import Judge, Taken
from bot.adapters.nats.connection import Connection, RequestFailed, Why
from bot.adapters.nats.facts import (
    ACCOUNT_DETAILS,
    HEALTHZ_ONLY_READS,
    IPQUEUESZ_OVER_SYS,
    MAX_ACCOUNTS,
    MAX_PAGES,
    OPTIONS,
    PAGE,
    PAGED,
    RAFTZ_OVER_SYS,
    Page,
    account_detail,
    accounts_in,
    cut_off,
    cut_off_accounts,
    linked,
    merge_pages,
    merge_raftz,
    page_is_full,
    signed_accounts,
    version_of,
)
from bot.adapters.nats.scatter import Question, Scatter, open_scatter
from bot.errors import ReadDenied, Unreachable
from bot.model import Endpoint, JsonObject, Sample, Snapshot, Unknown, UnknownReason
from bot.ports import Clock

VIA: Final = "system account"

QUIET: Final = 0.75
"""Seconds without a new answer after which discovery ends although `active_servers` counts more: for 150 s after a server's death the others still
count it (nats-server orphan time), and a round trip between continents takes under 0.3 s."""

SILENCE_SHARE: Final = 0.5
"""Share of the time-out that discovery waits for a server which others have a route to."""

ACCOUNTS_AT_ONCE: Final = 16
"""RAFTZ questions under way at once, one per account, so that many accounts do not flood the servers."""

_PLAIN: Final = frozenset(
    {Endpoint.VARZ, Endpoint.ROUTEZ, Endpoint.STATSZ, Endpoint.GATEWAYZ, Endpoint.LEAFZ, Endpoint.SUBSZ}
)
"""Endpoints that every version answers, whole and at once."""

Accounts = dict[str, str] | Unknown
"""JetStream accounts by id with their names, or why they are not known."""


class SystemCollector:
    """Reads all servers of a cluster through one user of the system account."""

    def __init__(self, cluster: str, connection: Connection, clock: Clock, page: int = PAGE) -> None:
        self._cluster = cluster
        self._connection = connection
        self._clock = clock
        self._page = page

    async def gather(self, needs: frozenset[Endpoint], judge: Judge | None) -> Snapshot:
        """Take one snapshot. Raises `ReadDenied` or `Unreachable` where no server could be asked."""
        try:
            try:
                return await self._once(needs, judge)
            except RequestFailed as failed:
                if failed.why is not Why.LOST:
                    raise
                # The server we talked to went away in the middle; reading once more through another one harms nobody.
                return await self._once(needs, judge)
        except RequestFailed as failed:
            raise read_error(failed) from failed

    async def _once(self, needs: frozenset[Endpoint], judge: Judge | None) -> Snapshot:
        async with open_scatter(self._connection, self._clock) as scatter:
            taken = Taken(self._cluster, VIA, self._clock.now(), needs)
            return await _Pass(scatter, self._clock, self._connection.timeout, self._page, taken).run(judge)


class _Pass:
    """One pass: the servers that discovery found, and what they said."""

    def __init__(self, scatter: Scatter, clock: Clock, timeout: float, page: int, taken: Taken) -> None:
        self._scatter = scatter
        self._clock = clock
        self._timeout = timeout
        self._page = page
        self._taken = taken
        self._ids: dict[str, str] = {}
        self._discovery: Question | None = None
        self._accounts: asyncio.Task[Accounts] | None = None
        self._deadline = asyncio.get_running_loop().time() + timeout

    async def run(self, judge: Judge | None) -> Snapshot:
        await self._discover()
        await self._round(0)
        if self._discovery is not None and Endpoint.STATSZ in self._taken.needs:
            # Discovery's own answers are STATSZ answers.
            self._taken.add(self._samples(Endpoint.STATSZ, self._discovery, self._ids))
        snapshot = self._finish()
        for round_ in await self._taken.look_again(judge, snapshot):
            await self._clock.sleep(self._taken.again.interval)
            self._deadline = asyncio.get_running_loop().time() + self._timeout
            await self._round(round_)
            snapshot = self._finish()
        return snapshot

    async def _round(self, round_: int) -> None:
        """Ask everything that belongs to this round at once. The accounts that the first round found serve the later ones."""
        needs = self._taken.needs if round_ == 0 else self._taken.again.endpoints
        plain = needs & _PLAIN - ({Endpoint.STATSZ} if round_ == 0 else set())
        try:
            async with asyncio.TaskGroup() as tasks:
                # JSZ is asked first: it is the longest answer, and the first RAFTZ waits for its accounts.
                if Endpoint.JSZ in needs or (Endpoint.RAFTZ in needs and self._accounts is None):
                    jsz = tasks.create_task(self._jsz(round_))
                    self._accounts = self._accounts or jsz
                for endpoint in plain:
                    tasks.create_task(self._plain(endpoint, self._ids, round_))
                if Endpoint.HEALTHZ in needs:
                    tasks.create_task(self._healthz())
                if Endpoint.ACCOUNTZ in needs:
                    tasks.create_task(self._accountz())
                if Endpoint.CONNZ in needs:
                    tasks.create_task(self._pages(Endpoint.CONNZ, round_))
                if Endpoint.IPQUEUESZ in needs:
                    tasks.create_task(self._ipqueuesz(round_))
                if Endpoint.RAFTZ in needs and self._accounts is not None:
                    tasks.create_task(self._raftz(self._accounts, round_))
        except ExceptionGroup as failures:
            raise failures.exceptions[0] from failures

    async def _discover(self) -> None:
        async with self._scatter.asking("$SYS.REQ.SERVER.PING", {}) as question:
            until = asyncio.get_running_loop().time() + self._timeout * SILENCE_SHARE
            while not self._everybody_is_here(question):
                all_linked = question.answers and self._linked(question) <= question.answers.keys()
                if not await question.next(min(until, question.changed_at + QUIET) if all_linked else until):
                    break
            self._accept(question)

    def _accept(self, question: Question) -> None:
        if question.failure is not None:
            raise question.failure
        if question.refused is not None and not question.answers:
            if question.refused.reason is UnknownReason.DENIED:
                raise ReadDenied(f"The system credential is not enough: {question.refused.detail}.")
            raise Unreachable("No server answers $SYS.REQ.SERVER.PING: the `system` user is not in the system account.")
        if not question.answers:
            raise Unreachable(f"No server answered $SYS.REQ.SERVER.PING within {self._timeout * SILENCE_SHARE:g} s.")
        self._discovery = question
        self._ids = {name: answer.identity.id for name, answer in question.answers.items()}
        self._taken.named |= self._linked(question)

    def _everybody_is_here(self, question: Question) -> bool:
        if question.failure is not None or question.refused is not None:
            return True
        active = max((_active(a.data) for a in question.answers.values() if a.data), default=1)
        return len(question.answers) >= active and self._linked(question) <= question.answers.keys()

    @staticmethod
    def _linked(question: Question) -> frozenset[str]:
        return frozenset[str]().union(*(linked(a.data) for a in question.answers.values() if a.data))

    def _patience(self) -> float:
        """Seconds left of the pass, never less than a quarter of the time-out."""
        return max(self._deadline - asyncio.get_running_loop().time(), self._timeout / 4)

    async def _plain(
        self, endpoint: Endpoint, wanted: Mapping[str, str], round_: int = 0, *, ask_all: bool = True
    ) -> None:
        question = await self._scatter.collect(endpoint, OPTIONS[endpoint], wanted, self._patience(), ask_all=ask_all)
        self._taken.add(self._samples(endpoint, question, wanted, round_))

    def _samples(
        self, endpoint: Endpoint, question: Question, wanted: Collection[str], round_: int = 0
    ) -> list[Sample]:
        """Every answer as a sample, and an unknown for each wanted server that did not answer."""
        now = self._clock.now()
        samples = [
            Sample(name, endpoint, answer.taken_at, answer.data, answer.problem, round_, answer.assets)
            for name, answer in question.answers.items()
        ]
        silent = [name for name in wanted if name not in question.answers]
        return samples + [Sample(name, endpoint, now, unknown=question.why_not(name), round=round_) for name in silent]

    def _too_old(self, servers: Sequence[str], endpoint: Endpoint, why: str, round_: int = 0) -> None:
        for name in servers:
            version = self._scatter.identities[name].version
            unknown = Unknown(reason=UnknownReason.NOT_IN_VERSION, detail=f"{name} runs {version}: {why}")
            self._taken.add([Sample(name, endpoint, self._clock.now(), unknown=unknown, round=round_)])

    def _older_than(self, version: tuple[int, int, int]) -> list[str]:
        return [name for name in self._ids if version_of(self._scatter.identities[name].version) < version]

    async def _healthz(self) -> None:
        unsafe = self._older_than(HEALTHZ_ONLY_READS)
        self._too_old(unsafe, Endpoint.HEALTHZ, "its full health check can restart Raft nodes, so it is not called")
        wanted = {name: id_ for name, id_ in self._ids.items() if name not in unsafe}
        if wanted:
            await self._plain(Endpoint.HEALTHZ, wanted, ask_all=not unsafe)

    async def _accountz(self) -> None:
        """Read which accounts there are, and what each server says of those that an operator signed: only these have limits of their own."""
        question = await self._scatter.collect(
            Endpoint.ACCOUNTZ, OPTIONS[Endpoint.ACCOUNTZ], self._ids, self._patience()
        )
        wanted: dict[str, dict[str, str]] = {}
        for server, answer in question.answers.items():
            accounts = signed_accounts(answer.data or {})
            if len(accounts) > MAX_ACCOUNTS:
                self._taken.unknown.append(cut_off_accounts(server, len(accounts)))
            for account in accounts[:MAX_ACCOUNTS]:
                wanted.setdefault(account, {})[server] = answer.identity.id
        gate = asyncio.Semaphore(ACCOUNTS_AT_ONCE)
        details: dict[str, list[JsonObject]] = {server: [] for servers in wanted.values() for server in servers}

        async def ask(account: str, servers: Mapping[str, str]) -> None:
            async with gate:
                found = await self._scatter.collect(Endpoint.ACCOUNTZ, {"account": account}, servers, self._patience())
            for server in servers:
                if (answer := found.answers.get(server)) is not None and answer.data is not None:
                    details[server].append(account_detail(answer.data))

        await asyncio.gather(*(ask(account, servers) for account, servers in wanted.items()))
        for sample in self._samples(Endpoint.ACCOUNTZ, question, self._ids):
            more = {ACCOUNT_DETAILS: details[sample.server]} if sample.server in details else {}
            self._taken.add([replace(sample, data={**sample.data, **more}) if sample.data is not None else sample])

    async def _ipqueuesz(self, round_: int) -> None:
        old = self._older_than(IPQUEUESZ_OVER_SYS)
        self._too_old(old, Endpoint.IPQUEUESZ, "IPQUEUESZ exists over the system account from 2.10.26", round_)
        wanted = {name: id_ for name, id_ in self._ids.items() if name not in old}
        if wanted:
            await self._plain(Endpoint.IPQUEUESZ, wanted, round_)

    async def _jsz(self, round_: int) -> Accounts:
        """Read JSZ and return the JetStream accounts it names."""
        merged = await self._pages(Endpoint.JSZ, round_)
        if isinstance(merged, Unknown):
            return merged
        return {id_: name for page in merged.values() for id_, name in accounts_in(page.assets).items()}

    async def _pages(self, endpoint: Endpoint, round_: int) -> dict[str, Page] | Unknown:
        """Read all pages of every server; return them merged, by server, or why there are none."""
        paged = PAGED[endpoint]
        pages: dict[str, list[Page]] = {}
        asked: Mapping[str, str] = self._ids
        first: Question | None = None
        failed: dict[str, Unknown] = {}
        while asked:
            read = max(map(len, pages.values()), default=0)
            if read == MAX_PAGES:
                self._taken.unknown.extend(cut_off(n, endpoint, paged, read * self._page) for n in sorted(asked))
                break
            options = OPTIONS[endpoint] | {"limit": self._page, "offset": self._page * read}
            question = await self._scatter.collect(endpoint, options, asked, self._patience(), ask_all=first is None)
            first = first or question
            for name in asked if first is not question else {**self._ids, **dict.fromkeys(question.answers, "")}:
                answer = question.answers.get(name)
                if answer is not None and answer.data is not None:
                    pages.setdefault(name, []).append(Page(answer.data, answer.assets))
                else:
                    failed[name] = (answer.problem if answer else None) or question.why_not(name)
            asked = {
                n: self._ids[n] for n in asked if n not in failed and page_is_full(pages[n][-1], paged, self._page)
            }
        now = self._clock.now()
        merged = {name: merge_pages(found, paged) for name, found in pages.items() if name not in failed}
        if endpoint in self._taken.needs:
            # All pages of a server count as taken when its first one was.
            at: dict[str, datetime] = {n: a.taken_at for n, a in first.answers.items()} if first else {}
            self._taken.add(
                Sample(n, endpoint, at.get(n, now), page.data, None, round_, page.assets) for n, page in merged.items()
            )
            self._taken.add(Sample(n, endpoint, now, unknown=why, round=round_) for n, why in failed.items())
        if not merged and failed:
            return next(iter(failed.values()))
        return merged

    async def _raftz(self, accounts: asyncio.Task[Accounts], round_: int) -> None:
        """Read RAFTZ of the system account and of every JetStream account. A server's answer counts only if it is complete: an account that is
        missing from it would look like an account without Raft groups.
        """
        old = self._older_than(RAFTZ_OVER_SYS)
        self._too_old(old, Endpoint.RAFTZ, "RAFTZ exists over the system account from 2.10.26", round_)
        wanted = {name: id_ for name, id_ in self._ids.items() if name not in old}
        if not wanted:
            return
        base = await self._scatter.collect(Endpoint.RAFTZ, {}, wanted, self._patience())
        names = await accounts
        if isinstance(names, Unknown):
            why = Unknown(reason=names.reason, detail=f"the accounts to ask for are not known: {names.detail}")
            self._taken.add(Sample(n, Endpoint.RAFTZ, self._clock.now(), unknown=why, round=round_) for n in wanted)
            return
        gate = asyncio.Semaphore(ACCOUNTS_AT_ONCE)

        async def ask(account: str) -> tuple[str, Question]:
            async with gate:
                return account, await self._scatter.collect(
                    Endpoint.RAFTZ, {"account": account}, wanted, self._patience()
                )

        per_account = dict(await asyncio.gather(*(ask(account) for account in names))) if base.answers else {}
        self._taken.add(self._raftz_sample(name, base, per_account, names, round_) for name in wanted)

    def _raftz_sample(
        self, server: str, base: Question, per_account: Mapping[str, Question], names: Mapping[str, str], round_: int
    ) -> Sample:
        data: dict[str, JsonObject] = {}
        for account, question in (("", base), *per_account.items()):
            answer = question.answers.get(server)
            if answer is None or answer.data is None:
                why = (answer.problem if answer else None) or question.why_not(server)
                return Sample(server, Endpoint.RAFTZ, self._clock.now(), unknown=why, round=round_)
            data[account] = answer.data
        merged = merge_raftz(data.pop(""), data, names)
        return Sample(server, Endpoint.RAFTZ, base.answers[server].taken_at, data=merged, round=round_)

    def _finish(self) -> Snapshot:
        taken = self._taken
        taken.identities = dict(self._scatter.identities)
        for name in sorted(self._scatter.namesakes):
            detail = f"two servers call themselves {name}; the facts of one hide those of the other"
            if (unknown := Unknown(reason=UnknownReason.UNREADABLE, detail=detail)) not in taken.unknown:
                taken.unknown.append(unknown)
        silence = f"it answered no question, discovery waited {self._timeout * SILENCE_SHARE:g} s at most"
        return taken.snapshot(Unknown(reason=UnknownReason.UNREACHABLE, detail=silence))


def _active(statsz: JsonObject) -> int:
    active = statsz.get("active_servers")
    return active if isinstance(active, int) else 1
