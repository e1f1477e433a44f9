"""The system-account collector against servers that are old, deny one question, answer late, or hold many accounts."""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from bot.adapters.nats.collector import SystemCollector
from bot.adapters.nats.connection import Connection, RequestFailed, Why
from bot.errors import ReadDenied, Unreachable
from bot.model import Endpoint, Snapshot, UnknownReason

ALL = frozenset(Endpoint)
Deliver = Callable[[str, Any], Awaitable[None]]


class StoppedClock:
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    async def sleep(self, seconds: float) -> None:
        del seconds


@dataclass
class Server:
    """One scripted server; `silent_on` lists endpoints it answers only when asked by its id, `deaf_on` those it never answers."""

    name: str
    version: str = "2.11.11"
    accounts: tuple[str, ...] = ("APP",)
    silent_on: frozenset[str] = frozenset()
    deaf_on: frozenset[str] = frozenset()

    def reply(self, endpoint: str, body: dict[str, Any], peers: list[str]) -> bytes:
        header = {"name": self.name, "id": f"ID{self.name}", "ver": self.version, "cluster": "lab", "host": "h"}
        if endpoint == "PING":
            routes = [{"name": peer} for peer in peers if peer != self.name]
            return json.dumps({"server": header, "statsz": {"active_servers": len(peers), "routes": routes}}).encode()
        data: dict[str, Any] = {}
        if endpoint == "JSZ":
            page = self.accounts[body["offset"] : body["offset"] + body["limit"]]
            data = {"account_details": [{"id": f"A{name}", "name": name} for name in page]}
        elif endpoint == "RAFTZ":
            account = body.get("account")
            data = {account: {f"S-{account}": {}}} if account else {"SYS": {"_meta_": {}}}
        return json.dumps({"server": header, "data": data}).encode()


@dataclass
class Cluster:
    """A stand-in for a connection to these servers. `denied` are endpoints the user may not ask; `peers` is who the routes name."""

    servers: list[Server]
    denied: frozenset[str] = frozenset()
    peers: list[str] | None = None
    lost_once: bool = False
    timeout: float = 0.4
    asked: list[str] = field(default_factory=list[str])

    @asynccontextmanager
    async def inbox(self, deliver: Deliver) -> AsyncGenerator["Inbox"]:
        yield Inbox(self, deliver)

    async def collect(self, page: int = 1024, rounds: int = 1) -> Snapshot:
        return await SystemCollector("lab", cast("Connection", self), StoppedClock(), page).gather(ALL, rounds, 0.0)


class Inbox:
    def __init__(self, cluster: Cluster, deliver: Deliver) -> None:
        self._cluster = cluster
        self._deliver = deliver

    @asynccontextmanager
    async def asking(self, subject: str, payload: bytes, token: str) -> AsyncGenerator[asyncio.Future[RequestFailed]]:
        doom: asyncio.Future[RequestFailed] = asyncio.get_running_loop().create_future()
        cluster = self._cluster
        cluster.asked.append(subject)
        who, _, endpoint = subject.removeprefix("$SYS.REQ.SERVER.").partition(".")
        if cluster.lost_once and endpoint:
            cluster.lost_once = False
            doom.set_result(RequestFailed(Why.LOST, "the connection was lost"))
        elif (endpoint or who) in cluster.denied:
            doom.set_result(RequestFailed(Why.DENIED, f"may not publish to {subject}"))
        else:
            asyncio.get_running_loop().call_soon(
                self._answer, who, endpoint or "PING", json.loads(payload or b"{}"), token
            )
        yield doom

    def _answer(self, who: str, endpoint: str, body: dict[str, Any], token: str) -> None:
        cluster = self._cluster
        peers = cluster.peers or [server.name for server in cluster.servers]
        for server in cluster.servers:
            heard = endpoint not in server.silent_on if who == "PING" else who == f"ID{server.name}"
            if heard and endpoint not in server.deaf_on:
                message = SimpleNamespace(data=server.reply(endpoint, body, peers), headers=None)
                tasks.append(asyncio.ensure_future(self._deliver(token, message)))


tasks: list[asyncio.Future[None]] = []


def unknown(snapshot: Snapshot) -> dict[tuple[str, Endpoint], UnknownReason]:
    return {(s.server, s.endpoint): s.unknown.reason for s in snapshot.samples if s.unknown}


