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

from bot.adapters.nats import collector
from bot.adapters.nats.collector import SystemCollector
from bot.adapters.nats.connection import Connection, RequestFailed, Why
from bot.errors import ReadDenied, Unreachable
from bot.model import TRENDS, Endpoint, Snapshot, UnknownReason
from tests.rounds import always

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
    clients: int = 1
    silent_on: frozenset[str] = frozenset()
    deaf_on: frozenset[str] = frozenset()

    applied: int = 0
    """Raft index that moves with every RAFTZ answer."""

    def reply(self, endpoint: str, body: dict[str, Any], peers: list[str]) -> bytes:
        header = {"name": self.name, "id": f"ID{self.name}", "ver": self.version, "cluster": "lab", "host": "h"}
        if endpoint in {"PING", "STATSZ"}:
            routes = [{"name": peer} for peer in peers if peer != self.name]
            return json.dumps({"server": header, "statsz": {"active_servers": len(peers), "routes": routes}}).encode()
        data: dict[str, Any] = {}
        if endpoint == "JSZ":
            page = self.accounts[body["offset"] : body["offset"] + body["limit"]]
            data = {"account_details": [{"id": f"A{name}", "name": name} for name in page]}
        elif endpoint == "RAFTZ":
            account = body.get("account")
            self.applied += 1
            data = {account: {f"S-{account}": {"applied": self.applied}}} if account else {"SYS": {"_meta_": {}}}
        elif endpoint == "CONNZ":
            assert body["sort"] == "cid"
            assert body["auth"] is True
            cids = range(1, self.clients + 1)[body["offset"] : body["offset"] + body["limit"]]
            data = {"total": self.clients, "num_connections": len(cids), "connections": [{"cid": cid} for cid in cids]}
        elif endpoint == "IPQUEUESZ":
            assert body == {"all": False}
            data = {"JetStream API queue": {"pending": 0, "in_progress": 0}}
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

    async def collect(
        self, page: int = 1024, rounds: int = 1, needs: frozenset[Endpoint] = frozenset(Endpoint)
    ) -> Snapshot:
        return await SystemCollector("lab", cast("Connection", self), StoppedClock(), page).gather(
            needs, always(rounds)
        )

    def times(self, endpoint: str) -> int:
        return sum(subject.endswith(f".{endpoint}") for subject in self.asked)


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
    cluster = Cluster([Server("n0", version="2.10.24", deaf_on=frozenset({"IPQUEUESZ"})), Server("n1")])
    snapshot = await cluster.collect()
    assert unknown(snapshot) == {
        ("n0", Endpoint.HEALTHZ): UnknownReason.NOT_IN_VERSION,
        ("n0", Endpoint.RAFTZ): UnknownReason.NOT_IN_VERSION,
        ("n0", Endpoint.IPQUEUESZ): UnknownReason.NOT_IN_VERSION,
    }
    assert "$SYS.REQ.SERVER.PING.HEALTHZ" not in cluster.asked
    assert [s for s in cluster.asked if s.endswith("HEALTHZ")] == ["$SYS.REQ.SERVER.IDn1.HEALTHZ"]


async def test_accounts_beyond_the_first_page_are_read_also_from_servers_with_fewer() -> None:
    names = tuple(f"T{n}" for n in range(5))
    cluster = Cluster([Server("n0", accounts=names), Server("n1", accounts=names[:1])])
    snapshot = await cluster.collect(page=2, rounds=2)
    assert unknown(snapshot) == {}
    for round_ in (0, 1):
        jsz = snapshot.sample("n0", Endpoint.JSZ, round_)
        assert jsz is not None
        assert jsz.answer is not None
        assert [a["name"] for a in jsz.answer["account_details"]] == list(names)
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


