"""The HTTP collector against answers that real servers do not give on request."""

from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import respx

from bot.adapters.nats import monitoring
from bot.adapters.nats.monitoring import MonitoringCollector
from bot.errors import Unreachable
from bot.model import TRENDS, Endpoint, Snapshot, UnknownReason
from tests.rounds import always

URL = "http://n0:8222"
ALL = frozenset(Endpoint) - {Endpoint.STATSZ}
"""STATSZ is not there over HTTP."""


class StoppedClock:
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)

    async def sleep(self, seconds: float) -> None:
        del seconds


@pytest.fixture
async def collector() -> AsyncGenerator[MonitoringCollector]:
    made = MonitoringCollector("lab", [URL], StoppedClock(), 2.0)
    yield made
    await made.aclose()


def serve(router: respx.Router, version: str = "2.11.11", **changes: Any) -> None:
    answers: dict[str, Any] = {
        "varz": {"server_id": "A", "server_name": "n0", "version": version, "cluster": {"name": "lab"}},
        "jsz": {"server_id": "A", "account_details": [{"id": "APP", "name": "APP"}]},
        "healthz": {"status": "ok"},
        "routez": {"server_id": "A", "server_name": "n0", "routes": []},
        "raftz": {"SYS": {"_meta_": {}}},
        "connz": {"server_id": "A", "total": 0, "num_connections": 0, "connections": []},
        "accountz": {"server_id": "A", "accounts": ["APP", "SYS"]},
        "gatewayz": {"server_id": "A"},
        "leafz": {"server_id": "A", "leafnodes": 0},
        "subsz": {"server_id": "A", "total": 0},
        "ipqueuesz": {"JetStream API queue": {"pending": 0, "in_progress": 0}},
    }
    for name, answer in (answers | changes).items():
        response = answer if isinstance(answer, httpx.Response) else httpx.Response(200, json=answer)
        router.get(url__startswith=f"{URL}/{name}").mock(return_value=response)


def reason(snapshot: Snapshot, endpoint: Endpoint) -> UnknownReason | None:
    sample = snapshot.sample("n0", endpoint)
    assert sample is not None
    return sample.unknown.reason if sample.unknown else None


async def test_an_old_server_is_not_asked_for_a_full_health_check(collector: MonitoringCollector) -> None:
    with respx.mock(assert_all_called=False) as router:
        serve(router, version="2.10.24")
        snapshot = await collector.gather(ALL, None)
        asked = {call.request.url.path for call in router.calls}
    assert "/healthz" not in asked
    assert reason(snapshot, Endpoint.HEALTHZ) is UnknownReason.NOT_IN_VERSION
    assert reason(snapshot, Endpoint.JSZ) is None


async def test_an_unhealthy_answer_is_a_fact(collector: MonitoringCollector) -> None:
    with respx.mock as router:
        serve(router, healthz=httpx.Response(503, json={"status": "unavailable", "error": "group node missing"}))
        snapshot = await collector.gather(ALL, None)
    assert snapshot.data("n0", Endpoint.HEALTHZ) == {"status": "unavailable", "error": "group node missing"}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (httpx.Response(401), UnknownReason.DENIED),
        (httpx.Response(404), UnknownReason.NOT_IN_VERSION),
        (httpx.Response(302, headers={"location": "http://169.254.169.254/"}), UnknownReason.UNREADABLE),
        (httpx.Response(200, text="<html>"), UnknownReason.UNREADABLE),
        (httpx.Response(200, json=[1]), UnknownReason.UNREADABLE),
        (httpx.Response(200, json={"server_id": "ANOTHER"}), UnknownReason.UNREADABLE),
    ],
)
async def test_a_bad_answer_is_one_unknown_fact_and_no_redirect_is_followed(
    collector: MonitoringCollector, answer: httpx.Response, expected: UnknownReason
) -> None:
    with respx.mock as router:
        serve(router, routez=answer)
        snapshot = await collector.gather(ALL, None)
        assert {call.request.url.host for call in router.calls} == {"n0"}
    assert reason(snapshot, Endpoint.ROUTEZ) is expected
    assert [s.endpoint for s in snapshot.samples if s.unknown] == [Endpoint.ROUTEZ]


async def test_an_answer_without_end_is_cut_off(
    collector: MonitoringCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monitoring, "MAX_ANSWER", 1000)
    with respx.mock as router:
        serve(router, routez=httpx.Response(200, content=b" " * 2000))
        snapshot = await collector.gather(ALL, None)
    assert reason(snapshot, Endpoint.ROUTEZ) is UnknownReason.UNREADABLE


async def test_raft_groups_stay_unknown_where_the_accounts_are(collector: MonitoringCollector) -> None:
    with respx.mock as router:
        serve(router, jsz=httpx.Response(500))
        snapshot = await collector.gather(ALL, None)
    assert reason(snapshot, Endpoint.JSZ) is UnknownReason.UNREADABLE
    assert reason(snapshot, Endpoint.RAFTZ) is UnknownReason.UNREADABLE