async def test_one_denied_question_is_unknown_with_its_reason_and_the_rest_is_known() -> None:
    cluster = Cluster([Server("n0"), Server("n1")], denied=frozenset({"RAFTZ"}))
    snapshot = await cluster.collect()
    assert unknown(snapshot) == {(n, Endpoint.RAFTZ): UnknownReason.DENIED for n in ("n0", "n1")}


async def test_a_denied_discovery_is_a_denial() -> None:
    with pytest.raises(ReadDenied, match="may not publish"):
        await Cluster([Server("n0")], denied=frozenset({"PING"})).collect()


async def test_nobody_answering_is_unreachable() -> None:
    with pytest.raises(Unreachable):
        await Cluster([]).collect()


async def test_a_server_that_missed_the_broadcast_is_asked_by_its_id() -> None:
    cluster = Cluster([Server("n0"), Server("n1", silent_on=frozenset({"JSZ"}))])
    snapshot = await cluster.collect()
    assert unknown(snapshot) == {}
    assert cluster.asked.count("$SYS.REQ.SERVER.IDn1.JSZ") == 1
    assert "$SYS.REQ.SERVER.IDn0.JSZ" not in cluster.asked


async def test_a_server_that_never_answers_a_question_has_timed_out_on_it() -> None:
    cluster = Cluster([Server("n0"), Server("n1", deaf_on=frozenset({"HEALTHZ"}))])
    assert unknown(await cluster.collect()) == {("n1", Endpoint.HEALTHZ): UnknownReason.TIMED_OUT}


async def test_raft_groups_are_unknown_as_a_whole_where_jsz_is() -> None:
    cluster = Cluster([Server("n0"), Server("n1", deaf_on=frozenset({"RAFTZ"}))])
    snapshot = await cluster.collect()
    assert unknown(snapshot) == {("n1", Endpoint.RAFTZ): UnknownReason.TIMED_OUT}
    nobody = await Cluster([Server("n0", deaf_on=frozenset({"JSZ"}))]).collect()
    assert unknown(nobody) == {
        ("n0", Endpoint.JSZ): UnknownReason.TIMED_OUT,
        ("n0", Endpoint.RAFTZ): UnknownReason.TIMED_OUT,
    }


async def test_an_old_server_gets_no_full_health_check_while_the_others_do() -> None:
    cluster = Cluster([Server("n0", version="2.10.24"), Server("n1")])
    snapshot = await cluster.collect()
    assert unknown(snapshot) == {
        ("n0", Endpoint.HEALTHZ): UnknownReason.NOT_IN_VERSION,
        ("n0", Endpoint.RAFTZ): UnknownReason.NOT_IN_VERSION,
    }
    assert "$SYS.REQ.SERVER.PING.HEALTHZ" not in cluster.asked
    assert [s for s in cluster.asked if s.endswith("HEALTHZ")] == ["$SYS.REQ.SERVER.IDn1.HEALTHZ"]


async def test_accounts_beyond_the_first_page_are_read_also_from_servers_with_fewer() -> None:
    names = tuple(f"T{n}" for n in range(5))
    cluster = Cluster([Server("n0", accounts=names), Server("n1", accounts=names[:1])])
    snapshot = await cluster.collect(page=2, rounds=2)
    assert unknown(snapshot) == {}
    for round_ in (0, 1):
        jsz = snapshot.data("n0", Endpoint.JSZ, round_)
        assert jsz is not None
        assert [a["name"] for a in jsz["account_details"]] == list(names)
    raftz = snapshot.data("n1", Endpoint.RAFTZ)
    assert raftz is not None
    assert set(raftz) == {"SYS", *names}


async def test_a_server_that_only_routes_name_is_expected_and_unreachable() -> None:
    snapshot = await Cluster([Server("n0")], peers=["n0", "n9"]).collect()
    assert snapshot.expected == {"n0", "n9"}
    assert unknown(snapshot) == {("n9", endpoint): UnknownReason.UNREACHABLE for endpoint in ALL}


async def test_a_connection_lost_in_the_middle_is_replaced_and_the_pass_repeated() -> None:
    snapshot = await Cluster([Server("n0")], lost_once=True).collect()
    assert unknown(snapshot) == {}


async def test_two_servers_with_one_name_are_told() -> None:
    one, other = Server("n0"), Server("n0")
    other.reply = lambda endpoint, body, peers: Server.reply(other, endpoint, body, peers).replace(b"IDn0", b"IDx")  # pyright: ignore[reportAttributeAccessIssue]
    snapshot = await Cluster([one, other], peers=["n0"]).collect()
    assert ["two servers call themselves n0" in u.detail for u in snapshot.unknown] == [True]