async def test_all_pages_of_connections_are_read_and_only_from_servers_that_have_more() -> None:
    cluster = Cluster([Server("n0", clients=5), Server("n1", clients=1)])
    snapshot = await cluster.collect(page=2)
    assert unknown(snapshot) == {}
    connz = snapshot.data("n0", Endpoint.CONNZ)
    assert connz is not None
    assert [c["cid"] for c in connz["connections"]] == [1, 2, 3, 4, 5]
    assert connz["num_connections"] == connz["total"] == 5
    asked = [subject for subject in cluster.asked if subject.endswith("CONNZ")]
    assert asked == ["$SYS.REQ.SERVER.PING.CONNZ", *["$SYS.REQ.SERVER.IDn0.CONNZ"] * 2]


async def test_reading_ends_at_the_cap_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "MAX_PAGES", 2)
    snapshot = await Cluster([Server("n0", clients=5), Server("n1", clients=3)]).collect(page=2)
    assert unknown(snapshot) == {}
    connz = snapshot.data("n0", Endpoint.CONNZ)
    assert connz is not None
    assert len(connz["connections"]) == 4
    assert [u.detail for u in snapshot.unknown] == ["n0 has more connections in CONNZ than the 4 that were read"]


async def test_connections_without_a_later_page_are_unknown_as_a_whole() -> None:
    server = Server("n0", clients=3)
    whole = server.reply
    server.reply = lambda endpoint, body, peers: b"{}" if body.get("offset") else whole(endpoint, body, peers)  # pyright: ignore[reportAttributeAccessIssue]
    snapshot = await Cluster([server]).collect(page=2, needs=frozenset({Endpoint.CONNZ}))
    assert unknown(snapshot) == {("n0", Endpoint.CONNZ): UnknownReason.UNREADABLE}


async def test_later_rounds_read_again_what_moves_and_nothing_else() -> None:
    cluster = Cluster([Server("n0"), Server("n1")])
    snapshot = await cluster.collect(rounds=3)
    assert snapshot.rounds == 3
    assert unknown(snapshot) == {}
    moved = [snapshot.data("n0", Endpoint.RAFTZ, n) for n in range(3)]
    indexes = [raftz["APP"]["S-AAPP"]["applied"] for raftz in moved if raftz]
    assert indexes == sorted(set(indexes))
    assert len(indexes) == 3
    for endpoint in Endpoint:
        assert (snapshot.data("n0", endpoint, 2) is not None) == (endpoint in TRENDS)
    for endpoint in ALL - TRENDS:
        assert cluster.times(endpoint) == 1
    assert [cluster.times(e) for e in ("VARZ", "JSZ", "IPQUEUESZ")] == [3, 3, 3]
    assert cluster.times("RAFTZ") == 3 * 2
    # Discovery answers the first STATSZ.
    assert cluster.times("STATSZ") == 2


async def test_a_trend_of_raft_groups_reads_the_accounts_once() -> None:
    cluster = Cluster([Server("n0")])
    snapshot = await cluster.collect(rounds=3, needs=frozenset({Endpoint.RAFTZ}))
    assert cluster.times("JSZ") == 1
    assert (snapshot.readings(Endpoint.RAFTZ), snapshot.rounds) == (3, 0)
    assert snapshot.sample("n0", Endpoint.JSZ) is None


async def test_what_a_version_lacks_is_unknown_in_every_round() -> None:
    cluster = Cluster([Server("n0", version="2.10.25")])
    snapshot = await cluster.collect(rounds=2)
    assert cluster.times("IPQUEUESZ") == cluster.times("RAFTZ") == 0
    for round_ in (0, 1):
        for endpoint in (Endpoint.RAFTZ, Endpoint.IPQUEUESZ):
            sample = snapshot.sample("n0", endpoint, round_)
            assert sample is not None
            assert sample.unknown is not None
            assert sample.unknown.reason is UnknownReason.NOT_IN_VERSION


async def test_what_nobody_needs_is_not_asked() -> None:
    cluster = Cluster([Server("n0")])
    await cluster.collect(needs=frozenset({Endpoint.LEAFZ, Endpoint.STATSZ}))
    assert cluster.asked == ["$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.LEAFZ"]