async def test_nobody_there_is_unreachable_and_names_the_address(collector: MonitoringCollector) -> None:
    with respx.mock as router:
        router.get(url__startswith=URL).mock(side_effect=httpx.ConnectError("refused"))
        with pytest.raises(Unreachable, match=r"http://n0:8222/varz"):
            await collector.gather(ALL, None)


async def test_pages_are_followed_until_one_is_not_full() -> None:
    collector = MonitoringCollector("lab", [URL], StoppedClock(), 2.0, page=2)

    def page(request: httpx.Request) -> httpx.Response:
        offset = int(request.url.params["offset"])
        details = [{"id": f"A{n}", "name": f"A{n}"} for n in range(5)][offset : offset + 2]
        return httpx.Response(200, json={"server_id": "A", "account_details": details})

    with respx.mock(assert_all_called=False) as router:
        serve(router)
        router.get(url__startswith=f"{URL}/jsz").mock(side_effect=page)
        snapshot = await collector.gather(ALL, None)
    await collector.aclose()
    jsz, raftz = snapshot.sample("n0", Endpoint.JSZ), snapshot.data("n0", Endpoint.RAFTZ)
    assert jsz is not None
    assert jsz.answer is not None
    assert raftz is not None
    assert [a["id"] for a in jsz.answer["account_details"]] == ["A0", "A1", "A2", "A3", "A4"]
    assert set(raftz) == {"SYS", "A0", "A1", "A2", "A3", "A4"}


def connections(request: httpx.Request) -> httpx.Response:
    assert request.url.params["sort"] == "cid"
    assert request.url.params["auth"] == "1"
    offset, limit = int(request.url.params["offset"]), int(request.url.params["limit"])
    page = [{"cid": cid} for cid in range(1, 6)][offset : offset + limit]
    return httpx.Response(200, json={"server_id": "A", "total": 5, "num_connections": len(page), "connections": page})


async def test_all_pages_of_connections_are_read() -> None:
    collector = MonitoringCollector("lab", [URL], StoppedClock(), 2.0, page=2)
    with respx.mock as router:
        serve(router, connz=httpx.Response(500))
        router.get(url__startswith=f"{URL}/connz").mock(side_effect=connections)
        snapshot = await collector.gather(ALL, None)
    await collector.aclose()
    connz = snapshot.data("n0", Endpoint.CONNZ)
    assert connz is not None
    assert [c["cid"] for c in connz["connections"]] == [1, 2, 3, 4, 5]
    assert connz["num_connections"] == 5
    assert snapshot.unknown == ()


async def test_reading_ends_at_the_cap_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitoring, "MAX_PAGES", 2)
    collector = MonitoringCollector("lab", [URL], StoppedClock(), 2.0, page=2)
    with respx.mock(assert_all_called=False) as router:
        serve(router)
        router.get(url__startswith=f"{URL}/connz").mock(side_effect=connections)
        snapshot = await collector.gather(frozenset({Endpoint.CONNZ}), None)
    await collector.aclose()
    connz = snapshot.data("n0", Endpoint.CONNZ)
    assert connz is not None
    assert len(connz["connections"]) == 4
    assert [u.detail for u in snapshot.unknown] == ["n0 has more connections in CONNZ than the 4 that were read"]


async def test_statsz_is_unknown_without_a_system_user(collector: MonitoringCollector) -> None:
    with respx.mock(assert_all_called=False) as router:
        serve(router)
        snapshot = await collector.gather(frozenset({Endpoint.STATSZ, Endpoint.LEAFZ}), always(2))
    assert reason(snapshot, Endpoint.STATSZ) is UnknownReason.NOT_CONFIGURED
    assert reason(snapshot, Endpoint.LEAFZ) is None
    assert snapshot.sample("n0", Endpoint.STATSZ, 1) is not None


async def test_queues_that_a_version_does_not_show_are_not_in_the_version(collector: MonitoringCollector) -> None:
    with respx.mock(assert_all_called=False) as router:
        serve(router, ipqueuesz=httpx.Response(404))
        snapshot = await collector.gather(ALL, None)
    assert reason(snapshot, Endpoint.IPQUEUESZ) is UnknownReason.NOT_IN_VERSION


async def test_later_rounds_read_again_what_moves_and_nothing_else(collector: MonitoringCollector) -> None:
    with respx.mock as router:
        serve(router)
        snapshot = await collector.gather(ALL, always(3))
        asked = [call.request.url.path for call in router.calls]
    assert snapshot.rounds == 3
    assert [s for s in snapshot.samples if s.unknown] == []
    for endpoint in ALL:
        assert (snapshot.data("n0", endpoint, 2) is not None) == (endpoint in TRENDS)
    assert {path: asked.count(path) for path in sorted(set(asked))} == {
        "/accountz": 1,
        "/connz": 1,
        "/gatewayz": 1,
        "/healthz": 1,
        "/ipqueuesz": 3,
        "/jsz": 3,
        "/leafz": 1,
        "/raftz": 3 * 2,
        "/routez": 1,
        "/subsz": 1,
        "/varz": 3,
    }
